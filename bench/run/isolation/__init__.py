"""Worker processes: jobs run apart from the command that asked for them."""
