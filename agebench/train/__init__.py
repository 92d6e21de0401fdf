"""Training the multi-crop network: the room, with `export` and one runtime, that needs torch."""
