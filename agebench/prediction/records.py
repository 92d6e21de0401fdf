"""The result for a picture's faces, and its line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agebench.types import Face, frozen_mapping, plain
from agebench.vision.faces import PictureStatus

INTERVAL_LEVEL = 0.8
"""Fraction of people that the displayed interval should contain."""


def add_times(total: dict[str, float], stage_ms: Mapping[str, float]) -> None:
    """Add the time of each stage to `total`, milliseconds."""
    for stage, spent in stage_ms.items():
        total[stage] = total.get(stage, 0.0) + spent


@dataclass(frozen=True, slots=True)
class AgeAnswer:
    """One estimator's result for one face.

    Attributes:
        years: age, 0 to 120; None if it failed, with the `reason`.
        interval_80: central interval with 80 % of its distribution, years; None if the estimator
            gives no distribution.
        reason: why there is no age; "" if there is one.
    """

    years: float | None
    interval_80: tuple[float, float] | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The displayed age: "36 (28-45)", "36", or "?"."""
        if self.years is None:
            return "?"
        if self.interval_80 is None:
            return f"{self.years:.0f}"
        low, high = self.interval_80
        return f"{self.years:.0f} ({low:.0f}-{high:.0f})"


@dataclass(frozen=True, slots=True)
class PredictedFace:
    """One face with the results of every estimator.

    Attributes:
        face: box, landmarks and score from the detector.
        ages: by estimator, in order.
        track: the person's number in a video, from 1; None in a picture.
    """

    face: Face
    ages: Mapping[str, AgeAnswer]
    track: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ages", frozen_mapping(self.ages))

    @property
    def years(self) -> float | None:
        """Age by the first estimator, years; None if it failed."""
        return next(iter(self.ages.values())).years

    @property
    def interval_80(self) -> tuple[float, float] | None:
        """Interval of 80 % by the first estimator, years; None if it gives none."""
        return next(iter(self.ages.values())).interval_80

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible values; numbers are not rounded."""
        content = {**plain(self.face), "ages": plain(self.ages)}
        return content if self.track is None else {"track": self.track, **content}


@dataclass(frozen=True, slots=True)
class PredictedPicture:
    """One picture with its faces, best detector score first.

    Attributes:
        name: its path, or "" for an array.
        detector: reference of the detector.
        estimators: their names in `PredictedFace.ages`.
        size_hw: height and width in pixels; None if it could not be read.
        faces: empty if there is none.
        status: "ok", also without any face; otherwise the failed step ("estimator_failed" if no
            face has an age from any estimator).
        reason: the failure in a sentence; "" for "ok".
        stage_ms: time of "decode", "detect", "crop" and "infer"; not part of the JSON.
    """

    name: str
    detector: str
    estimators: tuple[str, ...]
    size_hw: tuple[int, int] | None = None
    faces: tuple[PredictedFace, ...] = ()
    status: PictureStatus = "ok"
    reason: str = ""
    stage_ms: Mapping[str, float] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible values; numbers are not rounded."""
        return {
            "picture": self.name,
            "status": self.status,
            "reason": self.reason,
            "size_hw": plain(self.size_hw),
            "detector": self.detector,
            "estimators": list(self.estimators),
            "faces": [face.to_json() for face in self.faces],
        }

    def to_line(self) -> str:
        """Return it as one line of JSON, without a line end."""
        return to_line(self.to_json())


def to_line(record: Mapping[str, Any]) -> str:
    """Return the JSON of a picture, or of a video's frame, as one line without a line end."""
    return json.dumps(record, allow_nan=False, separators=(",", ":"))
