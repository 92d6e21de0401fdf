"""In which formats a report can be written; a shell that completes a line asks for them."""

FORMATS = ("html", "md", "tex", "csv")
