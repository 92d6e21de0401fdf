"""Tracks faces over the frames of a video by the overlap of their boxes, and smooths ages."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from agebench.errors import UsageError
from agebench.prediction.records import AgeAnswer, PredictedFace
from agebench.types import Box, Face
from agebench.vision.frames import box_iou

LEAST_IOU = 0.3
"""IoU below which two boxes in consecutive sightings are different people."""

MAX_GAP_FRAMES = 10
"""A person who was not seen for more frames than this gets a new number."""

SMOOTHING_FRAMES = 25
"""Number of a person's last sightings that the displayed age is averaged over."""


@dataclass(slots=True)
class _Track:
    number: int
    box_xyxy: Box
    last_frame: int
    seen: dict[str, deque[AgeAnswer]] = field(default_factory=dict)


class Tracker:
    """Numbers faces over frames, from 1; no number is used for two people in one frame.

    Args:
        smoothing: number of sightings that are averaged, at least 1.

    Raises:
        UsageError: `smoothing` is below 1.
    """

    def __init__(self, smoothing: int = SMOOTHING_FRAMES) -> None:
        if smoothing < 1:
            raise UsageError(f"--smoothing must be at least 1, got {smoothing}")
        self._smoothing = smoothing
        self._tracks: list[_Track] = []
        self._count = 0

    @property
    def people(self) -> int:
        """Number of people so far."""
        return self._count

    def update(self, frame: int, faces: Sequence[PredictedFace]) -> list[PredictedFace]:
        """Return the faces of a frame with their numbers and smoothed ages, in the same order.

        Args:
            frame: its index, ascending.
            faces: predicted on this frame.
        """
        self._tracks = [
            track for track in self._tracks if frame - track.last_frame <= MAX_GAP_FRAMES
        ]
        matched = self._match([found.face for found in faces])
        result = []
        for found, old in zip(faces, matched, strict=True):
            track = old or self._new(frame, found.face)
            track.box_xyxy, track.last_frame = found.face.box_xyxy, frame
            result.append(
                PredictedFace(found.face, self._smoothed(track, found.ages), track.number)
            )
        return result

    def _match(self, faces: Sequence[Face]) -> list[_Track | None]:
        """Pair faces and known people so that the sum of the overlaps is maximal."""
        matched: list[_Track | None] = [None] * len(faces)
        if not faces or not self._tracks:
            return matched
        overlap = np.array(
            [[box_iou(face.box_xyxy, track.box_xyxy) for track in self._tracks] for face in faces]
        )
        overlap[overlap < LEAST_IOU] = 0.0
        for row, column in np.transpose(linear_sum_assignment(-overlap)).tolist():
            if overlap[row, column] > 0:
                matched[row] = self._tracks[column]
        return matched

    def _new(self, frame: int, face: Face) -> _Track:
        self._count += 1
        track = _Track(self._count, face.box_xyxy, frame)
        self._tracks.append(track)
        return track

    def _smoothed(self, track: _Track, ages: Mapping[str, AgeAnswer]) -> dict[str, AgeAnswer]:
        smoothed = {}
        for name, answer in ages.items():
            seen = track.seen.setdefault(name, deque(maxlen=self._smoothing))
            if answer.years is not None:
                seen.append(answer)
            smoothed[name] = mean_answer(seen) if seen else answer
        return smoothed


def mean_answer(seen: Sequence[AgeAnswer] | deque[AgeAnswer]) -> AgeAnswer:
    """Return the mean of ages, and of the ends of those that have an interval.

    >>> mean_answer([AgeAnswer(20.0, (10.0, 30.0)), AgeAnswer(24.0, (14.0, 40.0))])
    AgeAnswer(years=22.0, interval_80=(12.0, 35.0), reason='')
    """
    years = float(np.mean([answer.years for answer in seen if answer.years is not None]))
    ends = [answer.interval_80 for answer in seen if answer.interval_80 is not None]
    if not ends:
        return AgeAnswer(years)
    low, high = np.mean(ends, axis=0)
    return AgeAnswer(years, (float(low), float(high)))
