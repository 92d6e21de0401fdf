"""`compare`: runs every estimator on the same faces and computes statistics of the predictions."""
