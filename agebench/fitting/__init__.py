"""Fitted on pictures: the years of age classes, and how a detector's boxes lie to faces."""
