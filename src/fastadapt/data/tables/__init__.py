"""Tables whose rows belong to tasks, and files of points."""
