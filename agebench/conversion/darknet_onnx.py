"""Converts Darknet's YOLO face detectors to ONNX, with boxes decoded inside the graph.

The output is the same as from cv2.dnn's Darknet importer: rows of (cx, cy, w, h, objectness, class
score), boxes as fractions of the input, scores of at most 0.2 set to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx

from agebench.conversion.darknet_files import (
    BATCH_NORM_EPS,
    DarknetSection,
    WeightReader,
    parse_cfg,
)
from agebench.conversion.graph import Graph
from agebench.errors import ModelError
from agebench.runtimes.onnx_metadata import SourceFile, from_properties
from agebench.runtimes.onnx_reading import CheckedModel, check_interface, properties_of, read_onnx
from agebench.types import Floats

IMAGE = "image"
"""The input: float32 (n, 3, height, width), B, G, R, 0 to 255."""

ROWS = "rows"
"""The output: float32 (n, rows, 6)."""

SCORE_FLOOR = 0.2
"""Scores up to this are set to zero: the default of ``thresh`` in cv2.dnn's Darknet importer."""

MAX_SIDE_PX = 8192
MOST_ROWS = 1_000_000
"""Limit of the boxes of one scale, whose corners are stored in the file.  A picture of 1920x1080
pixels with a stride of 8 has 97,200."""

NetworkVersion: TypeAlias = Literal["v2", "v1", "own"]


def sides_fit(size_hw: tuple[int, int]) -> bool:
    """Return whether an exported detector can have an input of this size, pixels."""
    return all(0 < side <= MAX_SIDE_PX and side % 8 == 0 for side in size_hw)


@dataclass(frozen=True, slots=True)
class ExportedDetector:
    """The metadata of an exported detector.

    Attributes:
        name: of the detector.
        version: which of the published networks; "own" for any other.
        size_hw: of the input, pixels; the picture is stretched to it.
        rows: number of boxes in the output.
        sources: the files that it was made from.
        licence: of the weights.
        image: format of the input `IMAGE`.
        score_floor: scores up to this are set to zero.
    """

    name: Literal["yoloface-500k"]
    version: NetworkVersion
    size_hw: tuple[int, int]
    rows: int
    sources: tuple[SourceFile, ...]
    licence: str
    image: Literal["float32 NCHW, BGR, 0..255"] = "float32 NCHW, BGR, 0..255"
    score_floor: float = SCORE_FLOOR

    def __post_init__(self) -> None:
        if not sides_fit(self.size_hw):
            raise ValueError(f"size_hw must be multiples of 8 up to {MAX_SIDE_PX}")
        if self.rows < 1:
            raise ValueError("rows must be at least 1")

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the input by name, without the batch."""
        return {IMAGE: (3, *self.size_hw)}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the output by name, without the batch."""
        return {ROWS: (self.rows, 6)}


