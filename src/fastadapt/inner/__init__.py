"""The inner loop of one task and the ways to differentiate through it; nothing here knows of engines or files."""
