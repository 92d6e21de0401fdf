"""An estimator and a detector for agebench, in a package of their own.

Neither is any good; both are whole.  docs/extending.md says what each part is for.
"""

from __future__ import annotations

import numpy as np

from agebench import (
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    DetectorSpec,
    EstimatorSpec,
    Face,
    ViewSpec,
)
from agebench.errors import UsageError
from agebench.protocols import BoxToFrame
from agebench.types import Image

YEARS = AgeBins.single_years(0, 100)


class Contrast:
    """The more contrast in a face, the older: an estimator with a distribution.

    Args:
        spread: standard deviation of its distribution in years, 0.5 to 30.

    Raises:
        UsageError: `spread` is out of range.
    """

    def __init__(self, spread: float = 8.0) -> None:
        if not 0.5 <= spread <= 30.0:
            raise UsageError(f"example-contrast: spread must be 0.5..30 years, got {spread}")
        self._spread = spread
        self._spec = EstimatorSpec(
            name="example-contrast",
            crop=CropSpec({"face": ViewSpec("face", size_hw=(48, 36))}),
            decode="expectation",
            bins=YEARS,
            settings={"spread": spread},
            licence="Apache-2.0",
            notes=("an example: it knows nothing of ages",),
        )

    @property
    def spec(self) -> EstimatorSpec:
        """What it is."""
        return self._spec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age and a distribution over single years for each face."""
        return [self._answer(face) for face in crops.views["face"]]

    def _answer(self, face_bgr: Image) -> AgePrediction:
        centre = float(np.clip(face_bgr.std(), 0.0, 100.0))
        weights = np.exp(-0.5 * ((YEARS.midpoints - centre) / self._spread) ** 2)
        shares = weights / weights.sum()
        return AgePrediction(float(shares @ YEARS.midpoints), shares)


class Middle:
    """Says that one face fills the middle of every picture: a detector without landmarks.

    Args:
        share: height of the face over that of the picture, above 0 up to 1.

    Raises:
        UsageError: `share` is out of range.
    """

    def __init__(self, share: float = 0.6) -> None:
        if not 0.0 < share <= 1.0:
            raise UsageError(f"example-middle: share must be above 0 up to 1, got {share}")
        self._share = share
        self._spec = DetectorSpec(
            name="example-middle",
            box_to_frame=BoxToFrame(),  # its boxes are the canonical frame: forehead to chin
            settings={"share": share},
            licence="Apache-2.0",
        )

    @property
    def spec(self) -> DetectorSpec:
        """What it is."""
        return self._spec

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """Return one face of score 1, a little higher than wide."""
        height, width = image_bgr.shape[:2]
        x, y = (width - 1) / 2, (height - 1) / 2
        half_y = self._share * height / 2
        half_x = min(0.76 * half_y, width / 2)
        return [Face((x - half_x, y - half_y, x + half_x, y + half_y), 1.0)]
