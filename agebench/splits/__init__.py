"""Splits: which pictures are used for training and which for testing."""
