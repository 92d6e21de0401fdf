"""Reading result files; one that is damaged, foreign or too large is refused in a sentence."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from agebench.benchmark.contents import Sweep
from agebench.benchmark.result import BENCH_FILE
from agebench.benchmark.result import READABLE_VERSIONS as BENCH_VERSIONS
from agebench.errors import AgebenchError, UsageError
from agebench.harness.contents import Estimator, Result
from agebench.harness.contents_setup import Dataset
from agebench.harness.results import PREDICTIONS_FILE, READABLE_VERSIONS, RESULT_FILE
from agebench.modelfiles.weights import sha256_of
from agebench.util.regular_files import read_regular
from agebench.util.typed_records import StructureError, read_record

MAX_BYTES = 512 * 1024 * 1024
"""Larger files are refused: as objects they would take some ten times as much memory."""

WHAT = "a result of 'agebench compare'"

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file that has been read and whose structure is known to be right.

    Attributes:
        path: where it was read from.
        content: what is in it.
        json: the same as it is written there, to be passed on.
    """

    path: Path
    content: Result
    json: Mapping[str, Any]

    @property
    def dataset(self) -> Dataset:
        """What was scored."""
        return self.content.dataset

    @property
    def too_busy(self) -> str:
        """Why nobody is called faster; "" where nothing speaks for that, or nothing was timed."""
        return "" if self.content.timing is None else self.content.timing.too_busy

    @property
    def estimators(self) -> Sequence[Estimator]:
        """One entry per estimator."""
        return self.content.estimators

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """One entry per picture, in the order of their names."""
        found: Sequence[Mapping[str, Any]] = self.json["images"]
        return found


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A file of `agebench bench` that has been read and whose structure is known to be right.

    Attributes:
        path: where it was read from.
        content: what is in it.
    """

    path: Path
    content: Sweep


def read_files(paths: Sequence[str | Path]) -> tuple[list[ResultFile], list[SweepFile]]:
    """Read result files, and files of `agebench bench`; each by what is in it.

    Raises:
        UsageError: there is no such file.
        AgebenchError: one is neither, or damaged.
    """
    results: list[ResultFile] = []
    sweeps: list[SweepFile] = []
    for path in paths:
        file = _file(Path(path))
        content = _parse(_read(file), file)
        if isinstance(content, dict) and "comparisons" in content and "images" not in content:
            swept = _typed(content, Sweep, file, BENCH_VERSIONS, "a result of 'agebench bench'")
            if any(file.resolve() == other.path.resolve() for other in sweeps):
                raise UsageError(f"{file} is given twice: name each file once")
            sweeps.append(SweepFile(file, swept))
        else:
            results.append(_checked(content, file))
    return results, sweeps


def read_result(path: str | Path) -> ResultFile:
    """Read and check a result file.

    Args:
        path: the file, or the folder that `agebench compare --out` wrote it into.

    Raises:
        UsageError: there is no such file.
        AgebenchError: it is too large, not JSON, holds a NaN or infinity, or is not a result.
    """
    file = _file(Path(path))
    return _checked(_parse(_read(file), file), file)


def _checked(content: Any, file: Path) -> ResultFile:
    found = _typed(content, Result, file, READABLE_VERSIONS, WHAT)
    try:
        _check_names(found, content["images"])
    except StructureError as error:
        raise AgebenchError(f"{file} is not {WHAT}: {error}") from error
    _check_predictions(found, file)
    return ResultFile(file, found, content)


def as_read(content: Mapping[str, Any], path: Path) -> ResultFile:
    """Return what a run has just measured as if it had been read from its file.

    Args:
        content: what the file holds, or will hold; the pictures may still be on the disk.
        path: of the file, for messages.
    """
    head = json.loads(json.dumps({**content, "images": []}))
    whole = {**head, "images": content["images"]}
    return ResultFile(path, read_record(head, Result), whole)


def _check_predictions(content: Result, file: Path) -> None:
    """Refuse a result beside the predictions of another run."""
    table = file.parent / PREDICTIONS_FILE
    stated = content.predictions_sha256
    if stated is None or file.name != RESULT_FILE or not table.is_file():
        return
    if sha256_of(table) != stated:
        raise AgebenchError(
            f"{table} is not of the run that {file.name} beside it is of (its sha256 is another): "
            "it was changed, or a run was stopped while it wrote: compare again, or move the "
            "table away"
        )


def _typed(
    content: Any, kind: type[_Kind], file: Path, versions: Sequence[int], what: str
) -> _Kind:
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found is not None and found not in versions:
        raise AgebenchError(
            f"{file} is of schema_version {found!r}, expected {' or '.join(map(str, versions))}: "
            "use the version of agebench that wrote it"
        )
    try:
        return read_record(content, kind)
    except StructureError as error:
        raise AgebenchError(f"{file} is not {what}: {error}") from error


def _file(path: Path) -> Path:
    try:
        if not path.is_dir():
            return path
        # A folder that both verbs wrote into stands for its comparison.
        sweep = path / BENCH_FILE
        alone = sweep.is_file() and not (path / RESULT_FILE).exists()
        return sweep if alone else path / RESULT_FILE
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r} can't be read: {error}") from error


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
        raise AgebenchError(f"{path} is not {WHAT}: no UTF-8 text ({error.reason})") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{path} can't be read: {reason}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not a number in JSON")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"the number {literal[:40]} is too large")
    return value


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise AgebenchError(f"{path} is not {WHAT}: its objects are nested too deeply") from error
    except ValueError as error:
        raise AgebenchError(f"{path} is not {WHAT}: no JSON: {error}") from error


def _check_names(content: Result, images: Sequence[Mapping[str, Any]]) -> None:
    """Estimators and pictures have names of their own; predictions are of known estimators."""
    names = [item.name for item in content.estimators]
    known = set(names)
    if len(known) != len(names):
        raise StructureError("estimators with different names", sorted(names))
    pictures = {image["image"] for image in images}
    if len(pictures) != len(images):
        raise StructureError("pictures with different names", len(images))
    for image in images:
        if not known.issuperset(image["predictions"]):
            raise StructureError("predictions of the listed estimators", image["image"])
    pairs = () if content.analysis is None else content.analysis.pairs
    analysed = () if content.analysis is None else content.analysis.estimators
    asked = {name for pair in pairs for name in (pair.first, pair.second)}
    if not known.issuperset(asked.union(analysed)):
        raise StructureError("an analysis of the listed estimators", sorted(asked))
    timed = () if content.timing is None else content.timing.comparisons
    compared = {name for one in timed for name in (one.first, one.second)}
    if not known.issuperset(compared):
        raise StructureError("times of the listed estimators", sorted(compared))
