"""Start-up of `agebench --help` and `import agebench` against `python -c "import click, numpy"`.

Each is a new process; they take turns, in a rotating order, so that drift of the machine's speed
affects all equally.  Processor time is compared as well as the wall clock, which on a busy machine
includes the time that a process waited for a processor.

    python benchmarks/startup.py --rounds 30 --out RESULT.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agebench.harness.environment import describe_environment
from agebench.types import plain

YARDSTICK = "import click, numpy"
CALLS = {
    YARDSTICK: ["-c", YARDSTICK],
    "import agebench": ["-c", "import agebench"],
    "agebench --help": ["-m", "agebench", "--help"],
}
ALLOWED = 1.5
"""Times the yardstick; more is a failure."""


def _processor_s() -> float:
    """Return the processor time of all children that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(arguments: list[str]) -> tuple[float, float]:
    """Run one process to its end; return wall clock and processor time, ms."""
    before, begun = _processor_s(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000, (_processor_s() - before) * 1000


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return all times by call; the first round, which fills the system's caches, is dropped."""
    names = list(CALLS)
    samples: dict[str, dict[str, list[float]]] = {
        name: {"wall_ms": [], "processor_ms": []} for name in names
    }
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            wall, processor = start(CALLS[name])
            if number:
                samples[name]["wall_ms"].append(wall)
                samples[name]["processor_ms"].append(processor)
    return samples


def summary(samples: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Return medians, and the median over the rounds of the ratio to the baseline."""
    found: dict[str, dict[str, Any]] = {}
    for name, kinds in samples.items():
        found[name] = {}
        for kind, values in kinds.items():
            own = zip(values, samples[YARDSTICK][kind], strict=True)
            found[name][kind] = {
                "median": statistics.median(values),
                "to_yardstick": statistics.median(value / yard for value, yard in own),
                "all": values,
            }
    return found


def main() -> None:
    """Measure, and print or write JSON; exit code 1 if a start takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="Where the JSON goes; else it is printed.")
    args = parser.parse_args()
    before = os.getloadavg()
    results = summary(measure(args.rounds))
    content = {
        "environment": plain(describe_environment()),
        "load_average": {"before": before, "after": os.getloadavg()},
        "rounds": args.rounds,
        "allowed": ALLOWED,
        "calls": results,
    }
    text = json.dumps(content, indent=1)
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text + "\n", encoding="utf-8")
    for name, kinds in results.items():
        ratio = kinds["processor_ms"]["to_yardstick"]
        print(f"{name}: {ratio:.2f} times the yardstick's processor time", file=sys.stderr)
        if ratio > ALLOWED:
            sys.exit(1)


if __name__ == "__main__":
    main()
