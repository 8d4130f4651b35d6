"""How an output becomes a number: labels, criteria, what a loss may return, and numbers that are not finite."""
