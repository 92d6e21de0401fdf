"""Conversion of Caffe, Darknet, Keras, MXNet and TensorFlow.js files to ONNX."""
