"""Utilities for all packages: files, arrays, child processes, limits, progress."""
