"""Age classes on Adience in five folds, as Levi & Hassner (CVPR Workshops 2015) measured them.

    python benchmarks/adience.py --data ADIENCE --weights age_net.caffemodel \
        --mean mean.binaryproto --out adience.json

They report 49.5 % exact with one crop, 50.7 % with ten, and 84.7 % one-off with ten.  As they did,
each whole aligned picture is squashed to 256x256, the mean image is subtracted, and the network
sees the 227x227 centre, or the corners, the centre and their mirrored copies.

**What the published file can and can't show.**  The figures are means over five networks, each
trained on four folds and tested on the fifth.  The one caffemodel that was published is a single
network.  Neither its repository (GilLevi/AgeGenderDeepLearning) nor its page says which fold it
was not trained on, or that there is one; so at least four of the five folds here are its training
data.  With that file the mean over all folds is not a test result and should come out above the
published figures; only the fold that it was tested on, if any, can be compared with them, and
the figures per fold are printed for that.  To repeat the protocol itself, train five networks and
give ``--weights`` five times, for folds 0 to 4 in order.

Only rows whose age is written as one of the eight groups are used, as in the authors' own lists.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agebench.datasets import adience
from agebench.datasets.base import sample as sampled
from agebench.errors import AgebenchError, ImageError, UsageError
from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.harness.environment import describe_environment
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.metrics.label_accuracy import class_accuracy
from agebench.protocols import Dataset
from agebench.types import Crops, Image, Sample, plain
from agebench.util.files import write_whole
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

PUBLISHED = {1: {"exact": 0.495, "one_off": None}, 10: {"exact": 0.507, "one_off": 0.847}}
"""Levi & Hassner 2015: means over five folds, by number of crops."""

CHUNK = 32


@dataclass(frozen=True, slots=True)
class FoldScore:
    """One network on one fold; accuracies are fractions of `n` pictures."""

    fold: str
    n: int
    unreadable: int
    exact: float | None
    one_off: float | None


def whole_picture(image_bgr: Image, side: int) -> Image:
    """Squash a picture to a square, bilinearly, as Caffe's `convert_imageset` does."""
    squashed = cv2.resize(image_bgr, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(squashed, np.uint8)


def as_crops(pixels: Sequence[Image]) -> Crops:
    """Return squashed pictures as the crops of detected faces."""
    count = len(pixels)
    return Crops(
        {"face": np.stack(pixels)},
        {"face": np.ones(count, np.bool_)},
        {"face": np.zeros(count)},
    )


def chunks(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Yield at most `CHUNK` samples at a time."""
    for start in range(0, len(samples), CHUNK):
        yield samples[start : start + CHUNK]


def classes(net: CaffeAgeNet, pixels: Sequence[Image]) -> list[int]:
    """Return the most probable class of each squashed picture."""
    if not pixels:
        return []
    answers = net.predict(as_crops(pixels))
    probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
    return [int(index) for index in np.argmax(probabilities, axis=1)]


def score_fold(net: CaffeAgeNet, fold: str, samples: Sequence[Sample]) -> FoldScore:
    """Predict all pictures of a fold and compare classes."""
    side = net.spec.crop.views["face"].size_hw[0]
    true: list[int] = []
    predicted: list[int] = []
    unreadable = 0
    for chunk in chunks(samples):
        pixels: list[Image] = []
        for item in chunk:
            try:
                pixels.append(whole_picture(read_image(item.path), side))
            except ImageError as error:
                print(f"left out: {error}", file=sys.stderr)
                unreadable += 1
                continue
            true.append(ADIENCE_CLASSES.labels.index(item.attributes["class"]))
        predicted += classes(net, pixels)
    # A class's first year stands for it: class_accuracy takes true ages.
    years = [ADIENCE_CLASSES.lows[index] for index in true]
    found = class_accuracy(years, predicted, ADIENCE_CLASSES)
    return FoldScore(fold, found.n, unreadable, found.exact, found.one_off)


def by_fold(dataset: Dataset) -> dict[str, list[Sample]]:
    """Return the pictures of each fold, in the order of the folds."""
    folds: dict[str, list[Sample]] = {}
    for item in dataset.samples:
        folds.setdefault(item.attributes["fold"], []).append(item)
    return dict(sorted(folds.items()))


def summary(scores: Sequence[FoldScore], key: str) -> dict[str, float | None]:
    """Return mean and standard deviation over the folds, each fold counting the same."""
    values = [value for score in scores if (value := getattr(score, key)) is not None]
    if not values:
        return {"mean": None, "sd": None}
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def network_of(weights: Sequence[Path], fold: str) -> Path | None:
    """Return the file that scores a fold: its own of five, else the only one, or the default."""
    if len(weights) == adience.FOLDS:
        return weights[int(fold)]
    return weights[0] if weights else None


def run(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Score all folds with one and with ten crops; return what is written to the file."""
    results: dict[str, Any] = {}
    specs: dict[str, Any] = {}
    for crops in options.crops:
        scores: list[FoldScore] = []
        loaded: dict[Path | None, CaffeAgeNet] = {}
        for fold, samples in by_fold(dataset).items():
            path = network_of(options.weights, fold)
            if path not in loaded:
                net = CaffeAgeNet(path, crops=crops, mean="image", mean_file=options.mean)
                loaded = {path: net}
            net = loaded[path]
            specs[fold] = plain(net.spec.weights)
            scores.append(score_fold(net, fold, samples))
            print(line(crops, scores[-1]), flush=True)
        results[str(crops)] = {
            "folds": plain(scores),
            "exact": summary(scores, "exact"),
            "one_off": summary(scores, "one_off"),
            "published": PUBLISHED[crops],
        }
        print(total(crops, results[str(crops)]), flush=True)
    return {"crops": results, "weights_by_fold": specs}


def percent(value: float | None) -> str:
    """Return "49.5 %", or a dash."""
    return "-" if value is None else f"{100 * value:.1f} %"


def line(crops: int, score: FoldScore) -> str:
    """Return the row of one fold."""
    accuracies = f"exact {percent(score.exact):>8}  one-off {percent(score.one_off):>8}"
    return f"{crops:2d} crops  fold {score.fold}  {score.n:5d} pictures  {accuracies}"


def total(crops: int, result: Mapping[str, Any]) -> str:
    """Return the row with the mean over the folds next to the published one."""
    accuracies = [
        f"{name} {percent(result[key]['mean'])} (published {percent(result['published'][key])})"
        for name, key in (("exact", "exact"), ("one-off", "one_off"))
    ]
    return f"{crops:2d} crops  mean    " + "  ".join(accuracies)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True, help="Adience's folder")
    arguments.add_argument(
        "--weights", type=Path, action="append", default=[], help="one caffemodel, or five in order"
    )
    arguments.add_argument("--mean", type=Path, help="mean.binaryproto")
    arguments.add_argument("--pictures", choices=("auto", "aligned", "faces"), default="auto")
    arguments.add_argument("--crops", type=int, choices=(1, 10), action="append")
    arguments.add_argument("--sample", type=int, help="use only N random pictures")
    arguments.add_argument("--out", type=Path, help="JSON file to write")
    return arguments


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, write the file; return the exit status."""
    options = parser().parse_args(arguments)
    options.crops = sorted(set(options.crops or (1, 10)))
    try:
        if len(options.weights) not in (0, 1, adience.FOLDS):
            raise UsageError(
                f"expected --weights once or {adience.FOLDS} times, got {len(options.weights)}"
            )
        dataset = adience.load(options.data, pictures=options.pictures)
        if options.sample is not None:
            dataset = sampled(dataset, options.sample, seed=0)
        for note in dataset.spec.notes:
            print(note)
        one_network = len(options.weights) != adience.FOLDS
        if one_network:
            print("one network for all folds: it was probably trained on at least four of them")
        found = run(dataset, options)
        if options.out is not None:
            about = {
                "dataset": plain(dataset.spec),
                "sample": options.sample,
                "one_network_for_all_folds": one_network,
                "environment": describe_environment(),
            }
            write_whole(options.out, json.dumps({**about, **found}, indent=1) + "\n")
    except AgebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
