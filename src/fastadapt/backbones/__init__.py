"""Backbones that others have trained: how they are named, what they see of a picture, their features of a folder."""
