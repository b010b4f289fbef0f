"""What a method is given and how it is judged: splits, masks, held-out entries and metrics."""
