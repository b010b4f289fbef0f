"""What data is: attributes, tables, and the view of them that a method is given."""
