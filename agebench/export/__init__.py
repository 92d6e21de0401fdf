"""Other formats for the models: ONNX files that were proven equal, and Caffe files."""
