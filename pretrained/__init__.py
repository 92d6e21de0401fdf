"""Model files that come with agebench, and the manifest of those that do not."""
