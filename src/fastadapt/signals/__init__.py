"""Fit a picture or a sound of the user's own, from a start that was learned and from a random one, step by step."""
