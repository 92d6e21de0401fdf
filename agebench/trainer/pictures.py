"""The pictures of a training run: listed, split, read part by part, and joined."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agebench.datasets.base import SampleList, sample
from agebench.errors import DatasetError, UsageError
from agebench.harness.environment import describe_environment
from agebench.harness.selection import find_split
from agebench.protocols import Dataset, FaceDetector, ProgressStep
from agebench.registry.plugins import load_dataset, load_detector
from agebench.splits.parts import Split, part, select_parts
from agebench.train.face_cache import TrainingFaces, ViewTransforms, gather_faces
from agebench.train.model_settings import ModelSettings
from agebench.train.sections import DataSettings, ExtraData
from agebench.train.settings import TrainSettings
from agebench.types import Image, Problem, Sample, plain
from agebench.util.private_paths import without_home
from agebench.util.regular_files import read_regular


def _extra(name: str, source: ExtraData) -> tuple[Dataset, FaceDetector]:
    """Load a data set of `data.extra` and its detector; errors name the table."""
    try:
        return load_dataset(source.dataset, source.root or None), load_detector(source.detector)
    except (UsageError, DatasetError) as error:
        raise type(error)(f"data.extra.{name}: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPictures:
    """The data set of a run, split.

    Attributes:
        dataset: with the pictures of all parts.
        split: assigns pictures to parts.
        detector: finds the faces.
        extra: the data sets of `data.extra` by name, and what finds their faces.
        settings: of the run.
        progress: called after every picture.
    """

    dataset: Dataset
    split: Split
    detector: FaceDetector
    extra: Mapping[str, tuple[Dataset, FaceDetector]]
    settings: TrainSettings
    progress: ProgressStep

    @staticmethod
    def of(settings: TrainSettings, progress: ProgressStep) -> TrainingPictures:
        """Load the data sets that the settings name, and split the run's own.

        Raises:
            UsageError: a name is unknown.
            DatasetError: there are no pictures.
        """
        data = settings.data
        dataset = load_dataset(data.dataset, data.root or None)
        # All names are looked up before the pictures are read, which may take long.
        detector = load_detector(data.detector)
        extra = {name: _extra(name, source) for name, source in data.extra.items()}
        split = find_split(dataset, data.protocol)(progress)
        return TrainingPictures(dataset, split, detector, extra, settings, progress)

    def gather(self, part_name: str, fraction: float = 1.0) -> TrainingFaces:
        """Read the pictures of a part, or a fraction of them sampled with the seed."""
        chosen = part(self.dataset, self.split, part_name)
        faces = self._read(chosen, self.detector, fraction, f"Reading {part_name}")
        listed = set(self.dataset.problems)
        absent = tuple(problem for problem in chosen.problems if problem not in listed)
        faces = replace(faces, problems=(*absent, *faces.problems))
        require_faces(faces, f"part {part_name!r}")
        return faces

    def with_extra(self, train: TrainingFaces) -> TrainingFaces:
        """Return the training pictures, followed by those of `data.extra` in its order.

        Files that are identical to one outside of the training part (used for validation or for
        testing) are left out and listed.

        Raises:
            DatasetError: a set has no usable picture.
        """
        if not self.extra:
            return train
        held_out = self._held_out()
        parts = [train]
        for name, (dataset, detector) in self.extra.items():
            source = self.settings.data.extra[name]
            faces = self._read(dataset, detector, source.fraction, f"Reading {name}", held_out)
            faces = replace(faces, problems=(*dataset.problems, *faces.problems))
            require_faces(faces, f"data.extra.{name}")
            parts.append(named(name, faces, source.label_weight))
        return join_faces(parts)

    def _held_out(self) -> Mapping[str, str]:
        """Return the pictures that must not be used for training: names by SHA-256."""
        trained = select_parts(self.split, self.settings.data.train_part)
        return {
            self.split.sha256.get(item.name) or sha256_if_readable(item): item.name
            for item in self.dataset.samples
            if self.split.parts.get(item.name) not in trained
        }

    def _read(
        self,
        chosen: Dataset,
        detector: FaceDetector,
        fraction: float,
        stage: str,
        held_out: Mapping[str, str] = MappingProxyType({}),
    ) -> TrainingFaces:
        if fraction < 1:
            count = max(1, round(fraction * len(chosen.samples)))
            chosen = sample(chosen, count, self.settings.seed)
        usable, beyond = _within(chosen, self.settings.model)
        if held_out:
            usable, leaking = _apart(usable, held_out)
            beyond += leaking
        data = self.settings.data
        faces = gather_faces(
            usable,
            detector,
            self.settings.model.crop,
            longest_px=data.longest_px,
            workers=data.decode_threads,
            progress=self.progress,
            stage=stage,
        )
        return replace(faces, problems=(*beyond, *faces.problems))

    def left_out(self, faces: Mapping[str, TrainingFaces]) -> dict[str, Sequence[Problem]]:
        """Return all pictures left out, by part or by the step that left them out."""
        return {
            "listing": self.dataset.problems,
            "split": self.split.unused,
            **{name: part_faces.problems for name, part_faces in faces.items()},
        }

    def about(self, faces: Mapping[str, TrainingFaces]) -> dict[str, Any]:
        """Return the facts about data and machine that a checkpoint stores."""
        extra = {
            name: {
                "dataset": source.dataset,
                "detector": source.detector,
                "fraction": source.fraction,
            }
            for name, source in self.settings.data.extra.items()
        }
        return {
            **({"extra": extra} if extra else {}),
            "dataset": plain(self.dataset.spec),
            "detector": plain(self.detector.spec),
            "split": {"protocol": self.split.protocol, "fingerprint": self.split.fingerprint},
            "pictures": {name: len(part_faces) for name, part_faces in faces.items()},
            "contents": {name: part_faces.fingerprint for name, part_faces in faces.items()},
            "left_out": {
                name: [
                    without_home(f"{problem.name}: {problem.reason}")
                    for problem in part_faces.problems
                ][:100]
                for name, part_faces in faces.items()
            },
            "environment": plain(describe_environment()),
            "torch": torch.__version__,
        }


def sha256_if_readable(item: Sample) -> str:
    """Return the SHA-256 of a picture's file; "" if it can't be read, which is reported later."""
    try:
        return hashlib.sha256(read_regular(item.path)).hexdigest()
    except OSError:
        return ""


def _apart(chosen: SampleList, held_out: Mapping[str, str]) -> tuple[SampleList, list[Problem]]:
    """Return the pictures that are not held out, and the others with the reason."""
    usable, leaking = [], list[Problem]()
    for item in chosen.samples:
        same = held_out.get(sha256_if_readable(item), "")
        if same:
            reason = f"it is the same picture as {same}, which is held out from training"
            leaking.append(Problem(item.name, reason))
        else:
            usable.append(item)
    return SampleList(chosen.spec, tuple(usable), chosen.problems), leaking


def _within(chosen: Dataset, model: ModelSettings) -> tuple[SampleList, list[Problem]]:
    """Return the pictures with labels within the network's ages, and the others with the reason."""
    usable, beyond = [], list[Problem]()
    for item in chosen.samples:
        exact = None if item.age_years is None else (item.age_years, item.age_years)
        low, high = exact or item.age_range or (model.youngest, model.oldest)
        if math.floor(low) <= model.oldest and high >= model.youngest:
            usable.append(item)
            continue
        label = f"{low:g}" if low == high else f"{low:g}-{high:g}"
        known = f"{model.youngest} to {model.oldest}"
        beyond.append(Problem(item.name, f"age {label} is outside of the network's ages, {known}"))
    return SampleList(chosen.spec, tuple(usable), tuple(chosen.problems)), beyond


