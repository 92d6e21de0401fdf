"""Caffe files of the age_net layout as ONNX.

The operators are those that cv2.dnn 4.10 to 5.0 and onnxruntime compute as Caffe does: max-pooling
with sizes rounded up, response normalisation over five channels.  PyTorch's own export of the
latter holds an ``If`` that cv2.dnn refuses, one reason why the graph is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from agebench.datasets.training_hashes import KnowsItsTraining
from agebench.errors import ModelError, UsageError
from agebench.export.candidate import Candidate, years_of
from agebench.export.decoding import add_age, decode_rule
from agebench.export.graph import Graph
from agebench.export.metadata import PROBABILITIES, FileSpec, sources_of, views_of
from agebench.protocols import Estimator
from agebench.runtimes.age_net_layout import (
    INPUT_NAME,
    INPUT_SHAPE,
    OUTPUT_NAME,
    LayerLayout,
    Widths,
    age_net_layers,
)
from agebench.runtimes.caffe_model import CaffeLayer, CaffeNet, read_caffemodel

_WEIGHTED = ("conv1", "conv2", "conv3", "fc6", "fc7", "fc8")


def layout_of(net: CaffeNet) -> tuple[int, Widths]:
    """Return the number of classes and the widths of a net in the layout of age_net.

    Raises:
        ModelError: a layer is missing or its blobs are of other shapes; names it.
    """
    layers = {name: net.layer(name) for name in _WEIGHTED}
    for name, layer in layers.items():
        if not layer.blobs or not layer.blobs[0].ndim:
            raise ModelError(f"the layer {name!r} of the Caffe model holds no weights")
    widths = {name: layer.blobs[0].shape[0] for name, layer in layers.items()}
    classes = widths.pop("fc8")
    found = classes, Widths(**widths)
    for layout in age_net_layers(*found):
        if layout.blob_shapes:
            shapes = tuple(blob.shape for blob in layers[layout.name].blobs)
            if shapes != layout.blob_shapes:
                raise ModelError(
                    f"the layer {layout.name!r} of the Caffe model has blobs of shape {shapes}, "
                    f"age_net's has {layout.blob_shapes}: it is another network"
                )
    return found


def add_age_net(graph: Graph, net: CaffeNet, value: str, output: str) -> None:
    """Add the whole network.

    Args:
        graph: gets the nodes.
        net: in the layout of age_net.
        value: float32 (n, 3, 227, 227), B, G, R, less the mean.
        output: name of the probabilities, (n, classes).

    Raises:
        ModelError: the net is of another layout.
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
    """Return the network alone, with the inputs and outputs of the Caffe one.

    Input "data": float32 (n, 3, 227, 227), B, G, R, less the mean.  Output "prob": (n, classes).

    Raises:
        ModelError: the net is of another layout.
    """
    graph = Graph()
    graph.reserve(INPUT_NAME, OUTPUT_NAME)
    add_age_net(graph, net, INPUT_NAME, OUTPUT_NAME)
    classes, _ = layout_of(net)
    return graph.model("age_net", {INPUT_NAME: INPUT_SHAPE}, {OUTPUT_NAME: (classes,)})


def age_net_candidate(
    estimator: Estimator, caffemodel: Path, class_years: Sequence[float] | None = None
) -> Candidate:
    """Make `caffe-age-net` or `caffe-age-net-utkface` ready for export.

    Args:
        estimator: loaded from `caffemodel`, with one crop and the channel mean.
        caffemodel: the file.
        class_years: the estimator's table of years, where it has one.

    Raises:
        UsageError: the estimator's options can't be put into a graph.
        ModelError: the file is of another layout.
    """
    spec = estimator.spec
    # The second has neither option: it is always so.
    if spec.settings.get("crops", 1) != 1 or spec.settings.get("mean", "channel") != "channel":
        raise UsageError(
            "caffe-age-net is exported with one crop and the channel mean: leave out crops=10 and "
            "mean=image"
        )
    decode = decode_rule(spec.decode)
    bins = spec.bins
    if bins is None:
        raise UsageError("an age network without bins can't be exported")
    years = list(bins.midpoints if class_years is None else class_years)
    graph = Graph()
    (view,) = spec.crop.views
    graph.reserve(view, PROBABILITIES)
    mean = np.array(spec.mean)[:, None, None]
    centred = graph.node("Sub", [view, graph.weight(mean[None], "mean")], "centred")
    add_age_net(graph, read_caffemodel(caffemodel), centred, PROBABILITIES)
    add_age(graph, PROBABILITIES, years, decode)
    written = FileSpec(
        name=spec.name,
        views=views_of(spec.crop),
        bins=tuple(zip(bins.lows, bins.highs, strict=True)),
        bin_years=tuple(float(value) for value in years),
        decode=decode,
        licence=spec.licence,
        trained_on=spec.trained_on,
        trained_sets=spec.trained_sets,
        label_kind=spec.label_kind,
        sources=sources_of(spec.weights),
        classes=spec.classes is not None,
        normalisation="less " + ", ".join(f"{value:g}" for value in spec.mean) + " (B, G, R)",
        source=spec.source,
        citation=spec.citation,
        notes=spec.notes,
    )
    model = graph.model("age_net", written.input_shapes, written.output_shapes)
    trained = estimator.training_hashes() if isinstance(estimator, KnowsItsTraining) else None
    label = f"{spec.name} ({caffemodel.name})"
    return Candidate(model, written, years_of(estimator), label, trained)
