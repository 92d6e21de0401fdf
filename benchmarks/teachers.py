"""Predictions of several estimators for a data set, as distributions over single years.

Used by `teacher_answers.py` and `clean_longevitynet.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_classes import class_probabilities
from agebench.protocols import Estimator, FaceDetector
from agebench.types import AgeBins, Crops, Sample
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS

YEARS = AgeBins.single_years(0, 116)
"""Bins of the distributions: those of the bundled networks."""

BATCH = 32
CHUNK = 1024
"""Number of pictures that are decoded and cropped before the estimators run on them."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Predictions for n pictures with a face.

    Attributes:
        samples: the pictures.
        hashes: SHA-256 of their files.
        faces: int (n,), number of faces found.
        probabilities: for each estimator float64 (n, 117), distributions over `YEARS`.
    """

    samples: tuple[Sample, ...]
    hashes: tuple[str, ...]
    faces: npt.NDArray[np.intp]
    probabilities: tuple[Floats, ...]

    def means(self) -> Floats:
        """Return the expected age by estimator and picture, (estimators, n), years."""
        years = YEARS.midpoints
        return np.stack([probabilities @ years for probabilities in self.probabilities])


def ask(
    samples: Sequence[Sample],
    detector: FaceDetector,
    estimators: Sequence[Estimator],
    step: Callable[[], None],
) -> Answers:
    """Run all estimators on the largest face of each picture; pictures without one are skipped."""
    parts = [
        _of_chunk(samples[start : start + CHUNK], detector, estimators, step)
        for start in range(0, len(samples), CHUNK)
    ]
    return Answers(
        tuple(item for part in parts for item in part.samples),
        tuple(text for part in parts for text in part.hashes),
        np.concatenate([part.faces for part in parts]),
        tuple(
            np.concatenate(rows)
            for rows in zip(*(part.probabilities for part in parts), strict=True)
        ),
    )


def _of_chunk(
    samples: Sequence[Sample],
    detector: FaceDetector,
    estimators: Sequence[Estimator],
    step: Callable[[], None],
) -> Answers:
    specs = [estimator.spec.crop for estimator in estimators]
    kept, hashes, counts, crops = [], [], [], []
    for picture in face_pictures(samples, detector, specs, workers=1, max_pixels=MAX_PIXELS):
        step()
        if picture.status != "ok" or not all(map(_shows_something, picture.crops)):
            continue
        crops.append(picture.crops)
        kept.append(picture.sample)
        hashes.append(picture.decoded.sha256)
        counts.append(picture.found)
    columns: Iterable[Sequence[Crops]] = zip(*crops, strict=True) if crops else [[]] * len(specs)
    probabilities = tuple(map(_probabilities, estimators, columns))
    return Answers(tuple(kept), tuple(hashes), np.array(counts, np.intp), probabilities)


def _shows_something(crops: Crops) -> bool:
    """Tell whether any view lies within the picture; without one no network can answer."""
    return any(bool(flags.all()) for flags in crops.present.values())


def _probabilities(estimator: Estimator, crops: Sequence[Crops]) -> Floats:
    bins, rows = estimator.spec.bins, list[Floats]()
    if bins is None:
        raise SystemExit(f"{estimator.spec.name} gives no distribution: it can't teach")
    for batch in _batches(crops):
        for prediction in estimator.predict(Crops.join(batch)):
            if prediction.probabilities is None:
                raise SystemExit(f"{estimator.spec.name} gives no distribution: it can't teach")
            rows.append(prediction.probabilities)
    if not rows:
        return np.zeros((0, len(YEARS)))
    return np.asarray(class_probabilities(np.stack(rows), bins, YEARS).probabilities)


def _batches(crops: Sequence[Crops]) -> Iterator[Sequence[Crops]]:
    for start in range(0, len(crops), BATCH):
        yield crops[start : start + BATCH]
