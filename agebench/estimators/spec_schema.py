"""What a spec file may say: its tables as frozen dataclasses, and the files that it names.

docs/spec-file.md explains every key to whoever writes one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from agebench.errors import UsageError, WeightsError
from agebench.estimators.common import BlobLayout, ChannelOrder, InputFormat
from agebench.estimators.toml_reader import read_toml
from agebench.types import MAX_AGE_YEARS, AgeBins, LabelKind, ViewSpec
from agebench.vision.regions import REGIONS

MAX_SIDE_PX = 4096

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SET = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Files:
    """Table [files]: the model, for some formats its layout, and the hash to check it by."""

    model: str
    config: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None:
            _require(_SHA256.fullmatch(self.sha256), "sha256 must be 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Table [runtime]: what runs it, where the command line does not say otherwise."""

    runtime: Literal["cv2dnn", "onnxruntime"] = "cv2dnn"
    device: Literal["cpu", "cuda", "tensorrt", "opencl"] = "cpu"


@dataclass(frozen=True, slots=True)
class Crop:
    """Table [crop]: the view of the face, as `agebench.types.ViewSpec`."""

    size: tuple[int, int]
    region: str = "face"
    margin: float = 0.0
    margin_px: float = 0.0
    align: bool = False
    border: Literal["replicate", "constant", "clip"] = "replicate"

    def __post_init__(self) -> None:
        _require(max(self.size) <= MAX_SIDE_PX, f"size must be at most {MAX_SIDE_PX}")
        _require(self.region in REGIONS, f"unknown region {self.region!r}: {', '.join(REGIONS)}")
        self.view()

    def view(self) -> ViewSpec:
        """Return the view."""
        return ViewSpec(
            self.region, self.size, self.margin, self.margin_px, self.align, self.border
        )


@dataclass(frozen=True, slots=True)
class Input:
    """Table [input]: pixels to blob; mean and channel order have no default to forget."""

    channel_order: ChannelOrder
    mean: tuple[float, ...]
    scale: float = 1.0
    std: tuple[float, ...] = ()
    layout: BlobLayout = "nchw"
    name: str = ""

    def __post_init__(self) -> None:
        self.format()

    def format(self) -> InputFormat:
        """Return the conversion."""
        return InputFormat(self.channel_order, self.mean, self.scale, self.std, self.layout)


@dataclass(frozen=True, slots=True)
class Output:
    """Table [output]: which output, and what its numbers are."""

    kind: Literal["years", "probabilities", "logits"]
    name: str = ""
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        plain = (self.scale, self.offset) == (1.0, 0.0)
        _require(self.kind == "years" or plain, "scale and offset go with kind = 'years' only")


@dataclass(frozen=True, slots=True)
class Bins:
    """Table [bins]: one range per output, or one year per output from first to last."""

    ranges: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        self.bins()

    def bins(self) -> AgeBins:
        """Return the bins, which go upwards without overlap."""
        single = self.first is not None and self.last is not None
        partly = self.first is not None or self.last is not None
        _require(single == partly, "give both first and last")
        _require(single != bool(self.ranges), "give either ranges, or first and last")
        if self.first is not None and self.last is not None:
            in_order = 0 <= self.first <= self.last <= MAX_AGE_YEARS
            _require(in_order, f"first and last must go upwards from 0 to {MAX_AGE_YEARS:g}")
            return AgeBins.single_years(self.first, self.last)
        pairs = [_pair(text) for text in self.ranges]
        upwards = all(a[1] < b[0] for a, b in pairwise(pairs))
        _require(upwards, "ranges must go upwards and not overlap")
        return AgeBins(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))


def _pair(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    _require(
        0 <= low <= high <= MAX_AGE_YEARS,
        f"expected ranges such as '25-32' or '7' up to {MAX_AGE_YEARS:g} years, got {text!r}",
    )
    return low, high


@dataclass(frozen=True, slots=True)
class Decode:
    """Table [decode]: from probabilities to years."""

    rule: Literal["expectation", "median", "midpoint", "top2-expectation"] = "expectation"


@dataclass(frozen=True, slots=True)
class About:
    """Table [about]: what readers of its figures must know; nothing here changes a number."""

    licence: str = ""
    source: str = ""
    trained_on: str = ""
    trained_sets: tuple[str, ...] = ()
    label_kind: LabelKind = "unknown"
    citation: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.trained_sets:
            _require(
                _SET.fullmatch(name),
                "trained_sets takes names of data sets in lower case, such as 'utkface' or "
                f"'imdb-wiki', got {name!r}",
            )


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A whole spec file."""

    name: str
    files: Files
    crop: Crop
    input: Input
    output: Output
    runtime: Runtime = Runtime()
    bins: Bins | None = None
    decode: Decode | None = None
    about: About = About()

    def __post_init__(self) -> None:
        _require(
            _NAME.fullmatch(self.name),
            f"name must be of letters, digits, '_', '.' and '-', got {self.name!r}",
        )
        if self.output.kind == "years":
            _require(
                self.bins is None and self.decode is None,
                "[bins] and [decode] don't go with output.kind = 'years'",
            )
        else:
            _require(self.bins, f"[bins] is missing: output.kind = {self.output.kind!r} needs it")


def read_spec(path: Path) -> SpecFile:
    """Read and check a spec file; the model is not opened.

    Raises:
        UsageError: it can't be read or does not fit; names the file and the key.
    """
    return read_toml(path, SpecFile)


def file_beside(spec_path: Path, name: str, key: str) -> Path:
    """Return the file that a spec names, which must lie in the spec's folder or below.

    A spec file may come from a stranger: it must not reach for files elsewhere.

    Args:
        spec_path: the spec file.
        name: as written in it: relative, with forward slashes.
        key: where it was written, for errors.

    Raises:
        UsageError: the name leads out of the folder.
        WeightsError: there is no such file.
    """
    outside = (
        f"{spec_path}: {key} must be a file in the folder of the spec file, named relative to it "
        f"with forward slashes, got {name!r}"
    )
    windows = PureWindowsPath(name)
    odd = not name or "\\" in name or "\0" in name or windows.drive or windows.root
    if odd or ".." in PurePosixPath(name).parts:
        raise UsageError(outside)
    folder = spec_path.parent.resolve()
    path = spec_path.parent / name
    try:
        if not path.resolve().is_relative_to(folder):
            raise UsageError(f"{outside}, which is a link that leads out of it")
        if not path.is_file():
            raise WeightsError(f"{spec_path}: {key} names {name!r}, no file at {path}")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise UsageError(f"{spec_path}: {key} can't be read: {error}") from error
    return path
