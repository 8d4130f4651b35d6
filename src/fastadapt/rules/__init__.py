"""Update rules of the inner step: SGD and its kin, torch's own, learned rates, curvature and the meta-learner LSTM."""
