"""Pure functions on arrays: errors, classes of age, intervals, paired tests, calibration."""
