"""`answers:FILE.csv`: predictions of another program, a service or people, scored like others."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, Self

from agebench.datasets.names import without_place
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.errors import DatasetError, UsageError
from agebench.estimators.answers_table import SEEN, Answer, AnswerTable, read_answers_table
from agebench.modelfiles.weights import sha256_of
from agebench.protocols import EstimatorSpec
from agebench.types import (
    AgePrediction,
    Box,
    Crops,
    CropSpec,
    LabelKind,
    Sample,
    ViewSpec,
    WeightsFile,
)
from agebench.vision.faces import MIN_LABEL_IOU
from agebench.vision.frames import box_iou

SHOWN_ROWS = 100
"""Number of unused rows that are listed; the others are only counted."""


class AnswersFile:
    """Answers from outside; docs/answers.md describes the file.

    It never sees a picture: `for_pictures` joins its rows to a data set, and `answer` looks them
    up. Only ``agebench compare`` can use it.

    Args:
        path: the CSV file.
        picture: header of the column with the picture's path.
        age: header of the column with the age.
        level: percentage of cases that are from ``low`` to ``high``: 50, 80 or 95.
        estimator: uses only the rows with this name, in a file with such a column (a
            predictions.csv).
        label_kind: the kind of age that it estimates.
        trained_on: its training data, in words.

    Raises:
        UsageError: there is no path, or an option does not match the file.
        DatasetError: the file can't be read.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        picture: str | None = None,
        age: str | None = None,
        level: int | None = None,
        estimator: str | None = None,
        label_kind: LabelKind = "unknown",
        trained_on: str = "",
    ) -> None:
        if path is None:
            raise UsageError("'answers' needs a file: write answers:FILE.csv")
        self._table = read_answers_table(path, picture, age, level, estimator)
        self._file = path.name
        self._by_picture: Mapping[str, Sequence[Answer]] = {}
        self._spec = EstimatorSpec(
            name="answers",
            crop=CropSpec({"face": ViewSpec("face", (1, 1))}),
            decode="answers",
            weights=(WeightsFile(path.name, sha256_of(path)),),
            trained_on=trained_on,
            label_kind=label_kind,
            settings={"file": path.name, "level": level, "estimator": estimator},
            notes=(f"answers from outside, read from {path.name}", *self._table.notes),
        )

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def training_hashes(self) -> TrainingHashes | None:
        """Return the pictures that it was trained on according to the rows; None if unknown.

        If every row with an age says so, it was trained on none.
        """
        hashes: dict[str, set[str]] = {seen: set() for seen in ("", *SEEN)}
        for answer in self._table.answers:
            hashes[answer.seen].add(answer.sha256)
        if not (hashes["yes"] or hashes["near"]) and hashes[""]:
            return None
        what = f"seen_in_training of {self._file}"
        return TrainingHashes.of(what, hashes["yes"], near_copies=hashes["near"])

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Refuse to predict: there is no model behind the answers.

        Raises:
            UsageError: always, unless there are no faces.
        """
        if len(crops):
            self.refuse()
        return []

    def refuse(self) -> NoReturn:
        """Raise an error: there is no model.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"answers:{self._file} contains answers for certain pictures, not a model: only "
            "'agebench compare' can use it"
        )

    def for_pictures(self, samples: Sequence[Sample]) -> Self:
        """Return the same answers, joined to the pictures of a data set.

        A row belongs to a picture if one of their paths ends in the other, folder by folder, and no
        other picture matches.  The spec's notes list the rows that match none or several, and those
        that repeat another one.

        Raises:
            DatasetError: no row belongs to a picture.
        """
        joined, unused = _join(self._table.answers, samples)
        if not joined:
            raise DatasetError(
                f"none of the {len(unused)} answers in {self._file} belongs to a picture of the "
                f"data set: the first is {unused[0]}, and a picture is {picture_of(samples[0])}: "
                "write their names alike, upper and lower case included"
            )
        kept, doubled = _without_repeats(joined)
        bound = copy.copy(self)
        bound._by_picture = kept
        notes = [
            *self._spec.notes,
            *_listed("rows that do not match exactly one picture", unused),
            *_listed("rows that contradict or repeat another row for the same face", doubled),
            *_listed("rows that can't be read", self._table.problems),
        ]
        counts = _counts(self._table, kept, unused, doubled)
        settings = {**self._spec.settings, **counts}
        bound._spec = replace(self._spec, notes=tuple(notes), settings=settings)
        return bound

    def answer(self, sample: Sample, face_xyxy: Box | None) -> Answer | str:
        """Return the answer for a picture's face, or the reason why there is none.

        Args:
            sample: of the data set given to `for_pictures`.
            face_xyxy: the scored face: of several answers with boxes the one with the highest IoU,
            at least `MIN_LABEL_IOU`, is used.  None: the largest.
        """
        answers = self._by_picture.get(picture_of(sample), ())
        if not answers:
            return f"no answer for it in {self._file}"
        with_box = [item for item in answers if item.box_xyxy is not None]
        if not with_box:
            return answers[0]
        if face_xyxy is None:
            return max(with_box, key=lambda item: _area(item.box_xyxy))
        overlaps = [box_iou(item.box_xyxy or face_xyxy, face_xyxy) for item in with_box]
        best = max(range(len(with_box)), key=overlaps.__getitem__)
        if overlaps[best] < MIN_LABEL_IOU:
            return f"no answer in {self._file} matches the scored face"
        return with_box[best]


