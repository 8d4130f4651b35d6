"""The outer loop with its settings, checkpoints, log and interrupts."""
