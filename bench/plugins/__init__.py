"""What a plug-in is, and where it is found."""
