"""Converts the age network's weights between PyTorch (safetensors) and Caffe files.

A network of this layout that was trained in PyTorch can then be run in the same way as the
published one.  The tensors are called ``conv1.weight``, ``conv1.bias`` and so on to ``fc8.bias``,
with the shapes of PyTorch's Conv2d and Linear; each convolution is followed by ReLU, MaxPool2d(3,
2, ceil_mode=True) and LocalResponseNorm(5, 1e-4, 0.75, 1.0), and the input is B, G, R minus the
mean.  Pickled files are never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agebench.conversion.age_net_onnx import age_net_core, layout_of
from agebench.errors import MissingDependencyError, ModelError, UsageError
from agebench.export.writing import proven
from agebench.runtimes.age_file import generated
from agebench.runtimes.age_net_layout import (
    CHANNEL_MEAN,
    INPUT_NAME,
    INPUT_SHAPE,
    OUTPUT_NAME,
    age_net_layers,
    deploy_prototxt,
)
from agebench.runtimes.base import ModelSource
from agebench.runtimes.caffe_model import (
    CaffeLayer,
    CaffeNet,
    Encoding,
    read_caffemodel,
    write_caffemodel,
)
from agebench.runtimes.opening import open_model
from agebench.types import CropSpec, ViewSpec
from agebench.util.files import check_target, write_together, write_whole
from agebench.util.regular_files import read_regular
from agebench.util.tensor_files import in_fixed_order

MAX_BYTES = 1 << 30
TOLERANCE = 1e-4
"""Largest allowed difference of a probability between cv2.dnn and onnxruntime, both float32."""

TRIAL_CROPS = 8
LEAST_SPREAD = 1e-5
"""Some probability must differ by this much between the trial's crops, or the trial is void."""

_FRACTION_OF_SPREAD = 0.1

Tensors = Mapping[str, npt.NDArray[np.float32]]

_NAMES = ("conv1", "conv2", "conv3", "fc6", "fc7", "fc8")


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that was written.

    Attributes:
        paths: the files.
        classes: width of the last layer.
        largest: largest difference of a probability between cv2.dnn and onnxruntime.
    """

    paths: tuple[Path, ...]
    classes: int
    largest: float


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingDependencyError(
            f"safetensors can't be imported: {error}. Install it with: pip install safetensors"
        ) from error
    return safetensors.numpy


def read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read the tensors of a safetensors file as float32, by name.

    Raises:
        MissingDependencyError: the library is not installed.
        ModelError: the file is missing, too large, damaged or of a different kind.
    """
    library = _library()
    try:
        size = path.stat().st_size
        content = read_regular(path) if path.is_file() and size <= MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from error
    if size > MAX_BYTES:
        raise ModelError(f"{path} has {size:,} bytes, expected at most {MAX_BYTES:,}")
    try:
        tensors = library.load(content)
    except Exception as error:  # the library raises its own, ValueError and KeyError
        raise ModelError(
            f"{path} is not a complete safetensors file ({type(error).__name__}: {error}): pickled "
            "files are never read, save with safetensors.torch.save_file"
        ) from error
    # A checkpoint of `agebench train` also contains the last weights and the optimiser's state.
    averaged = {name: value for name, value in tensors.items() if name.startswith("averaged/")}
    chosen = averaged or tensors
    return {name: np.asarray(value, np.float32) for name, value in chosen.items()}


