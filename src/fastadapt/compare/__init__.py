"""What computes comparisons: rivals and baselines on the same tasks, held-out rows, tuning, paired intervals."""
