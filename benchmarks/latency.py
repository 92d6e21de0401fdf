"""Latency by batch size, written as JSON and as a Markdown table.

    python benchmarks/make_random_age_net.py random.caffemodel
    python benchmarks/latency.py hse-mobilenet caffe-age-net:random.caffemodel constant \
        --batch 1,4,16 --name latency_cpu

With --device cuda and ONNX files it measures a GPU: --name latency_cuda.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from agebench.benchmark.result import BENCH_FILE, BenchResult, BenchSettings
from agebench.benchmark.speed import bench
from agebench.benchmark.tables import print_bench
from agebench.cli.bench import read_batches
from agebench.errors import AgebenchError
from agebench.metrics.number_format import amount, significant
from agebench.references import join_options
from agebench.util.files import write_whole

RESULTS = Path(__file__).with_name("results")
COLUMNS = (
    "estimator",
    "runtime",
    "batch",
    "n",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "crop ms",
    "infer ms",
    "faces/s",
    "roofline ms",
    "infer / roofline",
)


def rows(result: BenchResult) -> list[list[str]]:
    """Return one row of `COLUMNS` per estimator and batch size."""
    found = []
    for entry in result.entries:
        for times in entry.sweep:
            roofline, infer = entry.roofline_ms(times.batch), times.infer.percentile(50)
            cells = [*(times.total.percentile(percent) for percent in (50, 90, 99))]
            cells += [times.crop.percentile(50), infer, times.faces_per_s, roofline]
            cells.append(infer / roofline if roofline and infer is not None else None)
            counts = [str(times.batch), str(len(times.total.samples_ms))]
            runtime = entry.runner.estimator.spec.runtime.runtime
            found.append([entry.runner.name, runtime, *counts, *map(significant, cells)])
    return found


def markdown(result: BenchResult) -> str:
    """Return the table, and everything that the command prints."""
    lines = ["# Latency by batch size", ""]
    environment, machine = result.about["environment"], result.about["machine"]
    lines += [
        f"{result.about['created']}, {environment['processor']}, {environment['cores']} "
        f"processors, {amount(environment['memory_bytes'], 'B')}; {environment['system']}. "
        f"{machine['threads']} threads. Load average before "
        f"{machine['load_average_before']}, after {machine['load_average_after']}: the machine is "
        "shared with others. docs/latency.md tells how to read this.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in rows(result)),
    ]
    text = io.StringIO()
    print_bench(result, Console(file=text, width=100))
    printed = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, "", "As printed:", "", "```", *printed, "```", ""])


def rounded(value: Any) -> Any:
    """Return a result with numbers of four digits: thousands of times vary more than that.

    >>> rounded({"p50_ms": 8.51234567, "n": [123456, 1.5]})
    {'p50_ms': 8.512, 'n': [123456, 1.5]}
    """
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


def main(arguments: list[str] | None = None) -> int:
    """Measure, write both files; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("estimators", nargs="+", metavar="ESTIMATOR")
    parser.add_argument("--batch", default="1,4,16")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--cold-start", type=int, default=5)
    parser.add_argument("--name", default="latency_cpu", help="of the files in results/")
    args = parser.parse_args(arguments)
    try:
        settings = BenchSettings(
            device=args.device,
            batches=read_batches(args.batch),
            threads=args.threads,
            repeats=args.repeats,
            cold_starts=args.cold_start,
        )
        result = bench(join_options(args.estimators), out=RESULTS, settings=settings)
        held = json.loads((RESULTS / BENCH_FILE).read_text(encoding="utf-8"))
        (RESULTS / BENCH_FILE).unlink()
        compact = json.dumps(rounded(held), separators=(",", ":"))
        write_whole(RESULTS / f"{args.name}.json", compact + "\n")
        write_whole(RESULTS / f"{args.name}.md", markdown(result))
    except AgebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
