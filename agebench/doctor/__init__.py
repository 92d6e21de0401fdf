"""What is wrong with a data set before anything is measured on it."""