@dataclass(frozen=True, slots=True)
class _Value:
    """A layer's output: its name in the graph, and its shape without the batch."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def windows(self, side: int, stride: int, padding: int) -> tuple[int, int]:
        """Return the vertical and horizontal number of windows; `padding` is the total per axis."""
        down, across = (
            (length + padding - side) // stride + 1 for length in (self.height, self.width)
        )
        return down, across


@dataclass(slots=True)
class _Network:
    """The graph under construction."""

    graph: Graph
    weights: WeightReader
    size_hw: tuple[int, int]
    start: _Value
    layers: list[_Value] = field(default_factory=list)
    tables: list[tuple[str, int]] = field(default_factory=list)

    @property
    def last(self) -> _Value:
        return self.layers[-1] if self.layers else self.start

    def at(self, place: int, section: DarknetSection) -> _Value:
        """Return the output of a layer, counted from the start or, if negative, from here."""
        index = place if place >= 0 else len(self.layers) + place
        if not 0 <= index < len(self.layers):
            raise ModelError(
                f"line {section.line}: [{section.kind}] does not name an earlier layer"
            )
        return self.layers[index]


def darknet_model(
    cfg: str, weights: Path, size_hw: tuple[int, int], sha256: str = ""
) -> tuple[onnx.ModelProto, int]:
    """Return the network as ONNX, and its number of output rows.

    Args:
        cfg: text of the layout.
        weights: file with the weights.
        size_hw: height and width of the input, which may differ from the layout's.
        sha256: of the weights when they were checked; "" if they were not.

    Raises:
        ModelError: a file is damaged or does not fit the other, or a layer is not supported.
    """
    sections = parse_cfg(cfg)
    graph = Graph()
    graph.reserve(IMAGE, ROWS)
    # A 1x1 convolution converts B, G, R in 0..255 to R, G, B in 0..1.
    swap = graph.weight(np.eye(3)[::-1].reshape(3, 3, 1, 1) / 255.0, "swap")
    start = graph.node("Conv", [IMAGE, swap], "scaled", kernel_shape=[1, 1])
    network = _Network(graph, WeightReader(weights, sha256), size_hw, _Value(start, 3, *size_hw))
    for section in sections[1:]:
        if section.kind not in _LAYERS:
            raise ModelError(
                f"line {section.line}: Darknet's [{section.kind}] can't be converted; supported "
                f"are {', '.join(sorted(_LAYERS))}"
            )
        network.layers.append(_LAYERS[section.kind](network, section))
    network.weights.finish()
    if not network.tables:
        raise ModelError("the Darknet layout has no [yolo] section: it is not a detector")
    rows = sum(count for _, count in network.tables)
    graph.named("Concat", [name for name, _ in network.tables], ROWS, axis=1)
    return graph.model("darknet", {IMAGE: (3, *size_hw)}, {ROWS: (rows, 6)}), rows


def _convolutional(network: _Network, section: DarknetSection) -> _Value:
    source = network.last
    filters, side = section.number("filters"), section.number("size")
    stride, groups = section.number("stride", 1), section.number("groups", 1)
    pad = side // 2 if section.number("pad", 0) else section.number("padding", 0)
    if min(filters, side, stride, groups) < 1 or source.channels % groups or filters % groups:
        raise ModelError(
            f"line {section.line}: [convolutional] does not fit {source.channels} channels"
        )
    biases = network.weights.take(filters).astype(np.float64)
    scale = np.ones(filters)
    if section.number("batch_normalize", 0):
        gain, mean, variance = network.weights.take(3, filters).astype(np.float64)
        scale = gain / np.sqrt(variance + BATCH_NORM_EPS)
        biases = biases - mean * scale
    shape = (filters, source.channels // groups, side, side)
    weights = network.weights.take(*shape) * scale[:, None, None, None]
    graph, hint = network.graph, f"conv{len(network.layers)}"
    name = graph.node(
        "Conv",
        [
            source.name,
            graph.weight(weights, f"{hint}_weights"),
            graph.weight(biases, f"{hint}_biases"),
        ],
        hint,
        kernel_shape=[side, side],
        strides=[stride, stride],
        pads=[pad] * 4,
        group=groups,
    )
    name = _activated(network, section, name)
    return _Value(name, filters, *source.windows(side, stride, 2 * pad))


_ACTIVATIONS = {"relu": "Relu", "logistic": "Sigmoid", "leaky": "LeakyRelu"}


def _activated(network: _Network, section: DarknetSection, name: str) -> str:
    kind = section.values.get("activation", "linear")
    if kind == "linear":
        return name
    if kind not in _ACTIVATIONS:
        raise ModelError(f"line {section.line}: Darknet's activation {kind!r:.40} is not known")
    extra = {"alpha": 0.1} if kind == "leaky" else {}
    return network.graph.node(_ACTIVATIONS[kind], [name], f"{name}_{kind}", **extra)


def _maxpool(network: _Network, section: DarknetSection) -> _Value:
    source = network.last
    side = section.number("size", section.number("stride", 1))
    stride = section.number("stride", 1)
    # Darknet pads side - 1 in total, the smaller half first.
    total = section.number("padding", side - 1)
    before, after = total // 2, total - total // 2
    name = network.graph.node(
        "MaxPool",
        [source.name],
        "pool",
        kernel_shape=[side, side],
        strides=[stride, stride],
        pads=[before, before, after, after],
    )
    return _Value(name, source.channels, *source.windows(side, stride, total))


def _avgpool(network: _Network, _section: DarknetSection) -> _Value:
    source = network.last
    name = network.graph.node("GlobalAveragePool", [source.name], "mean")
    return _Value(name, source.channels, 1, 1)


def _route(network: _Network, section: DarknetSection) -> _Value:
    if section.number("groups", 1) != 1:
        raise ModelError(f"line {section.line}: a [route] with groups can't be converted")
    parts = [network.at(place, section) for place in section.numbers("layers")]
    if len({(part.height, part.width) for part in parts}) > 1:
        raise ModelError(f"line {section.line}: [route] concatenates layers of different sizes")
    if len(parts) == 1:
        return parts[0]
    name = network.graph.node("Concat", [part.name for part in parts], "route", axis=1)
    return _Value(name, sum(part.channels for part in parts), parts[0].height, parts[0].width)


def _shortcut(network: _Network, section: DarknetSection) -> _Value:
    source, other = network.last, network.at(section.number("from"), section)
    if source.shape != other.shape:
        raise ModelError(f"line {section.line}: [shortcut] adds layers of different shapes")
    name = network.graph.node("Add", [source.name, other.name], "shortcut")
    return _Value(_activated(network, section, name), *source.shape)


def _scale_channels(network: _Network, section: DarknetSection) -> _Value:
    gate, other = network.last, network.at(section.number("from"), section)
    if gate.shape != (other.channels, 1, 1):
        raise ModelError(f"line {section.line}: [scale_channels] needs one gate per channel")
    name = network.graph.node("Mul", [other.name, gate.name], "gated")
    return _Value(name, *other.shape)


def _upsample(network: _Network, section: DarknetSection) -> _Value:
    source, stride = network.last, section.number("stride", 2)
    graph = network.graph
    scales = graph.weight([1.0, 1.0, float(stride), float(stride)], "scales")
    name = graph.node(
        "Resize",
        [source.name, "", scales],
        "upsampled",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return _Value(name, source.channels, source.height * stride, source.width * stride)


def _anchors(section: DarknetSection) -> Floats:
    """Return width and height of the anchors of this scale, (n, 2)."""
    numbers, mask = section.numbers("anchors"), section.numbers("mask")
    if len(numbers) % 2 or not all(0 <= place < len(numbers) // 2 for place in mask):
        raise ModelError(
            f"line {section.line}: [yolo] must have anchors of two numbers each, and a mask "
            f"of their indices, got {len(numbers)} numbers and the mask "
            f"{', '.join(map(str, mask))}"
        )
    return np.array(numbers, np.float64).reshape(-1, 2)[list(mask)]


def _yolo(network: _Network, section: DarknetSection) -> _Value:
    """Decode one scale: (n, anchors * 6, height, width) to (n, height * width * anchors, 6)."""
    source, graph = network.last, network.graph
    anchors = _anchors(section)
    fits = source.channels == 6 * len(anchors) and section.number("classes", 1) == 1
    if not fits or section.values.get("scale_x_y", "1").strip() not in {"1", "1.0"}:
        raise ModelError(
            f"line {section.line}: [yolo] must be of one class and scale_x_y = 1, with 6 channels "
            f"per anchor, got {source.channels} channels for {len(anchors)} anchors"
        )
    height, width = source.height, source.width
    rows = height * width * len(anchors)
    if rows > MOST_ROWS:
        raise ModelError(
            f"line {section.line}: [yolo] gives {rows:,} boxes ({height}x{width} places), at most "
            f"{MOST_ROWS:,} can be converted: lower width and height of [net]"
        )
    last = graph.node("Transpose", [source.name], "channels_last", perm=[0, 2, 3, 1])
    table = graph.reshape(last, [-1, rows, 6], "table")
    ys, xs, which = (axis.ravel() for axis in np.mgrid[:height, :width, : len(anchors)])
    corner = np.stack([xs, ys], axis=1)[None]
    cells = graph.weight([1.0 / width, 1.0 / height], "cells")
    sides = anchors[which][None] / (network.size_hw[1], network.size_hw[0])
    centres = graph.node("Sigmoid", [graph.slice(table, 2, 0, 2, "centre")], "centre_share")
    centres = graph.node("Add", [centres, graph.weight(corner, "corner")], "centre_cells")
    centres = graph.node("Mul", [centres, cells], "centres")
    grown = graph.node("Exp", [graph.slice(table, 2, 2, 4, "size")], "growth")
    boxes = graph.node("Mul", [grown, graph.weight(sides, "anchors")], "sizes")
    certain = graph.node("Sigmoid", [graph.slice(table, 2, 4, 5, "object")], "objectness")
    face = graph.node("Sigmoid", [graph.slice(table, 2, 5, 6, "class")], "face")
    score = graph.node("Mul", [certain, face], "score")
    score = graph.node("ThresholdedRelu", [score], "kept_score", alpha=SCORE_FLOOR)
    joined = graph.node("Concat", [centres, boxes, certain, score], "scale_rows", axis=2)
    network.tables.append((joined, rows))
    return source


_LAYERS: Mapping[str, Callable[[_Network, DarknetSection], _Value]] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "route": _route,
    "shortcut": _shortcut,
    "scale_channels": _scale_channels,
    "upsample": _upsample,
    "yolo": _yolo,
}


def read_detector_file(path: Path) -> CheckedModel[ExportedDetector]:
    """Read an exported detector; raises the same errors as `onnx_reading.read_age_file`."""
    model, data = read_onnx(path)
    spec = from_properties(properties_of(model), str(path), ExportedDetector, "face-detector")
    check_interface(model, spec.input_shapes, spec.output_shapes, path)
    return CheckedModel(model, spec, data)
