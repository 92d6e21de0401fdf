"""Loads estimators, detectors and data sets by name, and defines the defaults."""
