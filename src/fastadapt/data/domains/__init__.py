"""Data of several domains: splits of them as tasks, and sets of faces."""
