"""How often is one of several copies of the same model called faster?  200 sweeps of each kind.

Copies of one ONNX file take equally long, so every "faster" is false, and at most 5 % of the sweeps
of `agebench bench` may contain one.  The sweeps run on the machine as it is, and again next to two
busy processes that this script starts.  The results also say what the verdicts would have been
from the intervals alone, ignoring the control and the load of the machine, and from the sign test
on runs of neighbouring rounds that was used up to schema version 1.

    python benchmarks/aa_control.py --sweeps 200

An interrupted run resumes; --anew starts again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.progress import track

from agebench.benchmark.speed import compare_sweep
from agebench.benchmark.sweep import Rounds, Runner, Sweep, run_sweep
from agebench.harness.environment import describe_machine
from agebench.metrics.intervals import Interval
from agebench.metrics.proportions import wilson_interval
from agebench.runtimes.threads import pinned
from agebench.timing.devices import load_on
from agebench.timing.ratios import BLOCKS, LEVEL, MIN_ROUNDS_PER_BLOCK, statement_level
from agebench.timing.sweep_faces import generated_face
from agebench.util.files import write_whole

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "aa_control.json"
CONDITIONS = {"idle": 0, "busy": 2}
"""Number of busy processes that run next to the sweeps."""

BATCH = 1


def small_network() -> onnx.ModelProto:
    """Return three convolutions and a softmax over the years 0 to 100, with random weights."""
    draws = np.random.default_rng(0)
    nodes, weights, before = [], [], "pixels"

    def weight(name: str, *shape: int) -> str:
        values = draws.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    for layer, (channels_in, channels_out) in enumerate(pairwise((3, 48, 96, 192))):
        inputs = [before, weight(f"w{layer}", channels_out, channels_in, 3, 3)]
        nodes.append(
            onnx.helper.make_node("Conv", inputs, [f"c{layer}"], strides=[2, 2], pads=[1, 1, 1, 1])
        )
        nodes.append(onnx.helper.make_node("Relu", [f"c{layer}"], [before := f"r{layer}"]))
    nodes += [
        onnx.helper.make_node("GlobalAveragePool", [before], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", weight("w", 101, 192)], ["logits"], transB=1),
        onnx.helper.make_node("Softmax", ["logits"], ["shares"]),
    ]
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["n", 3, 96, 96])
    probabilities = onnx.helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, ["n", 101])
    graph = onnx.helper.make_graph(nodes, "small", [pixels], [probabilities], weights)
    return onnx.helper.make_model(
        graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]
    )


SPEC = """name = "{name}"
files = {{model = "{name}.onnx"}}
runtime = {{runtime = "onnxruntime"}}
crop = {{size = [96, 96]}}
input = {{channel_order = "rgb", mean = [127.5, 127.5, 127.5], scale = 0.0078125}}
output = {{kind = "probabilities"}}
bins = {{ranges = {ranges}}}
decode = {{rule = "expectation"}}
"""


def copy(folder: Path, name: str, model: Path | None) -> str:
    """Write a copy of the model into the folder; return its reference."""
    path = folder / f"{name}.onnx"
    if model is not None:
        shutil.copyfile(model, path)
        return f"onnx:{path}"
    onnx.save(small_network(), path)
    ranges = json.dumps([f"{year}-{year}" for year in range(101)])
    (folder / f"{name}.toml").write_text(SPEC.format(name=name, ranges=ranges))
    return f"spec:{folder / name}.toml"


BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): sum(range(100_000))"
"""What a busy process runs: it ends when its parent is gone."""


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run this many processes that only use processor time."""
    with ExitStack() as stack:
        for _ in range(number):
            process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def sign_test_interval(
    first_ms: Sequence[float], second_ms: Sequence[float], level: float
) -> Interval | None:
    """Return the interval of the ratio as it was up to schema version 1."""
    from scipy.special import bdtr

    logs = np.log(second_ms) - np.log(first_ms)
    length = max(1, int(math.cbrt(len(logs)) + 1e-9))
    runs = len(logs) // length
    ratios = np.sort(np.exp(logs[: runs * length].reshape(runs, length).mean(axis=1)))
    outside = int(np.count_nonzero(bdtr(np.arange(runs), runs, 0.5) < (1 - level) / 2))
    if outside < 1:
        return None
    return Interval(float(ratios[outside - 1]), float(ratios[-outside]), level)


def leaves_out_one(interval: Interval | None) -> bool:
    """Return whether an interval would have been called a difference."""
    return interval is not None and not interval.low <= 1 <= interval.high


