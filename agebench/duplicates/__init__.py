"""The same picture twice: in a data set, or in what a model was trained on."""
