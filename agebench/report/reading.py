"""Reading all that a report may be of: results of comparisons, and batch sweeps."""

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
    """A file of `agebench bench` that has been read and whose structure is known to be right.

    Attributes:
        path: where it was read from.
        content: what is in it.
    """

    path: Path
    content: Sweep


def read_files(paths: Sequence[str | Path]) -> tuple[list[ResultFile], list[SweepFile]]:
    """Read result files, and files of `agebench bench`; each by what is in it.

    Args:
        paths: files, or folders; one that both verbs wrote into stands for its comparison.

    Raises:
        UsageError: there is no such file.
        AgebenchError: one is neither, or damaged.
    """
    results: list[ResultFile] = []
    sweeps: list[SweepFile] = []
    for path in map(Path, paths):
        file = in_folder(path, RESULT_FILE)
        if file != path and not file.exists() and (path / BENCH_FILE).is_file():
            file = path / BENCH_FILE
        content = read_json(file)
        if _is_of_bench(content):
            named = with_present_names(content)
            swept = read_typed(named, Sweep, file, BENCH_VERSIONS, "a result of 'agebench bench'")
            if any(file.resolve() == other.path.resolve() for other in sweeps):
                raise UsageError(f"{file} is given twice: name each file once")
            sweeps.append(SweepFile(file, swept))
        else:
            results.append(as_result(content, file))
    return results, sweeps


def _is_of_bench(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and "comparisons" in content
        and content.keys().isdisjoint(("pictures", "images"))
    )
