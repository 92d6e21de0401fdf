"""Data sets: one file per layout on disk, and what they share; only names are read here."""
