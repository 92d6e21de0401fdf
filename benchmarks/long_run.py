"""Memory and open descriptors while `compare` runs over many pictures, several times over.

    python benchmarks/long_run.py UTKFACE --limit 20000 --times 3

One process calls `compare` several times; every second its resident memory (without that of its
children), descriptors and threads are recorded.  The list of predictions may grow within a run; the
level must not grow from one run to the next.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psutil

from agebench import compare
from agebench.harness.environment import describe_environment
from agebench.harness.settings import CompareSettings
from agebench.types import plain
from agebench.util.files import write_whole

RESULTS = Path(__file__).with_name("results") / "long_run.json"
MIB = 2**20


class Watch(threading.Thread):
    """Records this process's state every second until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rows: list[tuple[float, float, int, int]] = []
        self._ended = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        """Record seconds, MiB, descriptors and threads."""
        process = psutil.Process()
        while not self._ended.wait(1.0):
            self.rows.append(
                (
                    round(time.monotonic() - self._began, 1),
                    round(process.memory_info().rss / MIB, 1),
                    process.num_fds(),
                    process.num_threads(),
                )
            )

    def now(self) -> float:
        """Return the seconds since the beginning."""
        return round(time.monotonic() - self._began, 1)

    def stop(self) -> None:
        """Stop recording."""
        self._ended.set()
        self.join()


def _draw(figures: dict[str, Any], path: Path) -> None:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    seconds, mib, descriptors, _ = zip(*figures["rows"], strict=True)
    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(8, 5))
    upper.plot(seconds, mib)
    upper.set_ylabel("resident memory, MiB")
    upper.set_ylim(bottom=0)
    lower.plot(seconds, descriptors)
    lower.set_ylabel("open descriptors")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("seconds")
    for axes in (upper, lower):
        for run in figures["runs"]:
            axes.axvline(run["ended_s"], color="0.7", linewidth=1)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _of_run(rows: list[tuple[float, float, int, int]], began: float, ended: float) -> Any:
    inside = [row for row in rows if began <= row[0] <= ended]
    half = inside[len(inside) // 2 :]
    return {
        "began_s": began,
        "ended_s": ended,
        "peak_mib": max(row[1] for row in inside),
        "mean_mib_second_half": round(sum(row[1] for row in half) / len(half), 1),
        "most_descriptors": max(row[2] for row in inside),
        "most_threads": max(row[3] for row in inside),
    }


def main() -> None:
    """Run, print and write the figures and their plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("utkface", help="folder of the aligned chips")
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--estimators", nargs="+", default=["multicrop-resnet", "constant"])
    args = parser.parse_args()
    watch = Watch()
    watch.start()
    spans = []
    settings = CompareSettings(limit=args.limit, latency_pictures=20)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.times):
            began = watch.now()
            result = compare(
                args.estimators,
                "utkface",
                root=args.utkface,
                out=Path(folder) / str(turn),
                settings=settings,
            )
            spans.append((began, watch.now()))
            print(f"run {turn + 1}: {spans[-1]}, MAE {result.estimators[0].mae_years}", flush=True)
            del result
            left = psutil.Process().num_fds()
            print(f"descriptors after it: {left}", flush=True)
    watch.stop()
    figures: dict[str, Any] = {
        "pictures": args.limit,
        "estimators": args.estimators,
        "runs": [_of_run(watch.rows, *span) for span in spans],
        "rows": watch.rows,
        "environment": plain(describe_environment()),
    }
    write_whole(RESULTS, json.dumps(figures) + "\n")
    _draw(figures, RESULTS.with_suffix(".png"))
    print(json.dumps(figures["runs"], indent=1))


if __name__ == "__main__":
    main()
