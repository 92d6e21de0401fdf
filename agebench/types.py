"""Frozen values that the subpackages exchange: faces, frames, crops, ages, samples.

All coordinates are in pixels of the upright picture, x to the right and y down, with the centre
of the top-left pixel at (0, 0).  All pictures are uint8 arrays of shape (height, width, 3) in
B, G, R order.
"""

from __future__ import annotations

import copyreg
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]
Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]
Setting: TypeAlias = str | int | float | bool | None

_Value = TypeVar("_Value")
_Array = TypeVar("_Array", bound=npt.NDArray[Any])

MAX_AGE_YEARS = 120.0
"""Upper limit of predictions and labels; the oldest person on record reached 122."""

FIVE_POINTS = "5-point"
"""Landmark scheme: eyes, nose tip, mouth corners; of a pair, the left one in the image first."""

FGNET_68_POINTS = "fgnet-68"
"""Landmark scheme of FG-NET's own .pts files; not the order of iBUG's 68 points."""

IBUG_68_POINTS = "ibug-68"
"""Landmark scheme of iBUG 300-W (Sagonas et al. 2013), used by dlib and many others."""

IBUG_49_POINTS = "ibug-49"
"""`IBUG_68_POINTS` without the 17 points of the jaw and the two inner mouth corners."""

LANDMARK_COUNTS: Mapping[str, int] = MappingProxyType(
    {FIVE_POINTS: 5, FGNET_68_POINTS: 68, IBUG_68_POINTS: 68, IBUG_49_POINTS: 49}
)

LabelKind: TypeAlias = Literal["birth-age", "apparent", "dex-estimated", "unknown"]
"""How a true age was determined: from a date of birth, by people's guesses, by the DEX network."""

LABEL_KINDS: tuple[LabelKind, ...] = ("birth-age", "apparent", "dex-estimated", "unknown")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _all_finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _path(value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"expected the path of a file, got {value!r}")
    return Path(value)


_EMPTY: Mapping[str, Any] = MappingProxyType({})


def frozen_mapping(values: Mapping[str, _Value]) -> Mapping[str, _Value]:
    """Return a read-only copy of `values`; empty ones, as of most samples, share one object."""
    return MappingProxyType(dict(values)) if values else _EMPTY


def _stored(values: MappingProxyType[str, Any]) -> tuple[Any, ...]:
    return frozen_mapping, (dict(values),)


# Values travel between processes and are copied, and Python can do neither with a read-only
# mapping.  Registered for the type, since values of many modules hold one.
copyreg.pickle(MappingProxyType, _stored)


