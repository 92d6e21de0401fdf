"""The formats of a report, in a module of its own since shell completion must import fast."""

FORMATS = ("html", "md", "tex", "csv")
