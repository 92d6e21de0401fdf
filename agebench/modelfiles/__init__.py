"""Finds, downloads and verifies model files."""
