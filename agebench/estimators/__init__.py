"""One file per estimator, and what they share."""
