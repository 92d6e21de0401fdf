"""Data sets, one file per layout on disk, and their common code; only file names are read here."""
