"""A teacher for `agebench train`: the weighted mean of several estimators, computed once.

    python -m benchmarks.teacher_answers SETTINGS --root UTKFACE -o answers.safetensors \
        --member multicrop-resnet=0.6 --member hse-mobilenet=0.4

The pictures are those that the settings train on: the sets of `data.extra`, or with --only those
named, and with --own the training part.  If the label is an age range, the teacher's distribution
is multiplied by a window that is 1 within the range and falls by a factor of e per year outside;
the result says where in the range the age lies.  Pictures with almost all of the distribution
outside the range get no answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agebench.datasets.base import sample
from agebench.protocols import Dataset, FaceDetector
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.splits.parts import part
from agebench.train.settings import TrainSettings, read_settings
from agebench.trainer.pictures import TrainingPictures
from agebench.trainer.teacher import write_answers
from benchmarks.teachers import YEARS, Answers, Floats, ask

FADE_YEARS = 1.0
LEAST_INSIDE = 0.02


def within_ranges(probabilities: Floats, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
    """Restrict distributions to the age ranges of their labels.

    Args:
        probabilities: (n, 117), distributions over `YEARS`.
        lows: (n,), first completed year of each label's range.
        highs: (n,), last completed year.

    Returns:
        The distributions, normalised again, and the mass of each before that, (n,).
    """
    years = YEARS.midpoints
    outside = np.maximum(lows[:, None] - years, years - highs[:, None]).clip(0)
    inside = probabilities * np.exp(-outside / FADE_YEARS)
    mass = inside.sum(axis=1)
    return inside / np.maximum(mass, 1e-9)[:, None], mass


def taught(answers: Answers, weights: Floats) -> tuple[list[str], Floats]:
    """Return hashes and distributions of the pictures for which the teacher has an answer."""
    mean = np.tensordot(weights / weights.sum(), np.stack(answers.probabilities), axes=1)
    ranges = [item.age_range or (0, 116) for item in answers.samples]
    exact = np.array([item.age_years is not None for item in answers.samples])
    lows, highs = (np.array([pair[side] for pair in ranges], float) for side in (0, 1))
    narrowed, mass = within_ranges(mean, lows, highs)
    rows = np.where(exact[:, None], mean, narrowed)
    keep = exact | (mass >= LEAST_INSIDE)
    return [text for text, good in zip(answers.hashes, keep, strict=True) if good], rows[keep]


def sources(
    settings: TrainSettings, only: Collection[str] = (), *, own: bool
) -> dict[str, tuple[Dataset, FaceDetector]]:
    """Return the data sets that the teacher answers for, with their detectors.

    Args:
        settings: of the training run.
        only: names of extra sets; none for all.
        own: whether to answer for the training part as well.

    Raises:
        SystemExit: `only` names a set that the settings do not have.
    """
    if unknown := sorted(set(only) - set(settings.data.extra)):
        known = sorted(settings.data.extra)
        raise SystemExit(f"expected names of extra sets, which are {known}, got {unknown}")
    found: dict[str, tuple[Dataset, FaceDetector]] = {}
    for name, extra in settings.data.extra.items():
        if only and name not in only:
            continue
        dataset = load_dataset(extra.dataset, extra.root or None)
        if extra.fraction < 1:
            count = max(1, round(extra.fraction * len(dataset.samples)))
            dataset = sample(dataset, count, settings.seed)
        found[name] = (dataset, load_detector(extra.detector))
    if own:
        pictures = TrainingPictures.of(settings, lambda *_step: None)
        chosen = part(pictures.dataset, pictures.split, settings.data.train_part)
        found["own"] = (chosen, pictures.detector)
    return found


def member(text: str) -> tuple[str, float]:
    """Parse "NAME=WEIGHT"."""
    name, _, weight = text.rpartition("=")
    if not name or not float(weight) > 0:
        raise argparse.ArgumentTypeError(f"expected NAME=WEIGHT, such as hse-mobilenet=0.4: {text}")
    return name, float(weight)


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--member", type=member, action="append", required=True)
    parser.add_argument("--only", action="append", default=[], metavar="EXTRA")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    settings = read_settings(args.settings, texts={"data.root": args.root})
    estimators = [load_estimator(name) for name, _ in args.member]
    weights = np.array([weight for _, weight in args.member])
    answers: dict[str, Floats] = {}
    with Progress() as bars:
        for name, (dataset, detector) in sources(settings, args.only, own=args.own).items():
            bar = bars.add_task(name, total=len(dataset.samples))
            found = ask(dataset.samples, detector, estimators, partial(bars.advance, bar))
            hashes, rows = taught(found, weights)
            answers |= dict(zip(hashes, rows, strict=True))
            print(f"{name}: {len(hashes):,} of {len(dataset.samples):,} pictures have an answer")
    what = " + ".join(f"{weight:g} {name}" for name, weight in args.member)
    ages = (YEARS.lows[0], YEARS.highs[-1])
    write_answers(args.out, what, list(answers), np.stack(list(answers.values())), ages)


if __name__ == "__main__":
    main()
