"""The content of a spec file: its tables as frozen dataclasses, and the files that it names.

docs/spec-file.md explains every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, TypeAlias

from agebench.conversion.converted import Converter
from agebench.errors import UsageError, WeightsError, suggestion
from agebench.estimators.age_ranges import age_bins
from agebench.estimators.common import ChannelOrder, InputFormat
from agebench.estimators.crop_names import CROPS, Border
from agebench.estimators.spec_output import AgeScale, Kind, OrdinalForm, Rule
from agebench.estimators.toml_reader import read_toml
from agebench.types import MAX_AGE_YEARS, AgeBins, LabelKind, ViewSpec
from agebench.util.files import is_sha256
from agebench.util.typed_records import require
from agebench.vision.regions import REGIONS

MAX_SIDE_PX = 4096

_PROBABILITY_RULES = ("expectation", "top2-expectation", "median", "midpoint")
_RULES = {
    "probabilities": _PROBABILITY_RULES,
    "logits": _PROBABILITY_RULES,
    "ordinal": ("expectation", "count"),
    "class": ("midpoint",),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SET = re.compile(r"[a-z0-9][a-z0-9_.-]*")

InputType: TypeAlias = Literal["float32", "float16", "uint8"]


@dataclass(frozen=True, slots=True)
class Files:
    """Table [files]: the model, for some formats its layout, and hashes."""

    model: str
    config: str | None = None
    sha256: str | None = None
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    config_sha256: str | None = None
    converter: Converter | None = None

    def __post_init__(self) -> None:
        for key, value in (
            ("sha256", self.sha256),
            ("config_sha256", self.config_sha256),
            *((f"data_sha256.{name}", value) for name, value in self.data_sha256.items()),
        ):
            if value is not None:
                require(is_sha256(value), f"{key} must be 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Table [runtime]: the runtime, unless the command line says otherwise."""

    runtime: Literal["cv2dnn", "onnxruntime"] = "cv2dnn"
    device: Literal["cpu", "cuda", "tensorrt", "opencl"] = "cpu"


@dataclass(frozen=True, slots=True)
class Crop:
    """Table [crop]: the view of the face, as `agebench.types.ViewSpec`.

    A name stands for a region with margins (`crop_names.CROPS`); other keys override them.
    ``stretch`` means that the model's authors stretch faces too.
    """

    size: tuple[int, int]
    name: str | None = None
    region: str | None = None
    times: float | None = None
    margin: float | None = None
    margin_px: float | None = None
    align: bool | None = None
    border: Border | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        require(max(self.size) <= MAX_SIDE_PX, f"size must be at most {MAX_SIDE_PX}")
        require(
            self.name is None or self.name in CROPS,
            f"unknown name {self.name!r}: {suggestion(self.name or '', CROPS)}",
        )
        require(self.name is None or self.region is None, "give a name or a region, not both")
        require(
            self.region in (None, *REGIONS), f"unknown region {self.region!r}: {', '.join(REGIONS)}"
        )
        require(self.times is None or self.margin is None, "give times or margin, not both")
        require(self.times is None or self.times > 0, "times must be above 0")
        self.view()

    def view(self) -> ViewSpec:
        """Return the view."""
        # Without a name it is the canonical frame, which has a face's aspect ratio.
        base = CROPS[self.name or "face"]
        margin = base.margin if self.margin is None else self.margin
        if self.times is not None:
            margin = (self.times - 1) / 2
        return ViewSpec(
            self.region or base.region,
            self.size,
            margin,
            base.margin_px if self.margin_px is None else self.margin_px,
            base.align if self.align is None else self.align,
            self.border or base.border,
        )