def judged(runners: Sequence[Runner], sweep: Sweep) -> dict[str, Any]:
    """Return the verdicts on one sweep."""
    comparisons, (control,) = compare_sweep(runners, sweep)
    times = [own[0].total.samples_ms for own in sweep.times]
    level = statement_level(len(comparisons))
    return {
        "faster": any("faster" in one.verdict for one in comparisons),
        "no_verdict": sorted({one.reason for one in comparisons if one.reason}),
        "intervals_alone": any(leaves_out_one(one.interval) for one in comparisons),
        "sign_test": any(
            leaves_out_one(sign_test_interval(first, second, level))
            for first, second in combinations(times, 2)
        ),
        "ratios": [one.ratio for one in comparisons],
        "noise_floor": control.noise_floor,
        "p50_ms": float(np.median(times[0])),
        "load_average": sweep.busyness.load_average_after,
        "others_processors": sweep.busyness.others_processors,
    }


def rate(sweeps: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Return the fraction of sweeps for which `key` is true, with its interval."""
    number = sum(bool(one[key]) for one in sweeps)
    interval = wilson_interval(number, len(sweeps), LEVEL)
    ends = None if interval is None else [round(interval.low, 4), round(interval.high, 4)]
    return {"sweeps": number, "of": len(sweeps), "fraction": number / len(sweeps), "interval": ends}


def summary(sweeps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rates of one condition."""
    if not sweeps:
        return {}
    others = [one["others_processors"] for one in sweeps if one["others_processors"] is not None]
    return {
        "called_faster": rate(sweeps, "faster"),
        "without_any_verdict": rate(sweeps, "no_verdict"),
        "intervals_alone": rate(sweeps, "intervals_alone"),
        "sign_test": rate(sweeps, "sign_test"),
        "p50_ms": float(np.median([one["p50_ms"] for one in sweeps])),
        "noise_floor": float(np.median([one["noise_floor"] for one in sweeps])),
        "others_processors": float(np.median(others)) if others else None,
    }


def read(path: Path, settings: Mapping[str, Any], anew: bool) -> dict[str, Any]:
    """Return what was measured before with the same settings."""
    stored = {} if anew or not path.exists() else json.loads(path.read_text())
    if stored.get("settings") == settings:
        return dict(stored["sweeps"])
    if stored:
        print(f"{path} was made with other settings, and is started again")
    return {}


def main() -> None:
    """Run the sweeps that are missing, print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=200, help="of each condition")
    parser.add_argument("--condition", choices=[*CONDITIONS, "both"], default="both")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=24, help="per sweep, in six blocks")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--model", type=Path, help="an ONNX file that agebench wrote")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    args = parser.parse_args()
    if args.rounds < BLOCKS * MIN_ROUNDS_PER_BLOCK or args.copies < 2:
        parser.error("expected at least two copies and 12 rounds")
    settings = {
        "model": "made up" if args.model is None else args.model.name,
        "copies": args.copies,
        "rounds": args.rounds,
        "threads": args.threads,
        "batch": BATCH,
    }
    sweeps_by_condition = read(args.out, settings, args.anew)
    conditions = CONDITIONS if args.condition == "both" else {args.condition: 0}
    faces = generated_face()
    with tempfile.TemporaryDirectory() as folder, pinned(args.threads) as (threads, _):
        names = [f"copy{number}" for number in range(args.copies)]
        references = [copy(Path(folder), name, args.model) for name in names]
        loads = [partial(load_on, reference, None) for reference in references]
        for condition in conditions:
            sweeps: list[dict[str, Any]] = sweeps_by_condition.setdefault(condition, [])
            with busy_processes(CONDITIONS[condition]):
                for _ in track(range(len(sweeps), args.sweeps), condition):
                    runners = [
                        Runner(name, load(), load) for name, load in zip(names, loads, strict=True)
                    ]
                    rounds = Rounds(args.rounds)
                    sweep = run_sweep(runners, faces, [BATCH], rounds, threads=threads)
                    sweeps.append(judged(runners, sweep))
                    content = {
                        "settings": settings,
                        "machine": describe_machine(),
                        "rates": {
                            name: summary(every) for name, every in sweeps_by_condition.items()
                        },
                        "sweeps": sweeps_by_condition,
                    }
                    write_whole(args.out, json.dumps(content, separators=(",", ":")) + "\n")
    print(
        json.dumps({name: summary(every) for name, every in sweeps_by_condition.items()}, indent=1)
    )


if __name__ == "__main__":
    main()
