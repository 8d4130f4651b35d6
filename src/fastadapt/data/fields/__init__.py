"""Pictures, sounds and volumes as functions of a position."""
