"""What holds: of each published number, of the order of the methods in a column, and of each of the paper's claims."""
