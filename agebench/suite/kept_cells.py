"""Caching what a leaderboard takes from a full result, so that it need not be read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agebench.errors import AgebenchError
from agebench.harness.reading import ResultFile, read_result
from agebench.harness.results import RESULT_FILE
from agebench.modelfiles.weights import sha256_of
from agebench.suite.board import read_both
from agebench.suite.board_structure import ModelFile
from agebench.suite.cells import Cell
from agebench.suite.compact import Measured, compact_cell
from agebench.types import plain
from agebench.util.files import write_whole

CELL_FILE = "cell.json"
_RESULT_SHA256 = "result_sha256"


def kept_cell(cell: Cell, folder: Path) -> Mapping[str, Any] | None:
    """Return what a leaderboard keeps of a result, cached in a file next to it.

    Args:
        cell: which.
        folder: of the result.

    Returns:
        None if the result is of another model.

    Raises:
        AgebenchError: the result can't be read, or is damaged.
    """
    file, name = folder / CELL_FILE, cell.contender.name
    sha256 = sha256_of(folder / RESULT_FILE)
    content = _read_cached(file, sha256)
    if content is not None:
        return content if content["model"] == name else None
    result = _read_or_advise(folder)
    if name not in {item.name for item in result.estimators}:
        return None
    compact = compact_cell(Measured(cell.pictures.key, cell.variant, result, name))
    with suppress(AgebenchError):  # another machine's folder may be read-only
        write_whole(file, as_text({**compact, _RESULT_SHA256: sha256}))
    return compact


def cells_elsewhere(
    cell: Cell, outs: Sequence[Path], weights: frozenset[str] | None = None
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield a cell's results in other folders of the suite, each with what a leaderboard keeps.

    Args:
        cell: which.
        outs: the folders.
        weights: `weights_sha256` of the model here; results with others are skipped.  None if not
            available: all are yielded.

    Raises:
        AgebenchError: as `kept_cell`.
    """
    for out in outs:
        for folder in cell.others(out):
            kept = kept_cell(cell, folder)
            if kept is not None and weights in (None, weights_sha256(kept["specs"][0])):
                yield folder, kept


def weights_sha256(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the hashes of a model's files; another package's spec may have none."""
    return frozenset(str(item["sha256"]) for item in spec.get("weights") or ())


def as_text(content: Mapping[str, Any]) -> str:
    """Return a small file's content as text."""
    return (
        json.dumps(plain(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        + "\n"
    )


def _read_or_advise(folder: Path) -> ResultFile:
    """Read a result; the error for a damaged one says how to have it measured again."""
    try:
        return read_result(folder)
    except AgebenchError as error:
        raise AgebenchError(f"{error}; to have it measured again, remove {folder}") from error


def _read_cached(file: Path, sha256: str) -> Mapping[str, Any] | None:
    """Return what was cached for a result with that hash; None if there is nothing."""
    if not file.is_file():
        return None
    try:
        _, content = read_both(file, ModelFile)
    except AgebenchError:  # damaged, or of another version: created again from the result
        return None
    return content if content.get(_RESULT_SHA256) == sha256 else None