@dataclass(frozen=True, slots=True)
class StatedFormat(InputFormat):
    """A file's input format; mean and channel order must be given."""

    channel_order: ChannelOrder
    mean: tuple[float, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Input(StatedFormat):
    """Table [input]: pixels to blob."""

    type: InputType = "float32"

    def __post_init__(self) -> None:
        InputFormat.__post_init__(self)
        plain = self.scale == 1.0 and not any(self.mean) and not self.std
        require(
            self.type != "uint8" or plain,
            "type = 'uint8' takes pixels as they are: mean = [0, 0, 0], no scale and no std",
        )


@dataclass(frozen=True, slots=True)
class Output:
    """Table [output]: which output, which part of it, and the meaning of its numbers."""

    kind: Kind
    name: str = ""
    scale: float = 1.0
    offset: float = 0.0
    index: int | None = None
    slice: tuple[int, int] | None = None
    ordinal: OrdinalForm | None = None

    def __post_init__(self) -> None:
        plain = (self.scale, self.offset) == (1.0, 0.0)
        require(self.kind == "years" or plain, "scale and offset are for kind = 'years' only")
        one = self.kind in ("years", "class")
        require(self.index is None or one, "index selects one number: write slice = [first, end]")
        require(self.slice is None or not one, f"kind = {self.kind!r} takes one number: use index")
        require(self.index is None or self.index >= 0, "index counts from 0")
        first, end = self.slice or (0, 1)
        require(0 <= first < end, "slice must be [first, end]: from 0, end exclusive")
        require(
            (self.kind == "ordinal") == (self.ordinal is not None),
            "kind = 'ordinal' needs ordinal = 'probabilities', 'logits' or 'pairs', and no other "
            "kind takes it",
        )

    @property
    def part(self) -> tuple[int, int] | None:
        """First number, and last plus one; None for all."""
        return self.slice if self.index is None else (self.index, self.index + 1)


@dataclass(frozen=True, slots=True)
class Bins:
    """Table [bins]: one range per number, or one year per number from first to last."""

    ranges: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    years: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self.ages()

    def ages(self) -> AgeScale:
        """Return the bins, ascending without overlap, and the age that represents each."""
        single = self.first is not None and self.last is not None
        partly = self.first is not None or self.last is not None
        require(single == partly, "give both first and last")
        require(single != bool(self.ranges), "give either ranges, or first and last")
        if self.first is not None and self.last is not None:
            in_order = 0 <= self.first <= self.last <= MAX_AGE_YEARS
            require(in_order, f"first and last must be ascending and from 0 to {MAX_AGE_YEARS:g}")
            bins = AgeBins.single_years(self.first, self.last)
            middles = tuple(float(year) for year in bins.midpoints)
        else:
            bins, middles = age_bins(self.ranges)
        if not self.years:
            return AgeScale(bins, middles)
        require(
            len(self.years) == len(bins) and all(0 <= y <= MAX_AGE_YEARS for y in self.years),
            f"years must be one age of 0 to {MAX_AGE_YEARS:g} for each of the {len(bins)} bins",
        )
        require(all(a < b for a, b in pairwise(self.years)), "years must be ascending")
        return AgeScale(bins, self.years)


@dataclass(frozen=True, slots=True)
class Decode:
    """Table [decode]: from probabilities to years."""

    rule: Rule = "expectation"


@dataclass(frozen=True, slots=True)
class Golden:
    """Table [golden]: the age of agebench's test card according to another implementation."""

    years: float
    tolerance_years: float = 0.1

    def __post_init__(self) -> None:
        require(0 < self.tolerance_years <= MAX_AGE_YEARS, "tolerance_years must be above 0")


@dataclass(frozen=True, slots=True)
class About:
    """Table [about]: information for readers of the figures; has no effect on them."""

    what: str = ""
    licence: str = ""
    source: str = ""
    tried: bool = True
    trained_on: str = ""
    trained_sets: tuple[str, ...] = ()
    label_kind: LabelKind = "unknown"
    citation: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.trained_sets:
            require(
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
    golden: Golden | None = None
    about: About = About()

    def __post_init__(self) -> None:
        require(
            _NAME.fullmatch(self.name),
            f"name must be of letters, digits, '_', '.' and '-', got {self.name!r}",
        )
        if self.output.kind == "years":
            require(
                self.bins is None and self.decode is None,
                "[bins] and [decode] must be omitted with output.kind = 'years'",
            )
        else:
            require(self.bins, f"[bins] is missing: output.kind = {self.output.kind!r} needs it")
            self._check_rule()

    def _check_rule(self) -> None:
        kind, rules = self.output.kind, _RULES[self.output.kind]
        require(
            self.decode is None or self.decode.rule in rules,
            f"decode.rule must be one of {', '.join(rules) or 'none'} for output.kind = {kind!r}",
        )


def read_spec(path: Path) -> SpecFile:
    """Read and check a spec file; the model is not opened.

    Raises:
        UsageError: it can't be read or is invalid; the message names the file and the key.
    """
    return read_toml(path, SpecFile)


def file_beside(spec_path: Path, name: str, key: str) -> Path:
    """Return the file that a spec names, which must be in the spec's folder or below.

    A spec file may come from an untrusted source: it must not access other files.

    Args:
        spec_path: the spec file.
        name: as in the spec file: relative, with forward slashes.
        key: of the name, for errors.

    Raises:
        UsageError: the file is outside of the folder.
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
            raise UsageError(f"{outside}, which is a link to a file outside of it")
        if not path.is_file():
            raise WeightsError(f"{spec_path}: {key} names {name!r}, but {path} is not a file")
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        raise UsageError(f"{spec_path}: {key} can't be read: {error}") from error
    return path
