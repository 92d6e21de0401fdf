"""Functions for tasks of the command line.

The commands call these functions, so that both behave in the same way.
"""
