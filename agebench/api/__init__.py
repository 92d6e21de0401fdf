"""What the command line can do and has no object of its own, as functions of the package.

The commands call these: a function and its command can't differ.
"""
