"""Files of Caffe, Darknet, Keras, MXNet and TensorFlow.js as ONNX."""