def picture_of(sample: Sample) -> str:
    """Return the name of a sample's picture, without the box of its face."""
    return sample.name if sample.box_xyxy is None else without_place(sample.name)


def _area(box: Box | None) -> float:
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def _join(
    answers: Iterable[Answer], samples: Iterable[Sample]
) -> tuple[dict[str, list[Answer]], list[str]]:
    """Return the answers by name of their picture, and the rows that do not match one picture."""
    by_base: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for name in dict.fromkeys(map(picture_of, samples)):
        parts = _parts(name)
        by_base[parts[-1]][name] = parts
    joined: dict[str, list[Answer]] = defaultdict(list)
    unused: list[str] = []
    for answer in answers:
        parts = _parts(answer.picture)
        if parts[-1] not in by_base:
            parts = _parts(without_place(answer.picture))
        near = by_base.get(parts[-1], {})
        names = [name for name, own in near.items() if own == parts] or [
            name for name, own in near.items() if _ends_in(own, parts) or _ends_in(parts, own)
        ]
        if len(names) == 1:
            joined[names[0]].append(answer)
        else:
            many = f" ({len(names)} pictures)" if names else ""
            unused.append(f"line {answer.line}: {answer.picture}{many}")
    return joined, unused


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", ".")) or (
        path,
    )


def _ends_in(path: tuple[str, ...], ending: tuple[str, ...]) -> bool:
    return path[-len(ending) :] == ending


def _without_repeats(
    joined: Mapping[str, Sequence[Answer]],
) -> tuple[dict[str, tuple[Answer, ...]], list[str]]:
    """Keep the first of equal answers for a face, and none of contradicting ones."""
    kept: dict[str, tuple[Answer, ...]] = {}
    doubled: list[str] = []
    for name, answers in joined.items():
        faces: dict[Box | None, list[Answer]] = defaultdict(list)
        for answer in answers:
            faces[answer.box_xyxy].append(answer)
        good = [same[0] for same in faces.values() if len({item.years for item in same}) == 1]
        for same in faces.values():
            ages = Counter(item.years for item in same)
            if len(ages) > 1:
                doubled += [f"line {item.line}: {name}, {item.years:g} years" for item in same]
            else:
                doubled += [
                    f"line {item.line}: {name}, repeats line {same[0].line}" for item in same[1:]
                ]
        if good:
            kept[name] = tuple(good)
    return kept, doubled


def _listed(what: str, rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    more = f", and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return [f"{what} ({len(rows)}): {'; '.join(rows[:SHOWN_ROWS])}{more}"]


def _counts(
    table: AnswerTable,
    kept: Mapping[str, Sequence[Answer]],
    unused: Sequence[str],
    doubled: Sequence[str],
) -> dict[str, int]:
    return {
        "answers": len(table.answers),
        "pictures": len(kept),
        "without_age": table.without_age,
        "unmatched": len(unused),
        "doubled": len(doubled),
        "unreadable": len(table.problems),
    }
