"""The samples of a data set in columns: about 100 MB for a million of them.

As Python objects each takes 600 to 1,200 bytes, most of them for its path, its mapping of
attributes and their strings.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from agebench.types import Sample

_NATIVE_PATH = type(Path())
_NO_RANGE = (-1, -1)
_NO_BOX = (math.nan,) * 4


class PackedSamples(Sequence[Sample]):  # noqa: PLW1641 - samples have no hash either
    """Samples that are recreated, equal to the original ones, each time they are accessed.

    One that does not fit into the columns, such as an object of a class of its own, is kept as it
    is.

    Args:
        samples: read once.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._names = _Texts()
        self._paths, self._landmarks = _Paths(), _Paths()
        self._ages, self._ranges, self._boxes = array("d"), array("h"), array("d")
        self._people = _Codes()
        self._attributes = _Attributes()
        self._odd: dict[int, Sample] = {}
        for sample in samples:
            self.append(sample)
        self.forget_places()

    def append(self, sample: Sample) -> None:
        """Add one more, before these are used elsewhere."""
        if not _fits(sample):
            self._odd[len(self)] = sample
            # The contents of its columns are not checked.
            sample = Sample(_NATIVE_PATH(), sample.name, None)
        name = sample.name
        self._paths.add(sample.path, name)
        self._landmarks.add(sample.landmarks_path, name)
        self._ages.append(math.nan if sample.age_years is None else sample.age_years)
        self._ranges.extend(sample.age_range or _NO_RANGE)
        self._people.add(sample.identity)
        self._attributes.add(tuple(sample.attributes.items()))
        if sample.box_xyxy is not None and not self._boxes:
            # Samples rarely have boxes: then there is no column.
            self._boxes.extend(_NO_BOX * len(self))
        if self._boxes or sample.box_xyxy is not None:
            self._boxes.extend(sample.box_xyxy or _NO_BOX)
        self._names.add(name)

    def forget_places(self) -> None:
        """Free the memory that is only needed by `append`."""
        for column in (self._people, self._paths, self._landmarks, self._attributes):
            column.forget_places()

    def names(self) -> Iterator[str]:
        """Yield the names alone, in order."""
        return map(self._names.at, range(len(self)))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, place: int | slice) -> Sample | tuple[Sample, ...]:
        rows = range(len(self))[place]
        return self._sample(rows) if isinstance(rows, int) else tuple(map(self._sample, rows))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    def __repr__(self) -> str:
        return f"<{len(self):,} samples>"

    def _sample(self, row: int) -> Sample:
        if row in self._odd:
            return self._odd[row]
        name, age = self._names.at(row), self._ages[row]
        path = self._paths.at(row, name)
        assert path is not None  # noqa: S101 - every sample has one
        low, high = self._ranges[2 * row : 2 * row + 2]
        box = self._boxes[4 * row : 4 * row + 4]
        return Sample(
            path,
            name,
            None if math.isnan(age) else age,
            None if low < 0 else (low, high),
            self._people.at(row),
            dict(self._attributes.at(row)),
            self._landmarks.at(row, name),
            None if not box or math.isnan(box[0]) else (box[0], box[1], box[2], box[3]),
        )


def sample_names(samples: Sequence[Sample]) -> Iterator[str]:
    """Return the names, in order; of packed samples without making each of them anew."""
    if isinstance(samples, PackedSamples):
        return samples.names()
    return (sample.name for sample in samples)


def _fits(sample: Sample) -> bool:
    """Return whether columns preserve the exact values: an age of 30 differs from 30.0 as text.

    Ends of ranges are 0 to 120 by `Sample` itself.
    """
    paths = [path for path in (sample.path, sample.landmarks_path) if path is not None]
    texts = [sample.name, *sample.attributes, *sample.attributes.values()]
    numbers = [*(sample.box_xyxy or ())]
    if sample.age_years is not None:
        numbers.append(sample.age_years)
    if sample.identity is not None:
        texts.append(sample.identity)
    tuples = [each for each in (sample.age_range, sample.box_xyxy) if each is not None]
    return (
        type(sample) is Sample
        # An empty path has no name, nor does the root of a file system.
        and all(type(path) is _NATIVE_PATH and path.name for path in paths)
        and all(type(text) is str for text in texts)
        and all(type(number) is float for number in numbers)
        and all(type(end) is int for end in sample.age_range or ())
        and all(type(values) is tuple for values in tuples)
    )


class _Texts:
    """Concatenated strings as UTF-8, including unpaired surrogates."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])

    def add(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def at(self, row: int) -> str:
        start, end = self._ends[row : row + 2]
        return self._bytes[start:end].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return len(self._ends) - 1


class _Codes:
    """Strings of which many are equal, each stored once; may include None.

    No string remains as an object: those of a million, between what is freed while a set is listed,
    would prevent its memory from being released.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._texts = _Texts()
        self._codes = array("i")

    def add(self, text: str | None) -> None:
        if text is None:
            self._codes.append(-1)
            return
        known = len(self._texts)
        if len(self._places) < known:
            self._places = {self._texts.at(place): place for place in range(known)}
        place = self._places.setdefault(text, known)
        if place == known:
            self._texts.add(text)
        self._codes.append(place)

    def forget_places(self) -> None:
        """Free the memory that is only needed by `add`."""
        self._places = {}

    def at(self, row: int) -> str | None:
        place = self._codes[row]
        return None if place < 0 else self._texts.at(place)

    def __len__(self) -> int:
        return len(self._codes)


class _Paths:
    """Paths as a folder and the rest, which is usually the sample's name."""

    def __init__(self) -> None:
        self._folders = _Codes()
        self._tails = _Texts()

    def add(self, path: Path | None, name: str) -> None:
        text = "" if path is None else path.as_posix()
        if path is None:
            folder, tail = None, ""
        elif name and text.endswith(name):
            folder, tail = text.removesuffix(name), ""
        else:
            folder, slash, tail = text.rpartition("/")
            folder += slash
        self._folders.add(folder)
        self._tails.add(tail)

    def forget_places(self) -> None:
        self._folders.forget_places()

    def at(self, row: int, name: str) -> Path | None:
        folder = self._folders.at(row)
        return None if folder is None else Path(folder + (self._tails.at(row) or name))


class _Attributes:
    """For each sample the names of its attributes, concatenated, and their values."""

    def __init__(self) -> None:
        self._names: list[tuple[str, ...]] = []
        self._places: dict[tuple[str, ...], int] = {}
        self._rows = array("i")
        self._starts = array("q")
        self._values = _Codes()

    def add(self, pairs: tuple[tuple[str, str], ...]) -> None:
        names = tuple(name for name, _ in pairs)
        place = self._places.setdefault(names, len(self._names))
        if place == len(self._names):
            self._names.append(names)
        self._rows.append(place)
        self._starts.append(len(self._values))
        for _, value in pairs:
            self._values.add(value)

    def forget_places(self) -> None:
        self._values.forget_places()

    def at(self, row: int) -> Iterator[tuple[str, str]]:
        start = self._starts[row]
        for step, name in enumerate(self._names[self._rows[row]]):
            yield name, self._values.at(start + step) or ""