def require_separate(split: Split, data: DataSettings, *, final_test: bool) -> None:
    """Check that training, validation and test parts have no pictures in common.

    Raises:
        UsageError: they share a part of the split, or it has no such part.
    """
    named = {"train_part": data.train_part, "val_part": data.val_part}
    if final_test:
        named["test_part"] = data.test_part
    for (first, one), (second, other) in combinations(named.items(), 2):
        if both := select_parts(split, one) & select_parts(split, other):
            raise UsageError(
                f"data.{first} is {one!r} and data.{second} {other!r}: both contain "
                f"{', '.join(map(repr, sorted(both)))} of protocol {split.protocol!r}, so the "
                "figures would be meaningless; name parts without common pictures"
            )


def require_faces(faces: TrainingFaces, what: str) -> None:
    """Check that there is at least one usable picture.

    Raises:
        DatasetError: there is none; the message says why the first is not usable.
    """
    if not len(faces):
        first = faces.problems[0]
        raise DatasetError(
            f"no picture of {what} can be used; the first: {first.name}: {first.reason}"
        )


def named(prefix: str, faces: TrainingFaces, label_weight: float) -> TrainingFaces:
    """Return the faces of an additional set, with its name as prefix and its label weight."""
    return replace(
        faces,
        names=tuple(f"{prefix}/{name}" for name in faces.names),
        problems=tuple(Problem(f"{prefix}/{p.name}", p.reason) for p in faces.problems),
        label_weights=np.full(len(faces), label_weight, np.float32),
    )


