"""Memory and time of `compare` by the number of pictures, and a run that is killed half-way.

    python benchmarks/compare_scale.py --sizes 10000 100000 --kill 100000

Each size runs in a process of its own: tiny pictures that the data set makes up as they are asked
for (`--listed` lists them as a file of names does), `constant` twice, all statistics, the result
files and the report.  `--kill N` kills a run of N pictures with SIGKILL when half of them are
there, starts it again, and compares what it leaves with the undisturbed run's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image as PillowImage

from agebench.bench.compare import compare
from agebench.bench.environment import describe_environment
from agebench.bench.picture_store import PART_FILE
from agebench.bench.settings import CompareSettings
from agebench.datasets.base import SampleList
from agebench.files import write_whole
from agebench.protocols import DatasetSpec
from agebench.report.reading import ResultFile
from agebench.report.writing import report_on
from agebench.types import Problem, Sample

RESULTS = Path(__file__).with_name("results") / "compare_scale.json"
ESTIMATORS = ["constant", "constant years=50"]


class MadeUp(Sequence[Sample]):
    """Samples of one small picture, each with a name and an age of its own."""

    def __init__(self, count: int, folder: Path) -> None:
        self._count = count
        self._path = folder / "picture.png"
        pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
        PillowImage.fromarray(pixels).save(self._path)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(self._count))]
        if place >= self._count:
            raise IndexError(place)
        age = float(place * 7919 % 90)
        return Sample(self._path, f"{place // 1000:06d}/{place:09d}.png", age)


class Lazy:
    """A data set that holds nothing."""

    def __init__(self, samples: MadeUp) -> None:
        self.spec = DatasetSpec("made-up", "unknown", aligned=True)
        self.samples = samples
        self.problems: tuple[Problem, ...] = ()


def run_here(count: int, out: Path, *, listed: bool) -> dict[str, Any]:
    """Compare, and return what it took."""
    process, began = psutil.Process(), time.perf_counter()
    marks: dict[str, list[tuple[int, int, float]]] = {}

    def note(stage: str, done: int, total: int) -> None:
        if done % max(1, total // 5) == 0 or done == total:
            row = (done, process.memory_info().rss, round(time.perf_counter() - began, 2))
            marks.setdefault(stage, []).append(row)

    with tempfile.TemporaryDirectory() as folder:
        made = MadeUp(count, Path(folder))
        dataset = Lazy(made)
        if listed:
            dataset = SampleList(dataset.spec, tuple(made))  # type: ignore[assignment]
        settings = CompareSettings(latency_images=20, workers=0)
        result = compare(
            ESTIMATORS, dataset, detector="aligned", out=out, settings=settings, progress=note
        )
        compared = time.perf_counter() - began
        report_on(ResultFile(out / "result.json", result.content()))
    return {
        "pictures": count,
        "listed": listed,
        "seconds_compare": round(compared, 1),
        "seconds_report": round(time.perf_counter() - began - compared, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "marks_done_bytes_seconds": marks,
        "taken_over": result.pictures.taken_over,
        "mae_years": [item.mae_years for item in result.estimators],
    }


def start(count: int, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    command = [sys.executable, __file__, "--here", str(count), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a run and return its figures."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run failed with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(printed)
    return found


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def digest(path: Path) -> str:
    """Return the sha256 of a file of any size."""
    found = hashlib.sha256()
    for piece in pieces(path):
        found.update(piece)
    return found.hexdigest()


def killed(count: int, folder: Path, whole: Path) -> dict[str, Any]:
    """Kill a run half-way, let it go on, and compare."""
    part = folder / "killed" / PART_FILE
    process = start(count, part.parent)
    while not part.exists() or sum(piece.count(b"\n") for piece in pieces(part)) < count // 2:
        time.sleep(0.5)
        if process.poll() is not None:
            raise SystemExit("the run ended before it was killed")
    process.kill()
    process.communicate()
    found = finish(start(count, part.parent))
    same = digest(whole / "predictions.csv") == digest(part.parent / "predictions.csv")
    return {**found, "same_predictions_as_undisturbed": same, "part_left": part.exists()}


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--listed", action="store_true", help="all samples in memory")
    parser.add_argument("--kill", type=int, help="pictures of a run that is killed")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run_here(given.here, given.out, listed=given.listed)))
        return
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": [], "killed": []}
    stored["environment"] = describe_environment()
    more = ["--listed"] if given.listed else []
    with tempfile.TemporaryDirectory() as name:
        for count in given.sizes:
            found = finish(start(count, Path(name) / str(count), *more))
            print(json.dumps(found), flush=True)
            same = (count, given.listed)
            others = [run for run in stored["runs"] if (run["pictures"], run["listed"]) != same]
            stored["runs"] = sorted([*others, found], key=lambda run: run["pictures"])
            write_whole(RESULTS, json.dumps(stored, indent=1) + "\n")
        if given.kill:
            whole = Path(name) / str(given.kill)
            if not whole.exists():
                finish(start(given.kill, whole))
            found = killed(given.kill, Path(name), whole)
            print(json.dumps(found), flush=True)
            others = [run for run in stored["killed"] if run["pictures"] != given.kill]
            stored["killed"] = [*others, found]
            write_whole(RESULTS, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
