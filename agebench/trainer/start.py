"""What a run begins with where it does not start over: the weights of another one."""

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
        epochs: that it had been trained for.
        split: by which its pictures were split.
        trained_on: pictures that it has seen; None where no list is next to it.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    epochs: int
    split: object
    trained_on: TrainingHashes | None

    def about(self, val: Sequence[str]) -> dict[str, Any]:
        """Return what a checkpoint says of what it was started from.

        Args:
            val: sha256 of the pictures that validate; the figures of seen ones flatter.
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
        """Return the pictures that the new run and the earlier one have seen."""
        if self.trained_on is None:
            return hashes
        return TrainingHashes(hashes.what, hashes.prefixes | self.trained_on.prefixes)


def read_start(path: Path) -> Start:
    """Read a checkpoint to begin with.

    Raises:
        WeightsError: there is no file, or it is damaged or no checkpoint.
        AgebenchError: the list of pictures beside it is damaged.
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
    """Return what must be said of a start to the person who trains.

    >>> start_remark({"trained_on": 100, "val_seen": 3})
    'the initial weights have seen 3 of the pictures that validate: their figures will flatter'
    """
    if about["trained_on"] is None:
        return (
            "what the initial weights were trained on is not known: "
            "they may have seen pictures that validate"
        )
    if about["val_seen"]:
        return (
            f"the initial weights have seen {about['val_seen']:,} of the pictures that "
            "validate: their figures will flatter"
        )
    return f"begun with weights of {about['epochs']:,} epochs"
