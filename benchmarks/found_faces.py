"""Faces of labelled pictures by several detectors, kept in a file so that nobody looks twice.

Used by tutorial_mistakes.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agebench.bench.selection import find_split
from agebench.datasets.sampling import sample
from agebench.datasets.splits import part
from agebench.intervals import mean_interval
from agebench.protocols import Dataset, no_progress
from agebench.registry import load_dataset, load_detector
from agebench.types import Face, Floats, Image, Sample, plain
from agebench.vision.decoding import decode_sample
from agebench.vision.images import MAX_PIXELS

SEED = 0


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, and what they are called in a table.

    Attributes:
        name: short.
        what: in words, with how they were chosen.
        samples: each with a true age.
    """

    name: str
    what: str
    samples: tuple[Sample, ...]

    @property
    def ages(self) -> Floats:
        """True ages, years, shape (n,)."""
        return np.array([each.age_years for each in self.samples], np.float64)

    @property
    def people(self) -> list[str | None]:
        """Who each is; None where that is not known."""
        return [each.identity for each in self.samples]


def take(
    name: str, what: str, dataset: str, root: Path, *, count: int | None = None, test: bool = False
) -> Pictures:
    """Return a data set's pictures with a single age.

    Args:
        name: see `Pictures`.
        what: see `Pictures`.
        dataset: by name, with options.
        root: where it lies.
        count: so many, drawn at random by `SEED`; None for all.
        test: the test part of UTKFace's protocol alone.
    """
    found: Dataset = load_dataset(dataset, root)
    if test:
        found = part(found, find_split(found, "utkface-full")(no_progress), "test")
    total = len(found.samples)
    if count is not None and count < total:
        found = sample(found, count, SEED)
        what = f"{what}; {count:,} of {total:,}, drawn at random with seed {SEED}"
    return Pictures(name, what, tuple(s for s in found.samples if s.age_years is not None))


def decoded(pictures: Pictures) -> Iterator[tuple[Sample, Image]]:
    """Yield each picture that can be read."""
    for item in pictures.samples:
        image = decode_sample(item, MAX_PIXELS).image_bgr
        if image is not None:
            yield item, image


def find_all(pictures: Pictures, detector: str, folder: Path) -> dict[str, list[Face]]:
    """Return the faces by picture, best score first, from the file of an earlier call or found now.

    The file has one line of JSON per picture, so that a run that was broken off goes on.
    """
    slug = re.sub(r"[^a-z0-9.]+", "_", detector)
    path = folder / f"{pictures.name}.{slug}.jsonl"
    known: dict[str, list[Face]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            known[record["name"]] = [_face(each) for each in record["faces"]]
    missing = [item for item in pictures.samples if item.name not in known]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        finder = load_detector(detector)
        rest = Pictures(pictures.name, pictures.what, tuple(missing))
        with path.open("a", encoding="utf-8") as file:
            for item, image in decoded(rest):
                faces = list(finder.detect(image))
                known[item.name] = faces
                file.write(json.dumps({"name": item.name, "faces": plain(faces)}) + "\n")
                file.flush()
    return {item.name: known.get(item.name, []) for item in pictures.samples}


def _face(record: dict[str, object]) -> Face:
    box, points = record["box_xyxy"], record["landmarks_xy"]
    return Face(
        tuple(box),  # type: ignore[arg-type]  # as it was written
        float(record["score"]),  # type: ignore[arg-type]
        tuple(tuple(point) for point in points),  # type: ignore[attr-defined]
        str(record["landmark_scheme"]),
    )


def interval(values: Floats, people: Sequence[str | None]) -> tuple[float, ...]:
    """Return the mean, and low and high end of its 95 % interval; by person where one is known.

    The mean alone where there are too few to say.
    """
    found = mean_interval(values, clusters=people, positive=bool((values >= 0).all()))
    mean = float(np.mean(values))
    return (mean,) if found is None else (mean, found.low, found.high)