def to_net(tensors: Tensors, where: str) -> CaffeNet:
    """Return the layers with these tensors; a common prefix of their names is ignored.

    Raises:
        ModelError: a tensor is missing, or there are others, or they have another layout.
    """
    firsts = [name for name in tensors if name.endswith("conv1.weight")]
    if len(firsts) != 1:
        raise ModelError(
            f"{where} must hold one tensor 'conv1.weight', as the age network has, got "
            f"{len(firsts)} among {len(tensors)} tensors{_first(tensors)}"
        )
    prefix = firsts[0].removesuffix("conv1.weight")
    _refuse_others(tensors, prefix, where)
    layers = []
    for name in _NAMES:
        blobs = []
        for part in ("weight", "bias"):
            key = f"{prefix}{name}.{part}"
            if key not in tensors or not np.isfinite(tensors[key]).all():
                raise ModelError(
                    f"{where} lacks the tensor {key!r}, or not all of its numbers are finite"
                )
            blobs.append(tensors[key])
        kind = "Convolution" if name.startswith("conv") else "InnerProduct"
        layers.append(CaffeLayer(name, kind, tuple(blobs)))
    return _with_all_layers(CaffeNet("age_net", tuple(layers), "v1"))


def _refuse_others(tensors: Tensors, prefix: str, where: str) -> None:
    """Refuse tensors of additional layers: without them it would be another network.

    Tensors with another prefix are ignored, such as an optimiser's or a second network's.
    """
    known = {f"{prefix}{name}.{part}" for name in _NAMES for part in ("weight", "bias")}
    others = sorted(name for name in tensors if name.startswith(prefix) and name not in known)
    if others:
        raise ModelError(
            f"expected only the {len(known)} tensors of the age network in {where}, got "
            f"{len(others)} more{_first(others)}: without them its output would differ"
        )


def _first(names: Iterable[str]) -> str:
    """Return the first three names, and dots for more, in brackets; "" without any."""
    listed = sorted(names)
    dots = ", ..." if len(listed) > 3 else ""
    return f" ({', '.join(listed[:3])}{dots})" if listed else ""


def _with_all_layers(net: CaffeNet) -> CaffeNet:
    """Return the net with all layers of the layout in order, including those without weights."""
    layers = []
    for layout in age_net_layers(*layout_of(net)):
        blobs = net.layer(layout.name).blobs if layout.blob_shapes else ()
        layers.append(CaffeLayer(layout.name, layout.type, blobs, (layout.bottom,), (layout.top,)))
    return CaffeNet("age_net", tuple(layers), net.encoding)


def to_caffe(
    source: Path, out: Path, *, encoding: Encoding = "v1", half: bool = False
) -> Converted:
    """Write safetensors weights as a caffemodel and its prototxt.

    Args:
        source: the safetensors file.
        out: the caffemodel; the layout is written next to it as ``NAME.prototxt``.
        encoding: "v1" like the published file, or "v2".
        half: store half-precision numbers, at half the size (like `cv2.dnn.shrinkCaffeModel`).

    Raises:
        ModelError: the tensors are not the age network's, or the results of cv2.dnn and
            onnxruntime differ: nothing is written.
        UsageError: a number is too large for half precision, or there is a layout of another file
            next to `out`.
        AgebenchError: a file can't be written.
    """
    check_target(out)
    net = to_net(read_tensors(source), str(source))
    classes, widths = layout_of(net)
    layout = deploy_prototxt(classes, widths)

    prototxt = out.with_suffix(".prototxt")
    if prototxt.is_file() and not out.exists() and prototxt.read_bytes() != layout.encode():
        raise UsageError(
            f"{prototxt} exists without {out.name}, so it may be another model's, and would be "
            "overwritten: name another file, or move it away"
        )
    proved: list[tuple[float, bytes]] = []

    def prove(path: Path) -> None:
        write_caffemodel(path, net.layers, encoding=encoding, half=half, name="age_net")
        proved.append((difference(path, layout), path.read_bytes()))

    proven(b"", "age_net.caffemodel", prove)
    ((largest, content),) = proved
    write_together([(prototxt, layout), (out, content)])
    return Converted((out, prototxt), classes, largest)


