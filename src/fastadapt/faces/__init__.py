"""Faces, and whatever else is told apart by pairs: losses, learners for unseen domains, verification."""
