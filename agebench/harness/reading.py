"""Reading result files; damaged, foreign and oversized ones are refused with a message."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from agebench.errors import AgebenchError, UsageError
from agebench.harness.contents import Estimator, Result
from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_setup import Dataset
from agebench.harness.former_names import with_present_names
from agebench.harness.results import (
    PREDICTIONS_FILE,
    READABLE_VERSIONS,
    RESULT_FILE,
    CompareResult,
)
from agebench.modelfiles.weights import sha256_of
from agebench.util.record_fields import StructureError
from agebench.util.regular_files import read_regular
from agebench.util.typed_records import read_record

MAX_BYTES = 512 * 1024 * 1024
"""Larger files are refused: parsed, they take about ten times as much memory."""

WHAT = "a result of 'agebench compare'"

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file that has been read and checked.

    Attributes:
        path: where it was read from.
        content: its content as typed records.
        written: its content as JSON with present key names, including fields that are only passed
            on.
    """

    path: Path
    content: Result
    written: Mapping[str, Any]

    @property
    def dataset(self) -> Dataset:
        """What was scored."""
        return self.content.dataset

    @property
    def too_busy(self) -> str:
        """Why the machine was too busy to compare times; "" if it was not, or nothing was timed."""
        return "" if self.content.timing is None else self.content.timing.too_busy

    @property
    def estimators(self) -> Sequence[Estimator]:
        """One entry per estimator."""
        return self.content.estimators

    @property
    def pictures(self) -> Sequence[Picture]:
        """One entry per picture, in the order of their names."""
        return self.content.pictures


def read_result(path: str | Path) -> ResultFile:
    """Read and check a result file.

    Args:
        path: the file, or the folder that `agebench compare --out` wrote it into.

    Raises:
        UsageError: there is no such file.
        AgebenchError: it is too large, not valid JSON, holds NaN or infinity, or is not a result.
    """
    file = in_folder(Path(path), RESULT_FILE)
    return as_result(read_json(file), file)


def as_result(content: Any, file: Path) -> ResultFile:
    """Check the parsed content of a result file; as `read_result`."""
    content = with_present_names(content)
    found = read_typed(content, Result, file, READABLE_VERSIONS, WHAT)
    try:
        _check_names(found)
    except StructureError as error:
        raise AgebenchError(f"{file} is not {WHAT}: {error}") from error
    _check_predictions(found, file)
    return ResultFile(file, found, content)


def measured(result: CompareResult, path: Path = Path("this result")) -> ResultFile:
    """Return the result of a run as if it had been read from its file.

    Args:
        result: its pictures may still be on the disk, and stay there.
        path: of the file, for messages.
    """
    content = result.content()
    head = json.loads(json.dumps({**content, "pictures": []}))
    found = replace(read_record(head, Result), pictures=content["pictures"])
    return ResultFile(path, found, {**head, "pictures": content["pictures"]})


def _check_predictions(content: Result, file: Path) -> None:
    """Refuse a result next to the predictions of another run."""
    table = file.parent / PREDICTIONS_FILE
    stated = content.predictions_sha256
    if stated is None or file.name != RESULT_FILE or not table.is_file():
        return
    if sha256_of(table) != stated:
        raise AgebenchError(
            f"{table} does not belong to the run of {file.name} (its sha256 differs): it was "
            "changed, or a run was stopped while writing: compare again, or move the table away"
        )


def read_typed(
    content: Any, kind: type[_Kind], file: Path, versions: Sequence[int], what: str
) -> _Kind:
    """Convert the JSON of a file to the record `kind`.

    Raises:
        AgebenchError: it has an unknown version, or is not `what`.
    """
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found is not None and found not in versions:
        known = ", ".join(map(str, versions))
        raise AgebenchError(
            f"{file} has schema_version {found!r}, expected one of {known}: "
            "use the version of agebench that wrote it"
        )
    try:
        return read_record(content, kind)
    except StructureError as error:
        raise AgebenchError(f"{file} is not {what}: {error}") from error


def in_folder(path: Path, name: str) -> Path:
    """Return the file of that name if `path` is a folder, else `path` itself.

    Raises:
        UsageError: the path can't be accessed.
    """
    try:
        return path / name if path.is_dir() else path
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r} can't be read: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file that should hold a result.

    Raises:
        UsageError: there is no such file.
        AgebenchError: it is too large, not valid JSON, or contains NaN or infinity.
    """
    text = _read(path)
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise AgebenchError(f"{path} is not {WHAT}: its objects are nested too deeply") from error
    except ValueError as error:
        raise AgebenchError(f"{path} is not {WHAT}: not valid JSON: {error}") from error


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is not a regular file: expected {WHAT}")
        if status.st_size > MAX_BYTES:
            raise AgebenchError(
                f"{path}: {status.st_size:,} bytes, more than the limit of {MAX_BYTES:,}: "
                "compare on fewer pictures"
            )
        return read_regular(path).decode("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}: expected {WHAT}") from error
    except UnicodeDecodeError as error:
        raise AgebenchError(f"{path} is not {WHAT}: not UTF-8 text ({error.reason})") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{path} can't be read: {reason}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}, which is not a number in JSON")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"the number {literal[:40]} is too large")
    return value


def _check_names(content: Result) -> None:
    """Check that names are unique and that everything refers to known estimators."""
    names = [item.name for item in content.estimators]
    known = set(names)
    if len(known) != len(names):
        raise StructureError("estimators with different names", sorted(names))
    pictures = {image["picture"] for image in content.pictures}
    if len(pictures) != len(content.pictures):
        raise StructureError("pictures with different names", len(content.pictures))
    for image in content.pictures:
        if not known.issuperset(image["predictions"]):
            raise StructureError("predictions of the listed estimators", image["picture"])
    pairs = () if content.analysis is None else content.analysis.pairs
    analysed = () if content.analysis is None else content.analysis.estimators
    asked = {name for pair in pairs for name in (pair.first, pair.second)}
    if not known.issuperset(asked.union(analysed)):
        raise StructureError("an analysis of the listed estimators", sorted(asked))
    timed = () if content.timing is None else content.timing.comparisons
    compared = {name for one in timed for name in (one.first, one.second)}
    if not known.issuperset(compared):
        raise StructureError("times of the listed estimators", sorted(compared))
