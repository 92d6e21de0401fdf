"""A leaderboard, read from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from agebench.errors import AgebenchError, UsageError
from agebench.harness.contamination import contamination_by
from agebench.harness.contents_setup import Detector, Environment, PublicDataset, Spec
from agebench.suite import board_structure as structure
from agebench.suite.packed import as_years, unpack_numbers, unpack_years
from agebench.types import Floats
from agebench.util.record_fields import StructureError
from agebench.util.regular_files import read_regular
from agebench.util.typed_records import read_record

BOARD_FILE = "board.json"
TIMES_FILE = "times.json"
SETS, MODELS = "sets", "models"
MAX_BYTES = 64 * 1024 * 1024
ADVICE = "make it again with 'agebench suite', or download it again"

_File = TypeVar("_File")


@dataclass(frozen=True, slots=True, eq=False)
class BoardSet:
    """The labels of a set.

    Attributes:
        content: its file.
        true_years: shape (n,), NaN if only a range is known.
        low_years, high_years: shape (n,), ends of the label; equal if an age is known.
        people: shape (n,), a number for each person, -1 if not known; None without any.
        groups: by attribute the names of its groups and, shape (n,), the group of each picture; -1
            for none.
    """

    content: structure.SetFile
    true_years: Floats
    low_years: Floats
    high_years: Floats
    people: npt.NDArray[np.int64] | None
    groups: Mapping[str, tuple[Sequence[str], npt.NDArray[np.int64]]]

    @property
    def key(self) -> str:
        """Its key."""
        return self.content.key

    @property
    def title(self) -> str:
        """Its title on the page."""
        return self.content.title

    @property
    def dataset(self) -> PublicDataset:
        """Its description in results."""
        return self.content.dataset

    @property
    def of_ranges(self) -> bool:
        """Whether its labels are ranges, so that an error is the distance to one."""
        return self.content.range_low is not None

    def signed_errors(self, years: Floats) -> Floats:
        """Return signed errors in years, distances for range labels; NaN without an age."""
        below, above = np.minimum(years - self.low_years, 0), np.maximum(years - self.high_years, 0)
        return np.asarray(below + above, np.float64)

    def clusters(self, rows: npt.NDArray[np.intp]) -> list[int | None] | None:
        """Return the identities in the pictures at `rows`; None if none is known."""
        if self.people is None:
            return None
        return [None if code < 0 else int(code) for code in self.people[rows].tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class BoardCell:
    """One model on one set.

    Attributes:
        content: its entry of "cells".
        years: shape (n,), NaN if there is none.
        numbers: the same in packed form.
        spec, detector, environment: that it was measured with.
    """

    content: structure.CellFile
    years: Floats
    numbers: npt.NDArray[np.int64]
    spec: Spec
    detector: Detector
    environment: Environment

    def contamination(self, dataset: PublicDataset) -> str:
        """Return why the model gets no verdict, computed again rather than as stated."""
        return contamination_by(
            dataset, self.content.scored, self.content.seen_in_training, self.spec
        )


@dataclass(frozen=True, slots=True, eq=False)
class BoardModel:
    """One model.

    Attributes:
        name: its reference.
        title: on the page.
        cells: by the set's key and the variant.
        missing: why a set's cell is empty, by the set's key.
        suspected: by the set's key, why it is suspected to have been trained on it.
    """

    name: str
    title: str
    cells: Mapping[tuple[str, str], BoardCell]
    missing: Mapping[str, str] = field(default_factory=dict)
    suspected: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Spec | None:
        """Its spec, from its first result; None without any."""
        return next((cell.spec for cell in self.cells.values()), None)

    @property
    def is_constant(self) -> bool:
        """Whether it is the baseline that predicts the same age for everybody."""
        return self.spec is not None and self.spec.name == "constant"


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """A leaderboard.

    Attributes:
        title: of the page.
        sets, models: in the order of the suite.
        empty_sets: titles by key of sets that nothing has been measured on.
        changed: the sets whose pictures were changed, by key.
        times: the run that timed all models; None without one.
    """

    title: str
    sets: Sequence[BoardSet]
    models: Sequence[BoardModel]
    empty_sets: Mapping[str, str]
    changed: Mapping[str, BoardSet]
    times: structure.TimesFile | None


def read_board(folder: str | Path) -> Board:
    """Read a leaderboard's files.

    Raises:
        UsageError: there is no such folder.
        AgebenchError: a file is damaged, or does not fit the others.
    """
    root = Path(folder)
    if not (root / BOARD_FILE).is_file():
        raise UsageError(f"{root} has no {BOARD_FILE}: expected the files of a leaderboard")
    listed = read_board_file(root / BOARD_FILE, structure.BoardFile)
    sets = {key: read_set(root / SETS / f"{key}.json") for key in listed.sets}
    changed = {
        key: read_set(path)
        for key in listed.sets
        if (path := root / SETS / f"{key}.changed.json").is_file()
    }
    models = []
    for entry in listed.models:
        if entry.file is None:
            models.append(BoardModel(entry.name, entry.title, {}, entry.missing))
            continue
        model = read_board_model(_model_path(root, entry.file), sets, changed)
        models.append(replace(model, missing=entry.missing, suspected=entry.suspected))
    times = root / TIMES_FILE
    return Board(
        title=listed.title,
        sets=list(sets.values()),
        models=models,
        empty_sets={item.key: item.title for item in listed.empty_sets},
        changed=changed,
        times=read_board_file(times, structure.TimesFile) if times.is_file() else None,
    )


def unlisted_files(folder: str | Path) -> list[Path]:
    """Return the files of sets and models in a leaderboard's folder that its list does not name.

    Raises:
        AgebenchError: the list is damaged.
    """
    root = Path(folder)
    listed = read_board_file(root / BOARD_FILE, structure.BoardFile)
    used = {_model_path(root, entry.file) for entry in listed.models if entry.file is not None}
    used |= {root / SETS / f"{key}{end}.json" for key in listed.sets for end in ("", ".changed")}
    found = {path for part in (SETS, MODELS) for path in (root / part).glob("*.json")}
    return sorted(found - used)


def _model_path(root: Path, name: str) -> Path:
    return root / MODELS / Path(f"{name}.json").name


def read_board_file(
    path: Path, kind: type[_File], what: str = "a file of a leaderboard", advice: str = ADVICE
) -> _File:
    """Read one file as the record `kind`; as `read_both`."""
    return read_both(path, kind, what, advice)[0]


def read_both(
    path: Path, kind: type[_File], what: str = "a file of a leaderboard", advice: str = ADVICE
) -> tuple[_File, Mapping[str, Any]]:
    """Read one file; return the record, and its parsed JSON.

    Args:
        path: of the file.
        kind: of the record.
        what: the file should be, for messages.
        advice: what to do about a damaged one.

    Raises:
        AgebenchError: it can't be read, or is not valid.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        content = json.loads(read_regular(path), parse_constant=_refused)
        return read_record(content, kind), content
    except OSError as error:
        raise AgebenchError(f"{path} can't be read: {error.strerror}: check the path") from error
    except StructureError as error:
        raise AgebenchError(f"{path}: {error}: {advice}") from error
    except (ValueError, RecursionError) as error:
        invalid = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))
        reason = f"not valid JSON: {error}" if invalid else str(error)
        raise AgebenchError(f"{path} is not {what}: {reason}: {advice}") from error