@dataclass(frozen=True, slots=True)
class Face:
    """A face found by a detector.

    Attributes:
        box_xyxy: left, top, right, bottom in pixels; may extend beyond the picture.  Arrays and
            lists, also of `landmarks_xy`, become tuples.
        score: the detector's own confidence, 0 to 1.
        landmarks_xy: points in the order of `landmark_scheme`; empty if there are none.
        landmark_scheme: a key of `LANDMARK_COUNTS`, or "" without landmarks.

    Raises:
        ValueError: a number is not finite, the box is empty, or the points do not fit the scheme.
    """

    box_xyxy: Box
    score: float
    landmarks_xy: tuple[Point, ...] = ()
    landmark_scheme: str = ""

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.box_xyxy), tuple):  # an array or a list
            object.__setattr__(self, "box_xyxy", tuple(map(float, self.box_xyxy)))
        if not isinstance(cast("object", self.landmarks_xy), tuple):
            points = tuple(tuple(map(float, point)) for point in self.landmarks_xy)
            object.__setattr__(self, "landmarks_xy", points)
        _require(len(self.box_xyxy) == 4, f"box must be 4 numbers, got {self.box_xyxy}")
        _require(_all_finite(self.box_xyxy), f"box must be finite, got {self.box_xyxy}")
        left, top, right, bottom = self.box_xyxy
        _require(right > left and bottom > top, f"box must not be empty, got {self.box_xyxy}")
        _require(0.0 <= self.score <= 1.0, f"score must be in 0..1, got {self.score}")
        if self.landmark_scheme:
            expected = LANDMARK_COUNTS.get(self.landmark_scheme, len(self.landmarks_xy))
            _require(
                len(self.landmarks_xy) == expected,
                f"{self.landmark_scheme} needs {expected} points, got {len(self.landmarks_xy)}",
            )
        else:
            _require(not self.landmarks_xy, "landmarks need a landmark_scheme")
        _require(all(map(_all_finite, self.landmarks_xy)), "landmarks must be finite")

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box_xyxy
        return (right - left) * (bottom - top)


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """The canonical frame of a face: its position, size and roll.

    The output of every detector is mapped to this frame (`agebench.vision.frames`), and all crops
    are cut from it, so that a crop does not depend on which detector found the face.

    Attributes:
        center_xy: centre of the frame, pixels.
        height: forehead to chin, pixels; the width is `vision.frames.FRAME_ASPECT` times this.
        roll_rad: clockwise rotation of the face in the picture, radians; 0 if unknown.
        found_by: what it was computed from: "landmarks", "box", or "layout" (aligned chips).
        points_xy: eyes, nose tip and mouth corners (scheme `FIVE_POINTS`) as they were found;
            empty if they are taken from the frame's proportions.
        box_xyxy: the detector's box, only for the region "box"; None if no detector was used.
    """

    center_xy: Point
    height: float
    roll_rad: float = 0.0
    found_by: Literal["landmarks", "box", "layout"] = "box"
    points_xy: tuple[Point, ...] = ()
    box_xyxy: Box | None = None

    def __post_init__(self) -> None:
        finite = _all_finite((*self.center_xy, self.height, self.roll_rad))
        _require(finite and self.height > 0, f"frame must be finite and not empty, got {self}")
        _require(len(self.points_xy) in (0, 5), f"a frame has 5 points or none, got {self}")
        _require(all(map(_all_finite, self.points_xy)), "the frame's points must be finite")


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """One rectangle that an estimator uses of each face.

    Attributes:
        region: which part: "face" is the canonical frame, "original" the whole picture
            (`agebench.vision.regions.REGIONS` lists them).
        size_hw: height and width of the crop passed to the estimator, pixels.
        margin: added on every side, as a fraction of the region's width and height.
        margin_px: added on every side after `margin`, in pixels of the picture.
        align: rotate the crop upright by the frame's roll.
        border: how pixels outside the picture are filled: "replicate" the edge, "constant" black,
            or "clip" the rectangle to the picture before it is resized; "slice", only for the
            region "box", cuts and resizes as OpenCV's tutorials do (`vision.crops`).
        max_outside: the view counts as missing if a larger fraction of it (0 to 1) lies outside.
    """

    region: str = "face"
    size_hw: tuple[int, int] = (224, 224)
    margin: float = 0.0
    margin_px: float = 0.0
    align: bool = False
    border: Literal["replicate", "constant", "clip", "slice"] = "replicate"
    max_outside: float = 1.0

    def __post_init__(self) -> None:
        _require(min(self.size_hw) >= 1, f"size must be at least 1x1, got {self.size_hw}")
        _require(
            -0.5 < self.margin <= 10, f"margin must be above -0.5 and at most 10, got {self.margin}"
        )
        _require(
            abs(self.margin_px) <= 10_000, f"margin_px is limited to 10,000, got {self.margin_px}"
        )
        _require(
            0.0 <= self.max_outside <= 1.0, f"max_outside must be in 0..1, got {self.max_outside}"
        )
        clipped = self.border in {"clip", "slice"}
        _require(
            not (self.align and clipped),
            "an aligned crop can't be clipped: use the border 'replicate' or 'constant'",
        )
        _require(
            self.border != "slice" or (self.region == "box" and self.margin == 0),
            "border 'slice' is only for the region 'box' with a margin in pixels",
        )


