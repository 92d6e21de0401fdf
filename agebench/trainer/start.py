"""Initial weights of a run from an earlier run's checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from agebench.duplicates.training_hashes import RUN_HASHES, TrainingHashes, find_hashes
from agebench.train.checkpoint import read_checkpoint
from agebench.util.regular_files import read_regular


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The weights of an earlier run.

    Attributes:
        weights: its averaged weights, by name.
        sha256: of the file.
        epochs: that it was trained for.
        split: of its pictures.
        trained_on: its training pictures; None if there is no list next to it.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    epochs: int
    split: object
    trained_on: TrainingHashes | None

    def about(self, val: Sequence[str]) -> dict[str, Any]:
        """Return the facts about the initial weights that a checkpoint stores.

        Args:
            val: SHA-256 of the validation pictures; errors on those that were trained on are too
                low.
        """
        trained = self.trained_on
        return {
            "sha256": self.sha256,
            "epochs": self.epochs,
            "split": self.split,
            "trained_on": None if trained is None else len(trained),
            "val_seen": None if trained is None else sum(map(trained.contains, val)),
        }

    def union(self, hashes: TrainingHashes) -> TrainingHashes:
        """Return the training pictures of the new and the earlier run."""
        if self.trained_on is None:
            return hashes
        return TrainingHashes(hashes.what, hashes.prefixes | self.trained_on.prefixes)


def read_start(path: Path) -> Start:
    """Read a checkpoint that a run starts from.

    Raises:
        WeightsError: there is no file, or it is damaged or not a checkpoint.
        AgebenchError: the list of training pictures next to it is damaged.
    """
    saved = read_checkpoint(path)
    return Start(
        saved.averaged,
        hashlib.sha256(read_regular(path)).hexdigest(),
        len(saved.state.get("history") or ()),
        saved.about.get("split"),
        find_hashes(path, path.parent / RUN_HASHES),
    )


def start_remark(about: Mapping[str, Any]) -> str:
    """Return a remark on the initial weights for the user.

    >>> start_remark({"trained_on": 100, "val_seen": 3})
    'the initial weights were trained on 3 of the validation pictures: their errors will be too low'
    """
    if about["trained_on"] is None:
        return (
            "the training pictures of the initial weights are unknown: they may include validation "
            "pictures"
        )
    if about["val_seen"]:
        return (
            f"the initial weights were trained on {about['val_seen']:,} of the validation "
            "pictures: their errors will be too low"
        )
    return f"started with weights of {about['epochs']:,} epochs"
