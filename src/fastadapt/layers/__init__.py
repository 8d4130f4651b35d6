"""How a user's module is run inside the inner loop: its parameters bound, some library functions rewritten."""
