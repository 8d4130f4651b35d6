"""Run a function of one task over all tasks of a meta-batch: what picks a way to run them, and the ways."""
