"""Memory and time of `compare` by the number of pictures, and a run that is killed half-way.

    python benchmarks/compare_scale.py --sizes 10000 100000 --kill 100000
    python benchmarks/compare_scale.py --listed 1000000 --work FOLDER

Each size runs in its own process, with tiny pictures that are generated on request, `constant`
twice, all statistics, the result files and the report.  `--kill N` kills a run of N pictures with
SIGKILL when half of them are done, starts it again, and compares its files with those of the
undisturbed run.

`--listed N` writes N files (hard links to a few) and lists them with the data set `folders`.  It
may be killed any number of times: the same command resumes, and at the end every line of
predictions.csv is compared with the expected one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
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

from agebench.harness.compare import compare
from agebench.harness.environment import describe_environment
from agebench.harness.picture_store import PART_FILE
from agebench.harness.reading import measured as as_read
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, DatasetSpec
from agebench.registry.plugins import load_dataset
from agebench.report.writing import report_on
from agebench.types import Problem, Sample
from agebench.util.files import write_whole

RESULTS = Path(__file__).with_name("results") / "compare_scale.json"
ESTIMATORS = ["constant", "constant years=50"]
LINKS = 50_000
"""To one file; the usual file system of Linux takes 65,000."""


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
    """A data set whose pictures are generated on request."""

    def __init__(self, samples: MadeUp) -> None:
        self.spec = DatasetSpec("made-up", "unknown", aligned=True)
        self.samples = samples
        self.problems: tuple[Problem, ...] = ()


def run_here(count: int, out: Path) -> dict[str, Any]:
    """Compare pictures that are made up, and return what it took."""
    with tempfile.TemporaryDirectory() as folder:
        return {"listed": False, **measured(Lazy(MadeUp(count, Path(folder))), out)}


def measured(dataset: Dataset, out: Path) -> dict[str, Any]:
    """Compare, and return the wall-clock and processor time in seconds."""
    process, began = psutil.Process(), time.perf_counter()
    marks: dict[str, list[tuple[int, int, float, float]]] = {}

    def note(stage: str, done: int, total: int) -> None:
        if done % max(1, total // 5) == 0 or done == total:
            seconds = (time.perf_counter() - began, time.process_time())
            row = (done, process.memory_info().rss, round(seconds[0], 2), round(seconds[1], 2))
            marks.setdefault(stage, []).append(row)

    settings = CompareSettings(latency_pictures=20, decode_threads=0)
    result = compare(
        ESTIMATORS, dataset, detector="aligned", out=out, settings=settings, progress=note
    )
    compared = time.perf_counter() - began
    report_on(as_read(result, out / "result.json"))
    return {
        "pictures": len(dataset.samples),
        "seconds_compare": round(compared, 1),
        "seconds_report": round(time.perf_counter() - began - compared, 1),
        "seconds_of_process": round(time.process_time(), 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "marks_done_bytes_seconds_process": marks,
        "taken_over": result.counts.taken_over,
        "mae_years": [item.mae_years for item in result.estimators],
    }


def name_of(place: int) -> str:
    """Return the name of a file that is listed; its folder is its age."""
    return f"{place % 90:03d}/{place:09d}.png"


def write_files(count: int, folder: Path) -> None:
    """Write the pictures of a listed run; those that are there stay."""
    for place in range(count):
        path = folder / name_of(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        first = folder.with_name("first") / f"{place // LINKS:03d}.png"
        if not first.exists():
            first.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(place).integers(0, 255, (16, 16, 3), np.uint8)
            PillowImage.fromarray(pixels).save(first)
        if not path.exists():
            path.hardlink_to(first)


def run_listed(count: int, work: Path) -> dict[str, Any]:
    """Compare files, or resume a run that was killed."""
    pictures, starts = work / "pictures", work / "starts"
    write_files(count, pictures)
    with starts.open("a") as file:
        file.write(f"{time.time():.0f}\n")
    began = time.process_time()
    dataset = load_dataset("folders", pictures)
    listing = round(time.process_time() - began, 1)
    found = measured(dataset, work / "out")
    return {
        "listed": True,
        **found,
        "seconds_listing_of_process": listing,
        "starts": len(starts.read_text().splitlines()),
        "lines_that_are_not_as_expected": differing(count, work),
        "part_left": (work / "out" / PART_FILE).exists(),
    }


def differing(count: int, work: Path) -> int:
    """Count the lines of predictions.csv that are not what the pictures' names say."""
    hashes = [digest(path) for path in sorted((work / "first").iterdir())]
    expected = (
        (
            f"{place % 90:03d}/{place:09d}.png",
            name,
            float(place % 90),
            years,
            hashes[place // LINKS],
        )
        for place in sorted(range(count), key=lambda place: (place % 90, place))
        for name, years in zip(ESTIMATORS, (30.0, 50.0), strict=True)
    )
    with (work / "out" / "predictions.csv").open(newline="") as file:
        found = (
            (
                *(row["picture"], row["estimator"], float(row["true_years"])),
                *(float(row["predicted_years"]), row["sha256"]),
            )
            for row in csv.DictReader(file)
        )
        return sum(mine != theirs for mine, theirs in itertools.zip_longest(expected, found))


def start(count: int, out: Path) -> subprocess.Popen[str]:
    """Start a run in its own process."""
    command = [sys.executable, __file__, "--here", str(count), "--out", str(out)]
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
    """Kill a run half-way, resume it, and compare."""
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


def add_run(stored: dict[str, Any], found: dict[str, Any]) -> None:
    """Print and store a run, replacing an earlier one of as many pictures."""
    print(json.dumps(found), flush=True)
    same = (found["pictures"], found["listed"])
    others = [run for run in stored["runs"] if (run["pictures"], run["listed"]) != same]
    stored["runs"] = sorted([*others, found], key=lambda run: (run["listed"], run["pictures"]))
    write_whole(RESULTS, json.dumps(stored) + "\n")


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--listed", type=int, help="files that are listed; needs --work")
    parser.add_argument("--work", type=Path, help="folder of a listed run, which is kept")
    parser.add_argument("--kill", type=int, help="pictures of a run that is killed")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(run_here(args.here, args.out)))
        return
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": [], "killed": []}
    stored["environment"] = describe_environment()
    if args.listed:
        add_run(stored, run_listed(args.listed, args.work))
        return
    with tempfile.TemporaryDirectory() as name:
        for count in args.sizes:
            add_run(stored, finish(start(count, Path(name) / str(count))))
        if args.kill:
            whole = Path(name) / str(args.kill)
            if not whole.exists():
                finish(start(args.kill, whole))
            found = killed(args.kill, Path(name), whole)
            print(json.dumps(found), flush=True)
            others = [run for run in stored["killed"] if run["pictures"] != args.kill]
            stored["killed"] = [*others, found]
            write_whole(RESULTS, json.dumps(stored) + "\n")


if __name__ == "__main__":
    main()
