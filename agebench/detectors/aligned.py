"""aligned: no detection; the picture is an aligned chip, in which the face has a fixed place."""

from __future__ import annotations

from typing import Literal

from agebench.detectors.common import check_choice, check_picture
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.types import Face, Image

LAYOUTS = {
    "utkface": BoxToFrame(-0.002, -0.101, 1.108),  # medians of benchmarks/frames.py
    "tight": BoxToFrame(),
}
"""The canonical frame in a chip."""


class Aligned:
    """One face per picture: the picture itself.

    Args:
        layout: how the chips were cut: "utkface" as UTKFace's 200x200 chips, "tight" as the
            canonical frame itself, forehead to chin.

    Raises:
        UsageError: an unknown layout.
    """

    def __init__(self, *, layout: Literal["utkface", "tight"] = "utkface") -> None:
        check_choice("aligned", "layout", layout, tuple(LAYOUTS))
        self._spec = DetectorSpec(
            name="aligned",
            box_to_frame=LAYOUTS[layout],
            layout=True,
            settings={"layout": layout},
            licence="Apache-2.0",
            source="agebench",
        )

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """Return one face of score 1 whose box is the whole picture, outer edge to outer edge."""
        height, width = check_picture(image_bgr).shape[:2]
        return [Face((-0.5, -0.5, width - 0.5, height - 0.5), 1.0)]
