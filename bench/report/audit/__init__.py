"""What the appendix leaves open, weighed by stored trials, and what in its own numbers does not fit together."""