@dataclass(frozen=True, slots=True)
class CropSpec:
    """The views of an estimator, by name."""

    views: Mapping[str, ViewSpec] = field(default_factory=lambda: {"face": ViewSpec()})

    def __post_init__(self) -> None:
        _require(bool(self.views), "a crop spec needs at least one view")
        object.__setattr__(self, "views", frozen_mapping(self.views))


def read_only(array: _Array) -> _Array:
    """Return a read-only view of the array, without copying."""
    view: _Array = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The views of n faces, cut according to one `CropSpec`.

    Attributes:
        views: per view name a uint8 array of shape (n, height, width, 3), B, G, R.
        present: per view name a bool array of shape (n,); False where the view is missing.  The
            pixels of a missing view are zero and mean nothing.
        outside: per view name the fraction (0 to 1) of each crop that lies outside the picture.

    Raises:
        ValueError: shapes or dtypes differ from the above.
    """

    views: Mapping[str, Image]
    present: Mapping[str, npt.NDArray[np.bool_]]
    outside: Mapping[str, Floats]

    def __post_init__(self) -> None:
        _require(bool(self.views), "crops need at least one view")
        lengths = set()
        for name, pixels in self.views.items():
            if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
                # Composed only now: names of dtypes take longer than all other checks.
                got = f"{pixels.dtype} {pixels.shape}"
                raise ValueError(f"view {name!r} must be uint8 (n, h, w, 3), got {got}")
            lengths |= {len(pixels), len(self.present[name]), len(self.outside[name])}
        _require(len(lengths) == 1, f"all views must hold the same number of faces, got {lengths}")
        for attribute in ("views", "present", "outside"):
            # Estimators share them: if one wrote into its input, the ages of others would change.
            arrays = {name: read_only(array) for name, array in getattr(self, attribute).items()}
            object.__setattr__(self, attribute, frozen_mapping(arrays))

    def __len__(self) -> int:
        return len(next(iter(self.views.values())))

    def take(self, index: slice | npt.NDArray[np.intp]) -> Crops:
        """Return the crops of some of the faces, in the order of `index`."""
        return Crops(
            {name: pixels[index] for name, pixels in self.views.items()},
            {name: flags[index] for name, flags in self.present.items()},
            {name: fractions[index] for name, fractions in self.outside.items()},
        )

    def without(self, view: str) -> Crops:
        """Return the same crops with `view` of all faces black and marked as missing."""
        views, present = dict(self.views), dict(self.present)
        views[view] = np.zeros_like(views[view])
        present[view] = np.zeros_like(present[view])
        return Crops(views, present, self.outside)

    @staticmethod
    def join(parts: Sequence[Crops]) -> Crops:
        """Return one `Crops` with the faces of all `parts`, in order."""
        _require(bool(parts), "nothing to join")
        names = parts[0].views
        return Crops(
            {name: np.concatenate([part.views[name] for part in parts]) for name in names},
            {name: np.concatenate([part.present[name] for part in parts]) for name in names},
            {name: np.concatenate([part.outside[name] for part in parts]) for name in names},
        )


@dataclass(frozen=True, slots=True)
class AgeBins:
    """Age classes as closed ranges of completed years: (25, 32) includes 25.0 up to below 33.

    >>> AgeBins((0, 4), (2, 6)).labels
    ('0-2', '4-6')
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(len(self.lows) == len(self.highs) > 0, "bins need as many lows as highs")
        pairs = list(zip(self.lows, self.highs, strict=True))
        _require(all(0 <= low <= high for low, high in pairs), f"bins must be ranges, got {pairs}")

    @staticmethod
    def single_years(first: int, last: int) -> AgeBins:
        """Return one bin per year from `first` to `last`, both included."""
        years = tuple(range(first, last + 1))
        return AgeBins(years, years)

    def __len__(self) -> int:
        return len(self.lows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The bins as text: "25-32", or "7" for a single year."""
        pairs = zip(self.lows, self.highs, strict=True)
        return tuple(str(low) if low == high else f"{low}-{high}" for low, high in pairs)

    @property
    def midpoints(self) -> Floats:
        """Middle of each bin in years, float64 of shape (bins,)."""
        edges = np.array([self.lows, self.highs], dtype=np.float64)
        middle: Floats = edges.mean(axis=0)
        return middle


@dataclass(frozen=True, slots=True, eq=False)
class AgePrediction:
    """An estimator's prediction for one face.

    Attributes:
        years: age in years, finite, 0 to `MAX_AGE_YEARS`.
        probabilities: float64 of shape (bins,), non-negative, summing to 1, over the bins of the
            estimator's spec; None if the model predicts no distribution.

    Raises:
        ValueError: a number is outside of the above.
    """

    years: float
    probabilities: Floats | None = None

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.years) and 0.0 <= self.years <= MAX_AGE_YEARS,
            f"age must be 0..{MAX_AGE_YEARS:g} years, got {self.years}",
        )
        if self.probabilities is not None:
            values = np.array(self.probabilities, dtype=np.float64)
            valid = values.ndim == 1 and bool(np.all(values >= 0)) and abs(values.sum() - 1) < 1e-3
            _require(valid, "probabilities must be non-negative and sum to 1")
            values.flags.writeable = False
            object.__setattr__(self, "probabilities", values)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture of a data set.

    Attributes:
        path: the picture's file; text becomes a path.
        name: its name within the data set: relative, with forward slashes; unique.
        age_years: true age; None if only a range is known.
        age_range: first and last completed year that the label allows; None for a single age.
        identity: the person, if the data set states it.
        attributes: further labels, such as {"gender": "female", "race": "Asian"}.
        landmarks_path: file with this picture's landmarks, if the data set has them.
        box_xyxy: the labelled face, in pixels of the upright picture; None if the label is of
            the whole picture, and so of its largest face.

    Raises:
        ValueError: a path, an age or the box is not one, or an age is out of range.
    """

    path: Path
    name: str
    age_years: float | None
    age_range: tuple[int, int] | None = None
    identity: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    landmarks_path: Path | None = None
    box_xyxy: Box | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.path), PurePath):
            object.__setattr__(self, "path", _path(self.path))
        if self.landmarks_path is not None and not isinstance(
            cast("object", self.landmarks_path), PurePath
        ):
            object.__setattr__(self, "landmarks_path", _path(self.landmarks_path))
        if self.box_xyxy is not None:
            left, top, right, bottom = self.box_xyxy
            sound = _all_finite(self.box_xyxy) and left < right and top < bottom
            _require(sound, f"box must be finite and not empty, got {self.box_xyxy}")
        if self.age_years is not None:
            try:
                valid = math.isfinite(self.age_years) and 0 <= self.age_years <= MAX_AGE_YEARS
            except TypeError:
                raise ValueError(f"age must be a number of years, got {self.age_years!r}") from None
            _require(valid, f"age must be 0..{MAX_AGE_YEARS:g} years, got {self.age_years}")
        if self.age_range is not None:
            low, high = self.age_range
            _require(
                0 <= low <= high <= MAX_AGE_YEARS,
                f"age_range must ascend within 0..120, got {self.age_range}",
            )
        object.__setattr__(self, "attributes", frozen_mapping(self.attributes))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a data set or run that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A model file that was used.

    Attributes:
        file: its name, without folders.
        sha256: of the bytes that were loaded, 64 hex digits.
        licence: the terms stated by its authors; "" if unknown.
        source: where it is from.
        published: whether it has the hash of the file in the manifest.
    """

    file: str
    sha256: str
    licence: str = ""
    source: str = ""
    published: bool = False


_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """Convert a value of this module, or nested ones, to JSON-compatible values.

    A dataclass is converted by its method `to_plain` if it has one, otherwise field by field.

    >>> plain(AgeBins((0,), (2,)))
    {'lows': [0], 'highs': [2]}
    """
    if type(value) in _PLAIN:  # most values; the questions below take longer
        return value
    if hasattr(value, "__dataclass_fields__"):
        if hasattr(value, "to_plain"):
            value = value.to_plain()
        else:
            value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        listed: list[Any] = value.tolist()
        return listed
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
