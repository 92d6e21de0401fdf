"""Class probabilities of every picture under every condition, cached so that runs can resume.

Used by tutorial_mistakes.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from rich.progress import track

from agebench.registry.plugins import load_detector
from agebench.runtimes.age_net_layout import INPUT_NAME, OUTPUT_NAME
from agebench.runtimes.base import Tensor
from agebench.types import Floats
from benchmarks.found_faces import Clock, Pictures, decoded, find_all, kept_records
from benchmarks.tutorial_scenes import DETECTORS, Blob, Condition, Scene, the_face

CROPS_AT_ONCE = 32

Probabilities: TypeAlias = dict[str, list[float] | None]
"""Probabilities of the eight classes by condition; None if there was no face."""


class Network(Protocol):
    """The part of `agebench.runtimes.base.Model` that is used here."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name."""


def ask(network: Network, blobs: Mapping[str, Blob]) -> dict[str, list[float]]:
    """Return class probabilities by name, averaged over the windows of each blob.

    Bit-identical windows are run only once; the result for a window does not depend on the others
    in its batch.
    """
    rows: dict[bytes, int] = {}
    windows: list[Blob] = []
    windows_of: dict[str, list[int]] = {}
    for name, blob in blobs.items():
        windows_of[name] = []
        for window in blob:
            key = window.tobytes()
            if key not in rows:
                rows[key] = len(windows)
                windows.append(window)
            windows_of[name].append(rows[key])
    probabilities = _run(network, windows)
    return {name: probabilities[which].mean(axis=0).tolist() for name, which in windows_of.items()}


def _run(network: Network, windows: Sequence[Blob]) -> Floats:
    parts = [
        network.run({INPUT_NAME: np.stack(windows[start : start + CROPS_AT_ONCE])})[OUTPUT_NAME]
        for start in range(0, len(windows), CROPS_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, 8))


def probabilities_file(pictures: Pictures, cache: Path) -> Path:
    """Return the path of the file that caches the probabilities of a set of pictures."""
    return cache / f"{pictures.name}.shares.jsonl"


def read_probabilities(path: Path) -> dict[str, Probabilities]:
    """Return the cached probabilities by picture; lines of the same picture are merged."""
    known: dict[str, Probabilities] = {}
    for record in kept_records(path):
        known.setdefault(record["name"], {}).update(record["shares"])
    return known


def ask_missing(
    pictures: Pictures,
    cache: Path,
    conditions: Mapping[str, Condition],
    onnx: Network,
    caffe: Network,
    clock: Clock,
) -> None:
    """Compute the probabilities that are not cached yet, and cache them by picture and condition.

    Raises:
        OutOfTimeError: the time limit was reached; the same call resumes.
    """
    path = probabilities_file(pictures, cache)
    known = read_probabilities(path)
    missing = {
        item.name: [name for name in conditions if name not in known.get(item.name, {})]
        for item in pictures.samples
    }
    todo = tuple(item for item in pictures.samples if missing[item.name])
    if not todo:
        return
    faces = {name: find_all(pictures, name, cache, clock) for name in DETECTORS}
    specs = {name: load_detector(name).spec for name in DETECTORS}
    rest = replace(pictures, samples=todo)
    with path.open("a", encoding="utf-8") as file:
        for item, image in track(decoded(rest), f"{pictures.name}: asked", total=len(todo)):
            clock.check()
            chosen = {name: the_face(found[item.name], name) for name, found in faces.items()}
            scene = Scene(image, chosen, specs)
            answers = _answers(
                scene, {name: conditions[name] for name in missing[item.name]}, onnx, caffe
            )
            file.write(json.dumps({"name": item.name, "shares": answers}) + "\n")
            file.flush()


def _answers(
    scene: Scene, conditions: Mapping[str, Condition], onnx: Network, caffe: Network
) -> Probabilities:
    made = {name: condition.make(scene) for name, condition in conditions.items()}
    present = {name: blob for name, blob in made.items() if blob is not None}
    found: Probabilities = dict.fromkeys(conditions)
    found |= ask(onnx, {name: blob for name, blob in present.items() if not conditions[name].caffe})
    found |= ask(caffe, {name: blob for name, blob in present.items() if conditions[name].caffe})
    return found
