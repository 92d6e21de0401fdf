"""Finding copies of pictures in a data set, or among a model's training pictures."""
