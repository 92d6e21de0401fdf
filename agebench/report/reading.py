"""Reading the files that a report can be made from: results of comparisons and batch sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.benchmark.contents import Sweep, with_present_names
from agebench.benchmark.result import BENCH_FILE
from agebench.benchmark.result import READABLE_VERSIONS as BENCH_VERSIONS
from agebench.errors import UsageError
from agebench.harness.reading import ResultFile, as_result, in_folder, read_json, read_typed
from agebench.harness.results import RESULT_FILE


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A file of `agebench bench` that has been read and checked.

    Attributes:
        path: of the file.
        content: its content.
    """

    path: Path
    content: Sweep


def read_files(paths: Sequence[str | Path]) -> tuple[list[ResultFile], list[SweepFile]]:
    """Read result files and files of `agebench bench`, which are told apart by their content.

    Args:
        paths: files or folders; of a folder with both kinds of file, the comparison is read.

    Raises:
        UsageError: a file does not exist or is given twice.
        AgebenchError: a file is of neither kind, or damaged.
    """
    results: list[ResultFile] = []
    sweeps: list[SweepFile] = []
    for path in map(Path, paths):
        file = in_folder(path, RESULT_FILE)
        if file != path and not file.exists() and (path / BENCH_FILE).is_file():
            file = path / BENCH_FILE
        content = read_json(file)
        if _is_of_bench(content):
            renamed = with_present_names(content)
            sweep = read_typed(renamed, Sweep, file, BENCH_VERSIONS, "a result of 'agebench bench'")
            if any(file.resolve() == other.path.resolve() for other in sweeps):
                raise UsageError(f"{file} is given twice: give it once")
            sweeps.append(SweepFile(file, sweep))
        else:
            results.append(as_result(content, file))
    return results, sweeps


def _is_of_bench(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and "comparisons" in content
        and content.keys().isdisjoint(("pictures", "images"))
    )
