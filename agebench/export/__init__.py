"""Other formats for the models: Caffe files of the age_net layout."""
