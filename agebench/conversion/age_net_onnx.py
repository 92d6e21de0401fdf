"""Converts Caffe files of the age_net layout to ONNX.

Only operators that cv2.dnn 4.10 to 5.0 and onnxruntime compute like Caffe are used: max pooling
with sizes rounded up, response normalisation over five channels.  PyTorch exports the latter with
an ``If`` that cv2.dnn can't read, which is one reason why the graph is written here.
"""

from __future__ import annotations

import onnx

from agebench.conversion.graph import Graph
from agebench.errors import ModelError
from agebench.runtimes.age_net_layout import (
    INPUT_NAME,
    INPUT_SHAPE,
    OUTPUT_NAME,
    LayerLayout,
    Widths,
    age_net_layers,
)
from agebench.runtimes.caffe_model import CaffeLayer, CaffeNet

_WEIGHTED = ("conv1", "conv2", "conv3", "fc6", "fc7", "fc8")


def layout_of(net: CaffeNet) -> tuple[int, Widths]:
    """Return the number of classes and the widths of a net in the layout of age_net.

    Raises:
        ModelError: a layer is missing, or its blobs have other shapes; the message names it.
    """
    layers = {name: net.layer(name) for name in _WEIGHTED}
    for name, layer in layers.items():
        if not layer.blobs or not layer.blobs[0].ndim:
            raise ModelError(f"the layer {name!r} of the Caffe model has no weights")
    widths = {name: layer.blobs[0].shape[0] for name, layer in layers.items()}
    classes = widths.pop("fc8")
    found = classes, Widths(**widths)
    for layout in age_net_layers(*found):
        if layout.blob_shapes:
            shapes = tuple(blob.shape for blob in layers[layout.name].blobs)
            if shapes != layout.blob_shapes:
                raise ModelError(
                    f"the layer {layout.name!r} of the Caffe model has blobs of shape {shapes}, "
                    f"expected {layout.blob_shapes} for age_net: it is another network"
                )
    return found


def add_age_net(graph: Graph, net: CaffeNet, value: str, output: str) -> None:
    """Add the whole network.

    Args:
        graph: the nodes are added to it.
        net: in the layout of age_net.
        value: float32 (n, 3, 227, 227), B, G, R, minus the mean.
        output: name of the probabilities, (n, classes).

    Raises:
        ModelError: the net has another layout.
    """
    for layout in age_net_layers(*layout_of(net)):
        if layout.name == OUTPUT_NAME:
            graph.named("Softmax", [value], output, axis=1)
        else:
            value = _add_layer(graph, layout, net, value)


def _add_layer(graph: Graph, layout: LayerLayout, net: CaffeNet, value: str) -> str:
    settings = dict(layout.settings)
    if layout.type == "ReLU":
        return graph.node("Relu", [value], layout.name)
    if layout.type == "Dropout":
        return value
    if layout.type == "LRN":
        return graph.node(
            "LRN",
            [value],
            layout.name,
            size=int(settings["local_size"]),
            alpha=float(settings["alpha"]),
            beta=float(settings["beta"]),
            bias=1.0,
        )
    if layout.type == "Pooling":
        side, stride = int(settings["kernel_size"]), int(settings["stride"])
        return graph.node(
            "MaxPool",
            [value],
            layout.name,
            kernel_shape=[side, side],
            strides=[stride, stride],
            ceil_mode=1,
        )
    return _add_weighted(graph, layout, net.layer(layout.name), value)


def _add_weighted(graph: Graph, layout: LayerLayout, layer: CaffeLayer, value: str) -> str:
    settings = dict(layout.settings)
    names = [
        graph.weight(blob, f"{layout.name}_{what}")
        for blob, what in zip(layer.blobs, ("weights", "biases"), strict=True)
    ]
    if layout.type == "Convolution":
        side, stride, pad = (int(settings[key]) for key in ("kernel_size", "stride", "pad"))
        return graph.node(
            "Conv",
            [value, *names],
            layout.name,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[pad] * 4,
        )
    if layout.bottom.startswith("pool"):
        value = graph.node("Flatten", [value], f"{layout.name}_in", axis=1)
    return graph.node("Gemm", [value, *names], layout.name, transB=1)


def age_net_core(net: CaffeNet) -> onnx.ModelProto:
    """Return the network without preprocessing and decoding, with Caffe's inputs and outputs.

    Input "data": float32 (n, 3, 227, 227), B, G, R, minus the mean.  Output "prob": (n, classes).

    Raises:
        ModelError: the net has another layout.
    """
    graph = Graph()
    graph.reserve(INPUT_NAME, OUTPUT_NAME)
    add_age_net(graph, net, INPUT_NAME, OUTPUT_NAME)
    classes, _ = layout_of(net)
    return graph.model("age_net", {INPUT_NAME: INPUT_SHAPE}, {OUTPUT_NAME: (classes,)})
