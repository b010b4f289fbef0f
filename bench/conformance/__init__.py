"""The checks that every plug-in inherits."""
