"""Finding faults of a data set before measuring on it."""
