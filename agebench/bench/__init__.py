"""The harness: every estimator on the same faces, error in years and time in milliseconds."""
