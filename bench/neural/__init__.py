"""What the neural methods share: banks of networks, likelihood heads, latent variables, the training loop."""
