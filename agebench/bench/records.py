"""What the accuracy pass notes down: one record per picture, one outcome per estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agebench.types import Box, Point, Sample

ImageStatus: TypeAlias = Literal["ok", "no_face", "unreadable", "detector_failed", "crop_failed"]
OutcomeStatus: TypeAlias = Literal["ok", "missing_view", "estimator_failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one estimator said of one picture.

    Attributes:
        status: "ok", or why there is no age.
        years: predicted age; None unless ok.
        class_index: most probable of the estimator's classes; None without classes.
        outside: largest share of one of its crops that lies outside the picture, 0 to 1.
        reason: what went wrong, in a sentence.
        nll, crps_years, pit: of the distribution against the true age, as in
            `agebench.calibration.DistributionScores`; None without a distribution or a true age.
        interval_50, interval_80, interval_95: years between which the middle 50, 80 and 95 % of
            the distribution lie; None without one.
    """

    status: OutcomeStatus
    years: float | None = None
    class_index: int | None = None
    outside: float = 0.0
    reason: str = ""
    nll: float | None = None
    crps_years: float | None = None
    pit: float | None = None
    interval_50: tuple[float, float] | None = None
    interval_80: tuple[float, float] | None = None
    interval_95: tuple[float, float] | None = None


@dataclass(slots=True)
class ImageRecord:
    """What became of one picture.

    Attributes:
        sample: name and labels.
        status: "ok", or why no estimator could be asked.
        sha256: of the file's bytes; "" where it could not be read.
        faces: number of faces found.
        box_xyxy, score: the face that was used, the largest.
        landmarks_xy, landmark_scheme: of that face, as `agebench.types.Face` has them.
        frame_from: what its canonical frame was computed from.
        reason: what went wrong, in a sentence.
        outcomes: by the estimator's position.
    """

    sample: Sample
    status: ImageStatus = "ok"
    sha256: str = ""
    faces: int = 0
    box_xyxy: Box | None = None
    score: float | None = None
    landmarks_xy: tuple[Point, ...] = ()
    landmark_scheme: str = ""
    frame_from: str = ""
    reason: str = ""
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def status_of(self, estimator: int) -> str:
        """Return why this picture has no prediction of that estimator, or "ok"."""
        return self.status if self.status != "ok" else self.outcomes[estimator].status
