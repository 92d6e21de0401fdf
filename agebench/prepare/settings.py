"""Settings of `prepare`, and the views that result from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from agebench.errors import UsageError, suggestion
from agebench.prepare.groups import parse_groups
from agebench.types import CropSpec, FaceFrame, ViewSpec, plain
from agebench.vision.images import MAX_PIXELS
from agebench.vision.regions import REGIONS

FacesKept: TypeAlias = Literal["largest", "all"]
LandmarksFrom: TypeAlias = Literal["detector", "dataset"]

DEFAULT_VIEWS = ("face", "eyes", "eye_left", "eye_right", "mouth")
WHOLE_FACE = ("face", "aligned")

MAX_HEIGHT_PX = 4096


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """Settings of `prepare`; all but `processes` determine the output.

    Attributes:
        views: regions to cut; the whole picture is always included as ``original_image``.
        groups: "adience", "decades" or custom ranges, see `groups.parse_groups`.
        faces: the largest face of each picture, or all; the label is for the largest.
        landmarks: from the detector, or the data set's own where a picture has them.
        height: of the whole face's crop, pixels; parts have half the height, which shows them about
            1.4 times larger than the face's crop does.  Widths follow the regions' proportions.
        margin: added on every side of the whole face, as a fraction of its sides.
        align: rotate crops upright by the face's roll.
        max_outside: a view is missing if more than this fraction of it is outside of the picture.
        processes: number of processes.
        limit: only the first pictures by name; None for all.
        sample: only this many pictures, drawn at random with `seed`; None for all.
        seed: of the sample.
        max_pixels: larger pictures are refused.

    Raises:
        UsageError: a value is out of range, or a view or group is unknown.
    """

    views: tuple[str, ...] = DEFAULT_VIEWS
    groups: str = "adience"
    faces: FacesKept = "largest"
    landmarks: LandmarksFrom = "detector"
    height: int = 256
    margin: float = 0.0
    align: bool = True
    max_outside: float = 0.5
    processes: int = 1
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        self._check_views()
        parse_groups(self.groups)
        for name, choices in (("faces", FacesKept), ("landmarks", LandmarksFrom)):
            known = get_args(choices)
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if self.faces == "all" and self.landmarks == "dataset":
            raise UsageError("the data set's landmarks are of one face: leave out --faces all")
        if self.limit is not None and self.sample is not None:
            raise UsageError("limit and sample exclude each other: give one of them")
        self._check_range("height", 16, MAX_HEIGHT_PX)
        self._check_range("margin", -0.4, 2.0)
        self._check_range("max_outside", 0.0, 1.0)
        self._check_range("processes", 1, 256)
        for name, low in (("limit", 1), ("sample", 1), ("seed", 0), ("max_pixels", 1)):
            self._check_range(name, low, math.inf)

    def _check_range(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            wanted = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise UsageError(f"{name} must be {wanted}, got {value}")

    def _check_views(self) -> None:
        if not self.views:
            raise UsageError("prepare needs at least one view, such as face")
        for view in self.views:
            if view == "original":
                raise UsageError(
                    "the whole picture is always kept (original_image): remove it from the list"
                )
            if view not in REGIONS:
                raise UsageError(f"unknown view {view!r}: {suggestion(view, REGIONS)}")
            if self.views.count(view) > 1:
                raise UsageError(f"view {view!r} is given twice: give it once")

    def crop_spec(self) -> CropSpec:
        """Return the views with their sizes."""
        return CropSpec({view: self._view_spec(view) for view in self.views})

    def _view_spec(self, view: str) -> ViewSpec:
        region = REGIONS[view](FaceFrame((0.0, 0.0), 1000.0), (1, 1))
        whole = view in WHOLE_FACE
        height = self.height if whole else round(self.height / 2)
        return ViewSpec(
            region=view,
            size_hw=(height, round(height * region.width / region.height)),
            margin=self.margin if whole else 0.0,
            align=self.align,
            border="replicate",
            max_outside=self.max_outside,
        )

    def decisive(self) -> Mapping[str, Any]:
        """Return the settings that determine the output, as JSON-compatible values."""
        content: dict[str, Any] = plain(self)
        del content["processes"]
        content["groups"] = list(parse_groups(self.groups).labels)
        return content