def join_faces(parts: Sequence[TrainingFaces]) -> TrainingFaces:
    """Return all faces of several sets in order; all must have been cut for the same views.

    Faces of different sizes are padded to the largest.
    """
    first, *others = parts
    if not others:
        return first
    return TrainingFaces(
        pixels_bgr=_joined_pixels([part.pixels_bgr for part in parts]),
        sizes_hw=np.concatenate([part.sizes_hw for part in parts]),
        originals={
            name: np.concatenate([part.originals[name] for part in parts])
            for name in first.originals
        },
        transforms={
            name: _joined_transforms([part.transforms[name] for part in parts])
            for name in first.transforms
        },
        present={
            name: np.concatenate([part.present[name] for part in parts]) for name in first.present
        },
        centers_xy=np.concatenate([part.centers_xy for part in parts]),
        heights=np.concatenate([part.heights for part in parts]),
        lows=np.concatenate([part.lows for part in parts]),
        highs=np.concatenate([part.highs for part in parts]),
        names=_chained(part.names for part in parts),
        hashes=_chained(part.hashes for part in parts),
        problems=tuple(problem for part in parts for problem in part.problems),
        label_weights=np.concatenate([label_weights(part) for part in parts]),
    )


def label_weights(faces: TrainingFaces) -> npt.NDArray[np.float32]:
    """Return the weight of each picture's label, float32 (n,)."""
    if faces.label_weights is None:
        return np.ones(len(faces), np.float32)
    return faces.label_weights


def _chained(texts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(text for part in texts for text in part)


def _joined_pixels(parts: Sequence[Image]) -> Image:
    side = max(part.shape[1] for part in parts)
    joined = np.zeros((sum(map(len, parts)), side, side, 3), np.uint8)
    start = 0
    for pixels in parts:
        rows = joined[start : start + len(pixels)]
        own = pixels.shape[1]
        rows[:, :own, :own] = pixels
        # Like `face_cache.padded`: repeats the last row and column.
        rows[:, own:, :own] = pixels[:, -1:]
        rows[:, :, own:] = rows[:, :, own - 1 : own]
        start += len(pixels)
    return joined


def _joined_transforms(parts: Sequence[ViewTransforms]) -> ViewTransforms:
    """Return the transforms of all parts, with the mean of their crop pixels per frame height."""
    counts = [int(part.present.sum()) for part in parts]
    sizes = [part.frame_px for part in parts]
    return ViewTransforms(
        np.concatenate([part.matrices for part in parts]),
        np.concatenate([part.present for part in parts]),
        float(np.average(sizes, weights=counts)) if any(counts) else sizes[0],
        parts[0].size_hw,
    )
