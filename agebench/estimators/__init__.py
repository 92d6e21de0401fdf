"""Estimators, one file each, and their common code."""
