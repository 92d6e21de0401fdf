"""Records of the accuracy pass: one per picture, with one outcome per estimator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, overload

from agebench.harness.columns import INTERVALS
from agebench.harness.contents_pictures import Prediction, StoredPicture
from agebench.harness.picture_store import PictureStore
from agebench.types import Box, Point, Sample, plain
from agebench.vision.faces import PictureStatus

OutcomeStatus: TypeAlias = Literal["ok", "missing_view", "estimator_failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction of one estimator for one picture.

    Attributes:
        status: "ok", or why there is no age.
        years: predicted age; None unless ok.
        class_index: most probable of the estimator's classes; None without classes.
        outside: largest fraction of one of its crops that lies outside the picture, 0 to 1.
        reason: what went wrong.
        nll, crps_years, pit: of the distribution against the true age, as in
            `agebench.metrics.calibration.DistributionScores`; None without a distribution or a
            true age.
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
    """The outcome of one picture.

    Attributes:
        sample: name and labels.
        status: "ok", or why there are no predictions.
        sha256: of the file's bytes; "" if it could not be read.
        faces: number of faces found.
        box_xyxy, score: the face that was used, the largest.
        landmarks_xy, landmark_scheme: of that face, as `agebench.types.Face` has them.
        frame_from: source of its canonical frame.
        reason: what went wrong.
        outcomes: by the estimator's position.
    """

    sample: Sample
    status: PictureStatus = "ok"
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


def image_json(record: ImageRecord, names: Sequence[str]) -> StoredPicture:
    """Return a picture's entry of "pictures" in result.json.

    Args:
        record: with an outcome of every estimator that ran.
        names: of the estimators, by position.
    """
    sample = record.sample
    return {
        "picture": sample.name,
        "sha256": record.sha256,
        "true_years": sample.age_years,
        "true_range": plain(sample.age_range),
        "identity": sample.identity,
        "attributes": plain(sample.attributes),
        "status": record.status,
        "reason": record.reason,
        "faces": record.faces,
        "box_xyxy": plain(record.box_xyxy),
        "detector_score": record.score,
        "landmarks_xy": plain(record.landmarks_xy),
        "landmark_scheme": record.landmark_scheme,
        "frame_from": record.frame_from,
        "predictions": {
            names[index]: plain(outcome) for index, outcome in sorted(record.outcomes.items())
        },
    }


def record_of(image: StoredPicture, sample: Sample, names: Sequence[str]) -> ImageRecord:
    """Return the record that `image_json` converted to an entry.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not an entry of this sample.
    """
    if image["picture"] != sample.name:
        raise ValueError(f"expected {sample.name!r}, got {image['picture']!r}")
    predictions = image["predictions"]
    return ImageRecord(
        sample,
        cast("PictureStatus", image["status"]),
        image["sha256"],
        image["faces"],
        None if image["box_xyxy"] is None else cast("Box", tuple(image["box_xyxy"])),
        image["detector_score"],
        tuple((x, y) for x, y in image["landmarks_xy"]),
        image["landmark_scheme"],
        image["frame_from"],
        image["reason"],
        {at: _outcome(predictions[name]) for at, name in enumerate(names) if name in predictions},
    )


def _outcome(prediction: Prediction) -> Outcome:
    fields = cast("dict[str, Any]", prediction)
    ends = {name: tuple(fields[name]) for name in INTERVALS if fields[name] is not None}
    return Outcome(**{**fields, **ends})


class StoredRecords(Sequence[ImageRecord]):
    """The records of all pictures, read from the disk one by one."""

    def __init__(
        self, store: PictureStore, samples: Sequence[Sample], names: Sequence[str]
    ) -> None:
        self.store = store
        self._samples, self._names = samples, names

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[ImageRecord]:
        for image, sample in zip(self.store, self._samples, strict=True):
            yield record_of(image, sample, self._names)

    @overload
    def __getitem__(self, place: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[ImageRecord]: ...
    def __getitem__(self, place: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        return record_of(self.store[place], self._samples[place], self._names)