def to_safetensors(source: Path, out: Path) -> Converted:
    """Write a caffemodel of the age_net layout as safetensors.

    Raises:
        WeightsError: the file is missing, unreadable, too large, or an HTML page or a stub.
        ModelError: it is not a caffemodel of this layout.
        AgebenchError: the file can't be written.
    """
    check_target(out)
    net = read_caffemodel(source)
    classes, widths = layout_of(net)
    tensors = {
        f"{name}.{part}": np.ascontiguousarray(blob)
        for name in _NAMES
        for part, blob in zip(("weight", "bias"), net.layer(name).blobs, strict=True)
    }
    largest = difference(source, deploy_prototxt(classes, widths))
    about = {"layout": "age_net (Levi & Hassner 2015)", "classes": classes}
    content = _library().save(tensors, {"format": "pt", "agebench": json.dumps(about)})
    write_whole(out, in_fixed_order(content))
    return Converted((out,), classes, largest)


def difference(caffemodel: Path, layout: str) -> float:
    """Return the largest difference between a caffemodel under cv2.dnn and as ONNX.

    Raises:
        ModelError: it is above `TOLERANCE` or a tenth of the range over the trial crops; the
            network gives the same result for all crops; or a runtime can't load it.
    """
    blob = _trial_blob()
    source = ModelSource("caffe", caffemodel, config=layout, outputs=(OUTPUT_NAME,))
    expected = open_model(source).run({INPUT_NAME: blob})[OUTPUT_NAME]
    converted = age_net_core(read_caffemodel(caffemodel)).SerializeToString()
    source = ModelSource("onnx", caffemodel, outputs=(OUTPUT_NAME,), data=converted)
    answers = open_model(source, runtime="onnxruntime").run({INPUT_NAME: blob})[OUTPUT_NAME]
    spread = float(np.ptp(answers, axis=0).max())
    if spread < LEAST_SPREAD:
        raise ModelError(
            f"{caffemodel.name} gives the same probabilities for all {TRIAL_CROPS} generated "
            f"crops, within {spread:.2g}: equal results of two runtimes would prove nothing; "
            "nothing was written"
        )
    largest = float(np.abs(expected.reshape(TRIAL_CROPS, -1) - answers).max())
    allowed = min(TOLERANCE, _FRACTION_OF_SPREAD * spread)
    if not largest <= allowed:
        raise ModelError(
            f"the probabilities of {caffemodel.name} under cv2.dnn differ by {largest:.3g} from "
            f"onnxruntime's; at most {allowed:.3g} is allowed: nothing was written"
        )
    return largest


def _trial_blob() -> npt.NDArray[np.float32]:
    """Return generated crops minus the mean.

    White noise is unsuitable: a trained network gives the same result for all of it, even with a
    wrong layout.
    """
    view = ViewSpec("face", INPUT_SHAPE[1:])
    pixels = generated(CropSpec({"face": view}), TRIAL_CROPS).views["face"]
    centred = pixels.astype(np.float32) - np.array(CHANNEL_MEAN, np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def convert(source: Path, out: Path, *, encoding: Encoding | None, half: bool) -> Converted:
    """Convert safetensors to caffemodel or the reverse, depending on the suffixes.

    Raises:
        UsageError: other suffixes, or an option that does not apply.
    """
    suffixes = (source.suffix.lower(), out.suffix.lower())
    if suffixes == (".safetensors", ".caffemodel"):
        return to_caffe(source, out, encoding=encoding or "v1", half=half)
    if suffixes == (".caffemodel", ".safetensors"):
        if half or encoding:
            raise UsageError("--half and --encoding are for writing a .caffemodel: omit them")
        return to_safetensors(source, out)
    if source.suffix.lower() in (".pt", ".pth", ".ckpt", ".pkl"):
        raise UsageError(
            f"{source.name} may be a pickle, which can run code and is never read: save its "
            "weights with safetensors.torch.save_file(model.state_dict(), 'NAME.safetensors')"
        )
    raise UsageError(
        f"expected X.safetensors to Y.caffemodel or the reverse, got {source} to {out}"
    )
