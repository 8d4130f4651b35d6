"""Embeddings that were computed before: a row of numbers and a class for each sample, from a file of four formats."""
