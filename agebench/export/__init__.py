"""Export of models: ONNX files that are verified against their source, and Caffe files."""
