"""Predicts videos and cameras: tracks faces, smooths ages, and writes an annotated video."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agebench.errors import AgebenchError, UsageError
from agebench.prediction.drawing import draw_side_by_side
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.records import AgeAnswer, PredictedFace, add_times
from agebench.prediction.tracking import SMOOTHING_FRAMES, Tracker
from agebench.types import Image
from agebench.vision.video import VideoFrame, VideoSink, VideoSource, check_video_name


@dataclass(slots=True)
class Person:
    """One person of a video.

    Attributes:
        number: as in the records.
        first, last: indices of frames.
        seen: number of frames.
        ages: the last smoothed ages by estimator.
    """

    number: int
    first: int
    last: int
    seen: int
    ages: Mapping[str, AgeAnswer]


@dataclass(slots=True)
class VideoTally:
    """The results of a video.

    Attributes:
        frames: read, including broken ones.
        broken: that could not be decoded.
        failed: on which detection or cropping failed.
        people: by number.
        smoothing: number of sightings that ages are averaged over.
        stage_ms: time by stage, milliseconds.
    """

    frames: int = 0
    broken: int = 0
    failed: int = 0
    people: dict[int, Person] = field(default_factory=dict)
    smoothing: int = SMOOTHING_FRAMES
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether any frame was processed, possibly without any face."""
        return self.frames > self.broken + self.failed

    def add(self, frame: int, faces: list[PredictedFace]) -> None:
        """Count the faces of a frame."""
        for face in faces:
            number = face.track or 0
            person = self.people.setdefault(number, Person(number, frame, frame, 0, face.ages))
            person.last, person.ages = frame, face.ages
            person.seen += 1


class VideoRun:
    """Yields one record per frame.

    Args:
        predictor: the models.
        source: a file, or a camera's number.
        draw: the annotated video to write.
        smoothing: number of sightings that ages are averaged over.
        frames: stop after this many.
        show: called with every annotated frame; returns whether to continue.

    Raises:
        UsageError: a number is out of range, or `draw` has a suffix that can't be written.
    """

    def __init__(
        self,
        predictor: AgePredictor,
        source: Path | int,
        *,
        draw: Path | None = None,
        smoothing: int = SMOOTHING_FRAMES,
        frames: int | None = None,
        show: Callable[[Image], bool] | None = None,
    ) -> None:
        if frames is not None and frames < 1:
            raise UsageError(f"--frames must be at least 1, got {frames}")
        if draw is not None:
            check_video_name(draw)
            _check_target(draw, source)
        self._predictor = predictor
        self._source = source
        self._draw = draw
        self._tracker = Tracker(smoothing)
        self._limit = frames
        self._show = show
        self._last_drawn: Image | None = None
        self.tally = VideoTally(smoothing=smoothing)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the content of each frame: faces with the person's number and the smoothed age.

        Raises:
            ImageError: the video can't be opened, or has no frame that can be decoded.
            AgebenchError: the annotated video can't be written.
        """
        with ExitStack() as stack:
            video = stack.enter_context(VideoSource(self._source))
            sink = None
            if self._draw is not None:
                sink = stack.enter_context(VideoSink(self._draw, video.rate_hz))
            for frame in self._read(video):
                faces, status, reason = self._examined(frame)
                self.tally.frames += 1
                time_s = frame.time_s if video.may_vary else None
                go_on = self._draw_on(sink, frame, faces, time_s)
                yield self._record(video.name, frame, faces, status, reason)
                if not go_on or self.tally.frames == self._limit:
                    return

    def _read(self, video: VideoSource) -> Iterator[VideoFrame]:
        frames = video.frames()
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            add_times(self.tally.stage_ms, {"decode": (time.perf_counter() - start) * 1000})
            if frame is None:
                return
            yield frame

    def _examined(self, frame: VideoFrame) -> tuple[list[PredictedFace], str, str]:
        if frame.image_bgr is None:
            self.tally.broken += 1
            return [], "broken", "the frame can't be decoded"
        answer = self._predictor.predict_image(frame.image_bgr)
        add_times(self.tally.stage_ms, answer.stage_ms)
        if answer.status != "ok":
            self.tally.failed += 1
            return [], answer.status, answer.reason
        faces = self._tracker.update(frame.index, answer.faces)
        self.tally.add(frame.index, faces)
        return faces, "ok", ""

    def _draw_on(
        self,
        sink: VideoSink | None,
        frame: VideoFrame,
        faces: list[PredictedFace],
        time_s: float | None,
    ) -> bool:
        """Write and show a frame; a broken one is replaced by the last one, to keep the timing."""
        if sink is None and self._show is None:
            return True
        if frame.image_bgr is not None:
            names = list(self._predictor.estimators)
            self._last_drawn = draw_side_by_side(frame.image_bgr, faces, names, moving=True)
        if self._last_drawn is None:
            return True
        if sink is not None:
            sink.write(self._last_drawn, time_s)
        return self._show is None or self._show(self._last_drawn)

    def _record(
        self, name: str, frame: VideoFrame, faces: list[PredictedFace], status: str, reason: str
    ) -> dict[str, Any]:
        image = frame.image_bgr
        return {
            "picture": name,
            "frame": frame.index,
            "time_s": frame.time_s,
            "status": status,
            "reason": reason,
            "size_hw": None if image is None else [image.shape[0], image.shape[1]],
            "detector": self._predictor.detector_name,
            "estimators": list(self._predictor.estimators),
            "faces": [face.to_json() for face in faces],
        }


def _check_target(draw: Path, source: Path | int) -> None:
    if isinstance(source, Path) and draw.exists() and draw.samefile(source):
        raise UsageError(f"--draw {draw} is the video itself: name another file")
    if not draw.parent.is_dir():
        raise AgebenchError(f"there is no folder {draw.parent} for --draw: create it")