def _refused(name: str) -> float:
    raise ValueError(f"it contains {name}, which is not a number in JSON")


def read_set(path: Path) -> BoardSet:
    """Read a set's file.

    Raises:
        AgebenchError: it is damaged.
    """
    content = read_board_file(path, structure.SetFile)
    try:
        return _set(content)
    except ValueError as error:
        raise AgebenchError(f"{path}: {error}") from error


def _set(content: structure.SetFile) -> BoardSet:
    count = content.pictures
    missing = np.full(count, np.nan)

    def packed(text: str | None) -> Floats:
        if text is None:
            return missing
        numbers = unpack_numbers(text, count)
        return np.where(numbers < 0, np.nan, numbers.astype(np.float64))

    true = missing if content.true_years is None else unpack_years(content.true_years, count)
    exact = np.isfinite(true)
    people = content.people
    return BoardSet(
        content=content,
        true_years=true,
        low_years=np.where(exact, true, packed(content.range_low)),
        high_years=np.where(exact, true, packed(content.range_high)),
        people=None if people is None else unpack_numbers(people, count),
        groups={
            name: (group.names, _codes(group, count)) for name, group in content.groups.items()
        },
    )


def _codes(group: structure.Groups, count: int) -> npt.NDArray[np.int64]:
    codes = unpack_numbers(group.codes, count)
    if codes.min() < -1 or codes.max() >= len(group.names):
        raise ValueError(f"expected numbers of {len(group.names)} groups, got {codes.max()}")
    return codes


def read_board_model(
    path: Path, sets: Mapping[str, BoardSet], changed: Mapping[str, BoardSet]
) -> BoardModel:
    """Read a model's file, and match it with the sets; cells of unknown sets are ignored.

    Raises:
        AgebenchError: it is damaged, or its pictures differ from the sets'.
    """
    content = read_board_file(path, structure.ModelFile)
    cells: dict[tuple[str, str], BoardCell] = {}
    for cell in content.cells:
        pictures = (changed if cell.variant else sets).get(cell.set)
        if pictures is None:
            continue
        place = (cell.set, cell.variant)
        try:
            if place in cells:
                raise ValueError("it appears twice")
            cells[place] = _cell(cell, content, pictures)
        except ValueError as error:
            called = " ".join(filter(None, place))
            raise AgebenchError(f"{path}, {called}: {error}") from error
    return BoardModel(content.model, content.title, cells)


def _cell(cell: structure.CellFile, content: structure.ModelFile, pictures: BoardSet) -> BoardCell:
    stated, known = cell.content_sha256, pictures.dataset.content_sha256
    if stated != known:
        raise ValueError(
            f"it was measured on data of sha256 {stated:.12}, but those of the set are "
            f"{known:.12}: the pictures or labels differ"
        )
    for name in ("spec", "detector", "environment"):
        place, listed = getattr(cell, name), len(getattr(content, f"{name}s"))
        if place >= listed:
            raise ValueError(f"expected one of the {listed} {name}s in the file, got {place}")
    numbers = unpack_numbers(cell.years, pictures.content.pictures)
    return BoardCell(
        content=cell,
        years=as_years(numbers),
        numbers=numbers,
        spec=content.specs[cell.spec],
        detector=content.detectors[cell.detector],
        environment=content.environments[cell.environment],
    )
