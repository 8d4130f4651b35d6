"""What an evaluation keeps: the answers that were seen, counts by class, and how they are written down."""
