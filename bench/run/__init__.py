"""Computing it: jobs, workers, and the store of their results."""
