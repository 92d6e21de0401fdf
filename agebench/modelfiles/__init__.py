"""Where a model file is, or is fetched from and verified before anything reads it."""
