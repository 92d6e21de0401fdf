"""The pictures of a result as columns of numbers, from which all figures are computed.

A picture takes thousands of bytes as Python objects, and a few tens as a row of these columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agebench.harness.contents_pictures import Picture, Prediction
from agebench.types import Floats
from agebench.util.arrays import Bools, Ints

DISTRIBUTION_SCORES = ("nll", "crps_years", "pit")
INTERVALS = ("interval_50", "interval_80", "interval_95")
_SCORE_COLUMNS = len(DISTRIBUTION_SCORES) + 2 * len(INTERVALS)

MOST_NAMES = 100_000
"""An attribute with more values, such as a file name, is not kept."""


@dataclass(frozen=True, slots=True, eq=False)
class DistributionScores:
    """Scores of one estimator's distributions.

    Attributes:
        rows: the pictures that have one, ascending, shape (k,).
        values: `DISTRIBUTION_SCORES`, then low and high of each of `INTERVALS`, shape (k, 9);
            NaN for what is not known.
    """

    rows: Ints
    values: Floats

    def of(self, pictures: Ints) -> tuple[Ints, Floats]:
        """Return which of the `pictures` have an NLL, and their values."""
        inside = np.isin(self.rows, pictures) & ~np.isnan(self.values[:, 0])
        return self.rows[inside], self.values[inside]


@dataclass(frozen=True, slots=True, eq=False)
class EstimatorAnswers:
    """Predictions of one estimator, shape (n,) each.

    Attributes:
        years: NaN where it gave no age.
        class_index: among its own classes, -1 where it gave none.
        outside: largest fraction of a crop outside the picture.
        distributions: their scores.
    """

    years: Floats
    class_index: Ints
    outside: Floats
    distributions: DistributionScores

    @property
    def answered(self) -> Bools:
        """Which pictures it gave an age for."""
        return ~np.isnan(self.years)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """All pictures of a result, shape (n,) each.

    Attributes:
        true_years: NaN where it is not known.
        ranges: first and last year of range labels, shape (n, 2); -1 for no range.
        identities: who each picture shows; None if no picture has an identity.
        face: which pictures have a face that was found and cropped.
        no_face: number of pictures without one.
        several_faces: number of pictures with more than one.
        attributes: by name of a further label, its values, and each picture's index among them, -1
            for none.
        answers: predictions by name of the estimator.
    """

    true_years: Floats
    ranges: Ints
    identities: Sequence[str | None] | None
    face: Bools
    no_face: int
    several_faces: int
    attributes: Mapping[str, tuple[tuple[str, ...], Ints]]
    answers: Mapping[str, EstimatorAnswers]

    def __len__(self) -> int:
        return len(self.true_years)

    @property
    def answered(self) -> Bools:
        """Which estimators gave an age for which pictures, shape (estimators, n)."""
        there = [item.answered for item in self.answers.values()]
        return np.stack(there) if there else np.zeros((0, len(self)), np.bool_)


def columns_of(images: Iterable[Picture], names: Iterable[str]) -> Columns:
    """Return the columns of "pictures" of a result.

    Args:
        images: read once.
        names: of the available estimators.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: the entries are malformed.
    """
    builder = ColumnsBuilder(names)
    try:
        for image in images:
            builder.add(image)
    except OverflowError as error:
        raise ValueError(f"a number of a picture is out of range: {error}") from error
    return builder.columns()


class ColumnsBuilder:
    """Builds columns from the entries of "pictures", one by one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._true, self._ranges = array("d"), array("h")
        self._people: list[str | None] = []
        self._known: dict[str, str] = {}
        self._face = bytearray()
        self._no_face = self._several = 0
        self._attributes: dict[str, _Attribute] = {}
        self._answers = {name: _AnswersBuilder() for name in names}

    def add(self, image: Picture) -> None:
        """Add one picture."""
        row = len(self._true)
        age, status, person = image["true_years"], image.get("status", "ok"), image["identity"]
        self._true.append(np.nan if age is None else age)
        self._ranges.extend(image.get("true_range") or (-1, -1))
        # One string object for all pictures of a person.
        self._people.append(None if person is None else self._known.setdefault(person, person))
        self._face.append(status == "ok")
        self._no_face += status == "no_face"
        self._several += image.get("faces", 0) > 1
        for name, value in image["attributes"].items():
            if name not in self._attributes:
                self._attributes[name] = _Attribute()
            self._attributes[name].add(row, value)
        predictions = image["predictions"]
        for name, answers in self._answers.items():
            answers.add(row, predictions.get(name))

    def columns(self) -> Columns:
        """Return the columns of all pictures added."""
        count = len(self._true)
        return Columns(
            true_years=np.array(self._true),
            ranges=np.array(self._ranges).reshape(count, 2).astype(np.intp),
            identities=self._people if self._known else None,
            face=np.array(self._face, dtype=np.uint8).astype(np.bool_),
            no_face=self._no_face,
            several_faces=self._several,
            attributes={
                name: item.finished(count) for name, item in self._attributes.items() if item.kept
            },
            answers={name: answers.finished() for name, answers in self._answers.items()},
        )


_NOTHING: Prediction = {"status": "", "years": None}


class _AnswersBuilder:
    """Builds the columns of one estimator."""

    def __init__(self) -> None:
        self._years, self._class, self._outside = array("d"), array("h"), array("d")
        self._rows, self._distributions = array("q"), array("d")

    def add(self, row: int, prediction: Prediction | None) -> None:
        prediction = _NOTHING if prediction is None else prediction
        years, index = prediction["years"], prediction.get("class_index")
        self._years.append(np.nan if years is None else years)
        self._class.append(-1 if index is None else index)
        self._outside.append(prediction.get("outside", 0.0))
        ends = [
            prediction.get("interval_50"),
            prediction.get("interval_80"),
            prediction.get("interval_95"),
        ]
        if prediction.get("nll") is not None or any(pair is not None for pair in ends):
            self._rows.append(row)
            numbers = [prediction.get("nll"), prediction.get("crps_years"), prediction.get("pit")]
            numbers += [end for pair in ends for end in pair or (None, None)]
            self._distributions.extend(np.nan if one is None else one for one in numbers)

    def finished(self) -> EstimatorAnswers:
        distributions = DistributionScores(
            np.array(self._rows).astype(np.intp, copy=False),
            np.array(self._distributions).reshape(len(self._rows), _SCORE_COLUMNS),
        )
        index = np.array(self._class).astype(np.intp)
        return EstimatorAnswers(
            np.array(self._years), index, np.array(self._outside), distributions
        )


class _Attribute:
    """Builds the column of one further label."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._values: dict[str, int] = {}

    @property
    def kept(self) -> bool:
        return len(self._values) <= MOST_NAMES

    def add(self, row: int, value: str) -> None:
        if not self.kept:
            self._codes = array("i")
            return
        self._pad(row)
        self._codes.append(self._values.setdefault(value, len(self._values)))

    def _pad(self, rows: int) -> None:
        self._codes.extend([-1] * (rows - len(self._codes)))

    def finished(self, count: int) -> tuple[tuple[str, ...], Ints]:
        self._pad(count)
        return tuple(self._values), np.array(self._codes).astype(np.intp)
