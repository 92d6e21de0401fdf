"""Model files that come with the package, and the manifest of all that it knows by name."""
