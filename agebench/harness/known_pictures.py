"""Which of the scored pictures an estimator was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agebench.duplicates.training_hashes import TrainingHashes
from agebench.harness.columns import Columns
from agebench.harness.contents_pictures import Picture
from agebench.harness.near_copies import NearCopies
from agebench.util.arrays import Bools


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Pictures that an estimator gave an age for and was trained on.

    Attributes:
        seen: names of those with the same bytes as a training picture; None if not known.
        near: those that are near copies of a training picture, without the same bytes; None if
            there are no perceptual hashes of its training pictures.
        rows: both kinds, as indices among all pictures, shape (n,).
    """

    seen: tuple[str, ...] | None
    near: NearCopies | None
    rows: Bools


def known_pictures(
    images: Iterable[Picture],
    columns: Columns,
    trained: Mapping[str, TrainingHashes | None],
    near: Sequence[NearCopies | None],
) -> dict[str, Known]:
    """Return the known pictures of each estimator.

    Args:
        images: "pictures" of the result; read once if any estimator lists its training pictures.
        columns: of them.
        trained: training pictures by name of the estimator.
        near: near copies of each.
    """
    finds = {
        name: _Find(columns.answers[name].answered, hashes, copies)
        for (name, hashes), copies in zip(trained.items(), near, strict=True)
    }
    asked = [find for find in finds.values() if find.asked]
    for row, image in enumerate(images if asked else ()):
        for find in asked:
            find.look(row, image)
    return {name: find.known() for name, find in finds.items()}


class _Find:
    def __init__(
        self, answered: Bools, hashes: TrainingHashes | None, near: NearCopies | None
    ) -> None:
        self._answered, self._hashes, self._near = answered, hashes, near
        self._likely = frozenset(() if near is None else near.names)
        self._lists_near_copies = hashes is not None and bool(hashes.near_copies)
        self._seen: list[str] = []
        self._copies: set[str] = set()
        self._rows = np.zeros(len(answered), np.bool_)

    @property
    def asked(self) -> bool:
        return self._hashes is not None or bool(self._likely)

    def look(self, row: int, image: Picture) -> None:
        if not self._answered[row]:
            return
        name, hashes = image["picture"], self._hashes
        if hashes is not None and hashes.contains(image["sha256"]):
            self._seen.append(name)
            self._rows[row] = True
        elif name in self._likely or (hashes is not None and hashes.has_near_copy(image["sha256"])):
            self._copies.add(name)
            self._rows[row] = True

    def known(self) -> Known:
        near = self._near
        if near is not None or self._lists_near_copies:
            near = replace(near or NearCopies(), names=tuple(sorted(self._copies)))
        return Known(None if self._hashes is None else tuple(self._seen), near, self._rows)
