"""The metadata of an exported age estimator in its ONNX file.

Four properties with one prefix: ``agebench.format`` (an integer), ``agebench.kind``,
``agebench.version`` (of the program that wrote it) and ``agebench.spec``, a JSON object with the
fields of `FileSpec`.  The file is self-contained: docs/export.md explains each key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypeVar

from agebench import __version__
from agebench.errors import ModelError
from agebench.types import MAX_AGE_YEARS, AgeBins, CropSpec, LabelKind, ViewSpec, WeightsFile, plain
from agebench.util.files import is_sha256
from agebench.util.typed_records import read_dataclass, require

PREFIX = "agebench."
FORMAT = 1
"""Increased when a reader of the old format would misunderstand the new one."""

MAX_SPEC_BYTES = 1 << 20
MAX_SIDE_PX = 4096
MAX_VIEWS = 16
MAX_BINS = 1024

PRESENT = "present"
"""The input that says which views are present: float32 (n, views, 1, 1) of 0 and 1.

It has four axes, because cv2.dnn 4.x does not support an open batch size for other inputs.
"""

AGE = "age"
PROBABILITIES = "probabilities"

Kind: TypeAlias = Literal["age-estimator", "face-detector"]
Decode: TypeAlias = Literal["expectation", "median", "midpoint"]
Precision: TypeAlias = Literal["float32", "float16-weights", "float16", "int8"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_Spec = TypeVar("_Spec")


@dataclass(frozen=True, slots=True)
class FileView:
    """One view, as `agebench.types.ViewSpec`, and the input that takes it."""

    name: str
    region: str
    size_hw: tuple[int, int]
    margin: float = 0.0
    margin_px: float = 0.0
    align: bool = False
    border: Literal["replicate", "constant", "clip"] = "replicate"
    max_outside: float = 1.0

    def __post_init__(self) -> None:
        require(_NAME.fullmatch(self.name), f"a view can't be called {self.name!r}")
        require(self.name not in (PRESENT, AGE, PROBABILITIES), f"{self.name!r} is taken")
        require(max(self.size_hw) <= MAX_SIDE_PX, f"a side must be at most {MAX_SIDE_PX} px")
        self.view()

    def view(self) -> ViewSpec:
        """Return the view to cut."""
        return ViewSpec(
            self.region,
            self.size_hw,
            self.margin,
            self.margin_px,
            self.align,
            self.border,
            self.max_outside,
        )


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the model was made from."""

    file: str
    sha256: str
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        require(is_sha256(self.sha256), "sha256 must be 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class FileSpec:
    """The preprocessing and decoding of an exported estimator, and information for its users.

    Attributes:
        name: of the estimator.
        views: to cut of each face, one input each, in the order of the input `PRESENT`.
        missing: "refused", or "learned" if the model can do without a view and the file has the
            input `PRESENT`.
        bins: first and last year of each probability, ascending.
        bin_years: the age that represents each bin in the decoding.
        decode: how the graph computes `AGE` from `PROBABILITIES`.
        classes: the bins are age classes for which exact and one-off accuracy are reported.
        precision: of the weights and of the computation with them.
        channel_order, layout, pixels: the views' inputs: float32 (n, 3, height, width), B, G, R, 0
        to
            255.  Normalisation is inside the graph.
        normalisation: of pixels in the graph, in words.
        mirrored: the probabilities are the mean of those of the picture and its mirror image.
        mirrored_views: the views that are mirrored for it, if not all are.
        sources: the files from which it was exported.
        trained_on, trained_sets, label_kind: as in `EstimatorSpec`.
        licence, source, citation, notes: as in `EstimatorSpec`.

    Raises:
        ValueError: a value is out of range or contradicts another one.
    """

    name: str
    views: tuple[FileView, ...]
    bins: tuple[tuple[int, int], ...]
    bin_years: tuple[float, ...]
    decode: Decode
    licence: str
    trained_on: str
    label_kind: LabelKind
    sources: tuple[SourceFile, ...]
    missing: Literal["refused", "learned"] = "refused"
    classes: bool = False
    precision: Precision = "float32"
    channel_order: Literal["bgr"] = "bgr"
    layout: Literal["nchw"] = "nchw"
    pixels: Literal["0..255"] = "0..255"
    normalisation: str = ""
    mirrored: bool = False
    mirrored_views: tuple[str, ...] = ()
    source: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()
    trained_sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(_NAME.fullmatch(self.name), f"an estimator can't be called {self.name!r}")
        require(0 < len(self.views) <= MAX_VIEWS, f"expected 1 to {MAX_VIEWS} views")
        names = [view.name for view in self.views]
        require(len(set(names)) == len(names), f"two views have the same name: {', '.join(names)}")
        require(self.missing == "refused" or len(names) > 1, "a single view can't be missing")
        require(0 < len(self.bins) <= MAX_BINS, f"expected 1 to {MAX_BINS} bins")
        require(
            all(0 <= low <= high <= MAX_AGE_YEARS for low, high in self.bins)
            and all(one[1] < two[0] for one, two in pairwise(self.bins)),
            f"bins must be ascending ranges within 0..{MAX_AGE_YEARS:g} years",
        )
        require(
            len(self.bin_years) == len(self.bins)
            and all(0 <= years <= MAX_AGE_YEARS for years in self.bin_years),
            f"bin_years must be one age of 0..{MAX_AGE_YEARS:g} years per bin",
        )

    @property
    def crop(self) -> CropSpec:
        """The views by name."""
        return CropSpec({view.name: view.view() for view in self.views})

    @property
    def age_bins(self) -> AgeBins:
        """The bins as `AgeBins`."""
        return AgeBins(tuple(low for low, _ in self.bins), tuple(high for _, high in self.bins))

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input by name, without the batch."""
        shapes: dict[str, tuple[int, ...]] = {view.name: (3, *view.size_hw) for view in self.views}
        if self.missing == "learned":
            shapes[PRESENT] = (len(self.views), 1, 1)
        return shapes

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output by name, without the batch."""
        return {AGE: (1,), PROBABILITIES: (len(self.bins),)}


def views_of(crop: CropSpec) -> tuple[FileView, ...]:
    """Return the views of a `CropSpec` for a file."""
    return tuple(FileView(name=name, **plain_view(view)) for name, view in crop.views.items())


def plain_view(view: ViewSpec) -> dict[str, Any]:
    """Return a view's settings by name."""
    return {name: getattr(view, name) for name in view.__dataclass_fields__}


def sources_of(files: Sequence[WeightsFile]) -> tuple[SourceFile, ...]:
    """Return weights files for the metadata of an exported file."""
    return tuple(SourceFile(item.file, item.sha256, item.licence, item.source) for item in files)


def to_properties(spec: object, kind: Kind = "age-estimator") -> dict[str, str]:
    """Return the properties for `spec`, a dataclass."""
    return {
        PREFIX + "format": str(FORMAT),
        PREFIX + "kind": kind,
        PREFIX + "version": __version__,
        PREFIX + "spec": json.dumps(plain(spec), ensure_ascii=False, sort_keys=True),
    }


def from_properties(
    properties: Mapping[str, str], where: str, spec: type[_Spec], kind: Kind = "age-estimator"
) -> _Spec:
    """Read the spec from a file's properties.

    Args:
        properties: all of the file, including those of other programs.
        where: the file, for errors.
        spec: the dataclass to read.
        kind: what the file is expected to be.

    Raises:
        ModelError: they are missing, have another format, or are invalid.
    """
    own = {name: text for name, text in properties.items() if name.startswith(PREFIX)}
    wanted = tuple(PREFIX + name for name in ("format", "kind", "spec"))
    lacking = [name for name in wanted if name not in own]
    if len(lacking) == len(wanted):
        raise ModelError(
            f"{where} is an ONNX file without agebench's metadata, so its crops and bins are "
            "unknown: describe it in a spec file and use 'spec:FILE.toml', or write it "
            "with 'agebench export-onnx'"
        )
    if lacking:
        raise ModelError(f"{where}: its metadata lacks {', '.join(lacking)}: export it again")
    if own[PREFIX + "format"] != str(FORMAT):
        raise ModelError(
            f"{where}: its metadata is of format {own[PREFIX + 'format']!r:.40}, this agebench "
            f"reads format {FORMAT}: export it again, or use the agebench that wrote it "
            f"({own.get(PREFIX + 'version', 'unknown')!r:.40})"
        )
    if own[PREFIX + "kind"] != kind:
        raise ModelError(f"{where} has the kind {own[PREFIX + 'kind']!r:.40}, expected {kind!r}")
    return _parse(own[PREFIX + "spec"], where, spec)


def _parse(text: str, where: str, spec: type[_Spec]) -> _Spec:
    if len(text) > MAX_SPEC_BYTES:
        raise ModelError(f"{where}: its metadata has more than {MAX_SPEC_BYTES:,} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: its metadata is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{where}: its metadata must be a JSON object, got {text!r:.60}")
    try:
        return read_dataclass(values, spec)
    except ValueError as error:
        raise ModelError(f"{where}: its metadata is invalid: {error}") from error
