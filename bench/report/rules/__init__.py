"""What decides a verdict: intervals over seeds, the rules of a number and those of an order."""
