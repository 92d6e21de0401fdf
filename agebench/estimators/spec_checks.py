"""Compares what a spec file declares with the model's own files before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agebench.errors import ModelError, inert
from agebench.estimators.spec_schema import SpecFile
from agebench.runtimes.base import ModelSource
from agebench.runtimes.graph_inputs import GraphInput, Size, graph_ends
from agebench.types import FaceFrame, Image
from agebench.vision.crops import view_patch

ASPECT_TOLERANCE = 0.05
"""A view that is stretched by more than this fraction gives a warning; rounding gives less."""


def check_graph(source: ModelSource, written: SpecFile, label: str) -> None:
    """Compare size, channels, layout and type of the input with those of the graph.

    Args:
        source: the model's files.
        written: the spec file.
        label: the model's name in errors.

    Raises:
        ModelError: they contradict each other, or the model has no such input or several.
    """
    ends = graph_ends(source)
    _check_output(ends.outputs, written.output.name, label)
    inputs = ends.inputs
    if not inputs:
        return
    found = _the_input(inputs, written.input.name, label)
    if found.shape is not None:
        _check_shape(found.shape, source.kind == "tensorflow", written, f"{label}: its input")
    if source.kind != "tensorflow" and found.type not in ("", written.input.type):
        raise ModelError(
            f"{label}: its input takes {found.type} numbers, the spec file says "
            f'{written.input.type}: write type = "{found.type}" in [input]'
            if found.type in ("float32", "float16", "uint8")
            else f"{label}: its input takes {found.type} numbers, expected float32, float16 or "
            "uint8: export it with one of these"
        )


def _check_output(known: Sequence[str], name: str, label: str) -> None:
    """Check that an ONNX graph has the output; other formats allow any layer to be requested.

    Of several outputs, one must be named, because their order depends on the runtime.
    """
    shown = inert(", ".join(known))
    if name and known and name not in known:
        raise ModelError(f"{label} has no output {name!r}, it has {shown:.200}")
    if not name and len(known) > 1:
        raise ModelError(
            f"{label} has {len(known)} outputs ({shown:.200}): choose one with name in [output]"
        )


def _the_input(inputs: Sequence[GraphInput], name: str, label: str) -> GraphInput:
    known = inert(", ".join(item.name for item in inputs))
    named = [item for item in inputs if item.name == name]
    if name and not named and inputs[0].name:
        raise ModelError(f"{label} has no input {name!r}, it has {known:.200}")
    pictures = [item for item in inputs if item.shape is None or len(item.shape) == 4]
    if len(inputs) > 1 and (len(pictures) != 1 or not named):
        raise ModelError(f"{label} has {len(inputs)} inputs ({known:.200}): expected one")
    return named[0] if named else inputs[0]


def _check_shape(shape: tuple[Size, ...], tensorflow: bool, written: SpecFile, where: str) -> None:
    shown = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
    if len(shape) != 4:
        raise ModelError(
            f"{where} is of shape {shown}, expected four axes: faces, channels, height, width"
        )
    # OpenCV reads TensorFlow's graphs with its own order of axes, whatever the graph declares.
    nhwc = tensorflow or written.input.layout == "nhwc"
    channels, height, width = (shape[index] for index in ((3, 1, 2) if nhwc else (1, 2, 3)))
    wanted = written.input.channels
    other = shape[1] if nhwc else shape[3]
    if not tensorflow and channels not in (None, 1, 3) and other in (1, 3):
        right = "nchw" if nhwc else "nhwc"
        raise ModelError(
            f'{where} is of shape {shown}, layout = "{written.input.layout}" gives another order '
            f'of axes: write layout = "{right}" in [input]'
        )
    if channels not in (None, wanted):
        order = '"gray"' if channels == 1 else '"bgr" or "rgb"'
        raise ModelError(
            f"{where} is of shape {shown}, of {channels} channels; channel_order = "
            f'"{written.input.channel_order}" gives {wanted}'
            + (f": write channel_order = {order}" if channels in (1, 3) else "")
        )
    high, wide = written.crop.size
    if height not in (None, high) or width not in (None, wide):
        raise ModelError(
            f"{where} is of shape {shown}, height {height or 'any'} and width {width or 'any'}; "
            f"crop.size gives height {high} and width {wide}: write size = "
            f"[{height or high}, {width or wide}]"
        )
    if shape[0] not in (None, 1):
        raise ModelError(
            f"{where} takes {shape[0]} faces at a time, expected one or any number: export it "
            "with a dynamic batch size"
        )


def stretch_note(written: SpecFile) -> str:
    """Return a warning if the view's shape differs from the input's without `stretch`; else ""."""
    view = written.crop.view()
    if view.region == "original" or written.crop.stretch:
        return ""
    # For a typically large face: a margin in pixels hardly matters.
    patch = view_patch(view, FaceFrame((0.0, 0.0), 200.0), (1000, 1000))
    high, wide = view.size_hw
    aspect = patch.width / patch.height
    stretch = (wide / high) / aspect
    if abs(stretch - 1) <= ASPECT_TOLERANCE:
        return ""
    how = "wide" if stretch > 1 else "narrow"
    return (
        f"the view {view.region!r} is {aspect:.2f} times as wide as high, the input "
        f"{wide / high:.2f} times: faces come out {max(stretch, 1 / stretch):.2f} times too {how} "
        "(if the model's authors do the same, write stretch = true in [crop])"
    )


def test_card(size_hw: tuple[int, int]) -> Image:
    """Return the picture used for golden answers, which is identical everywhere.

    Blue rises from 0 to 255 to the right, green downwards, red along both, with a lighter square in
    the middle.

    Args:
        size_hw: height and width, pixels.

    Returns:
        uint8 (height, width, 3), B, G, R.
    """
    high, wide = size_hw
    down = np.arange(high)[:, None] * 255 // max(high - 1, 1)
    across = np.arange(wide)[None, :] * 255 // max(wide - 1, 1)
    card = np.empty((high, wide, 3), np.uint8)
    card[..., 0] = across
    card[..., 1] = down
    card[..., 2] = (across + down) // 2
    card[high // 3 : high - high // 3, wide // 3 : wide - wide // 3] //= 2
    card[high // 3 : high - high // 3, wide // 3 : wide - wide // 3] += 127
    return card
