"""`compare`: every estimator on the same faces, and what is computed from the answers."""
