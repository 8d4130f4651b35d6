"""Where a learned start wins, and where a straight line does: each showcase trains, tunes its rivals and draws."""
