"""What the accuracy pass notes down: one record per picture, one outcome per estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agebench.types import Box, Sample

ImageStatus: TypeAlias = Literal["ok", "no_face", "unreadable", "detector_failed", "crop_failed"]
OutcomeStatus: TypeAlias = Literal["ok", "missing_view", "estimator_failed"]

ProgressStep: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of the pass, the steps done and the steps in all."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one estimator said of one picture.

    Attributes:
        status: "ok", or why there is no age.
        years: predicted age; None unless ok.
        class_index: most probable of the estimator's classes; None without classes.
        outside: largest share of one of its crops that lies outside the picture, 0 to 1.
        reason: what went wrong, in a sentence.
    """

    status: OutcomeStatus
    years: float | None = None
    class_index: int | None = None
    outside: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class ImageRecord:
    """What became of one picture.

    Attributes:
        sample: name and labels.
        status: "ok", or why no estimator could be asked.
        sha256: of the file's bytes; "" where it could not be read.
        faces: number of faces found.
        box_xyxy, score: the face that was used, the largest.
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
    frame_from: str = ""
    reason: str = ""
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def status_of(self, estimator: int) -> str:
        """Return why this picture has no prediction of that estimator, or "ok"."""
        return self.status if self.status != "ok" else self.outcomes[estimator].status
