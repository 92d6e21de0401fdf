"""From names to estimators, detectors and data sets, and what is taken where none is named."""
