"""Crops of a data set's faces with their ages, for measurements outside of `compare`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agebench.errors import DatasetError
from agebench.harness.loading import load_pictures
from agebench.harness.selection import take_pictures
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, FaceDetector, ProgressStep, no_progress
from agebench.registry.defaults import choose_detector
from agebench.registry.plugins import named_detector
from agebench.types import Crops, CropSpec, Floats, Sample
from agebench.vision.decoding import Decoded
from agebench.vision.faces import LeftOut, face_pictures


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCrops:
    """The crops of n faces.

    Attributes:
        crops: for a `CropSpec`.
        ages: float64 (n,), years.
        description: of the faces.
    """

    crops: Crops
    ages: Floats
    description: str

    def __len__(self) -> int:
        return len(self.ages)

    def halves(self) -> tuple[LabelledCrops, LabelledCrops]:
        """Return every second face, and the others."""
        description = f"every other one of {self.description}"
        first, second = (
            LabelledCrops(self.crops.take(slice(start, None, 2)), self.ages[start::2], description)
            for start in (0, 1)
        )
        return first, second


def cut_samples(
    spec: CropSpec,
    detector: FaceDetector,
    samples: Sequence[Sample],
    settings: CompareSettings,
    progress: ProgressStep,
    stage: str,
    left_out: LeftOut,
) -> Iterator[tuple[Decoded, Crops]]:
    """Yield each picture with a face that has all views, and the crops of that face."""
    threads, max_pixels = settings.decode_threads, settings.max_pixels
    seen = face_pictures(samples, detector, [spec], workers=threads, max_pixels=max_pixels)
    for done, picture in enumerate(left_out.watch(seen), start=1):
        progress(stage, done, len(samples))
        if picture.complete:
            yield picture.decoded, picture.crops[0]


def labelled_crops(
    spec: CropSpec,
    dataset: str | Dataset,
    *,
    root: Path | None = None,
    detector: str | None = None,
    settings: CompareSettings,
    progress: ProgressStep = no_progress,
) -> LabelledCrops:
    """Cut the faces of a data set's pictures with a known age.

    Args:
        spec: the views.
        dataset: name with options, or object.
        root: of the data set.
        detector: finds the faces; None for the default of `compare`.
        settings: protocol, part, limit, sample and seed select the pictures.
        progress: called during the work.

    Raises:
        UsageError: a name or option is wrong.
        DatasetError: there is no picture with a face and an age.
    """
    pictures, maker = load_pictures(dataset, root, settings.protocol)
    chosen, _ = choose_detector(detector, pictures.spec)
    name, finder = named_detector(chosen)
    pictures, _split = take_pictures(pictures, maker, settings, progress)
    usable = [sample for sample in pictures.samples if sample.age_years is not None]
    parts: list[Crops] = []
    ages: list[float] = []
    left_out = LeftOut()
    for item, crops in cut_samples(spec, finder, usable, settings, progress, "faces", left_out):
        parts.append(crops)
        ages.append(item.sample.age_years or 0.0)
    if not parts:
        raise DatasetError(
            f"{pictures.spec.name}: none of {len(usable)} pictures with an age can be read and "
            f"shows a face that {name} finds: give another data set or detector{left_out}"
        )
    description = f"{len(parts)} faces of {pictures.spec.name}, found by {name}"
    return LabelledCrops(Crops.join(parts), np.array(ages, np.float64), description)
