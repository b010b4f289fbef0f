"""From a declared source to a table on disk."""
