"""Labelled pictures, and their faces by several detectors, cached so that each detector runs once.

Used by tutorial_mistakes.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from agebench.harness.selection import find_split
from agebench.metrics.intervals import mean_interval
from agebench.protocols import Dataset, no_progress
from agebench.registry.plugins import load_detector
from agebench.splits.parts import part
from agebench.types import Face, Floats, Image, Sample, plain
from agebench.util.files import write_whole
from agebench.vision.decoding import decode_sample
from agebench.vision.images import MAX_PIXELS

SEED = 0


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, and their name in a table.

    Attributes:
        name: short.
        what: in words.
        samples: each with a true age, in an order drawn at random, so that the first few are a
            fair sample of all.
        of: how many there are, of which these are the first few.
    """

    name: str
    what: str
    samples: tuple[Sample, ...]
    of: int

    @property
    def ages(self) -> Floats:
        """True ages, years, shape (n,)."""
        return np.array([each.age_years for each in self.samples], np.float64)

    @property
    def people(self) -> list[str | None]:
        """Who each is; None where that is not known."""
        return [each.identity for each in self.samples]


def take(
    name: str,
    what: str,
    dataset: Dataset,
    *,
    count: int | None = None,
    protocol: str = "",
    folder: Path | None = None,
) -> Pictures:
    """Return a data set's pictures with a single age.

    Args:
        name: see `Pictures`.
        what: see `Pictures`.
        dataset: where they are from.
        count: number of pictures, sampled with `SEED`; None for all.
        protocol: the test part of this protocol alone; "" for all pictures.
        folder: where a later call finds which pictures that part holds; None to find out anew.
    """
    names = _test_part(dataset, protocol, folder and folder / f"{name}.{protocol}.json")
    labelled = [
        each
        for each in dataset.samples
        if each.age_years is not None and (names is None or each.name in names)
    ]
    keys = np.random.default_rng(SEED).random(len(labelled))
    drawn = [labelled[int(index)] for index in np.argsort(keys, kind="stable")[:count]]
    return Pictures(name, what, tuple(drawn), len(labelled))


def _test_part(dataset: Dataset, protocol: str, kept: Path | None) -> frozenset[str] | None:
    """Return the names in a protocol's test part, found after copies are grouped; None for all."""
    if not protocol:
        return None
    total = len(dataset.samples)
    if kept is not None and kept.is_file():
        record = json.loads(kept.read_text(encoding="utf-8"))
        if record["of"] == total:
            return frozenset(record["names"])
    found = part(dataset, find_split(dataset, protocol)(no_progress), "test")
    names = [each.name for each in found.samples]
    if kept is not None:
        write_whole(kept, json.dumps({"of": total, "names": names}) + "\n")
    return frozenset(names)


class OutOfTimeError(Exception):
    """A call has used up its time; the faces found so far are kept."""


@dataclass(frozen=True)
class Clock:
    """Ends a call that takes longer than it may.

    Attributes:
        until_s: on `time.monotonic`'s clock; infinity for no end.
    """

    until_s: float = float("inf")

    @classmethod
    def minutes(cls, minutes: float | None) -> Clock:
        """Return a clock that runs out after this many minutes, or never if None."""
        return cls() if minutes is None else cls(time.monotonic() + 60 * minutes)

    def check(self) -> None:
        """Raise `OutOfTimeError` if the time is over."""
        if time.monotonic() >= self.until_s:
            raise OutOfTimeError


def kept_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file with one line of JSON each; none where there is no file.

    A last line that a killed call left unfinished is cut off, so that the next one is not glued
    to it.
    """
    if not path.is_file():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]


def decoded(pictures: Pictures) -> Iterator[tuple[Sample, Image]]:
    """Yield each picture that can be read."""
    for item in pictures.samples:
        image = decode_sample(item, MAX_PIXELS).image_bgr
        if image is not None:
            yield item, image


def find_all(
    pictures: Pictures, detector: str, folder: Path, clock: Clock | None = None
) -> dict[str, list[Face]]:
    """Return the faces by picture, best score first, from the file of an earlier call or found now.

    The file has one line of JSON per picture, so that an interrupted run resumes.

    Raises:
        OutOfTimeError: the clock ran out; the same call resumes.
    """
    slug = re.sub(r"[^a-z0-9.]+", "_", detector)
    path = folder / f"{pictures.name}.{slug}.jsonl"
    known = {
        record["name"]: [_face(each) for each in record["faces"]] for record in kept_records(path)
    }
    missing = [item for item in pictures.samples if item.name not in known]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        finder = load_detector(detector)
        rest = decoded(replace(pictures, samples=tuple(missing)))
        label = f"{pictures.name}: {detector}"
        with path.open("a", encoding="utf-8") as file:
            for item, image in track(rest, label, total=len(missing)):
                if clock is not None:
                    clock.check()
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
