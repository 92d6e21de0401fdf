"""Every figure of one GPU in one command, at most eight minutes long.

    python -m benchmarks.gpu --device cuda --name gpu-h100
    python -m benchmarks.gpu --device cpu --quick --name rehearsal --out FOLDER

What matters most comes first, and everything is written after every row, so that a run that is
broken off keeps what it has.  What fails (memory that does not suffice, a library that is not
there) is a row with the reason, and the rest goes on.  Networks get faces of noise: the time is the
same.  docs/latency.md tells how to read the result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agebench.bench.devices import require_device
from agebench.bench.environment import describe_call
from agebench.errors import AgebenchError
from agebench.files import write_whole
from agebench.runtimes.gpu_state import read_gpu
from agebench.runtimes.torch_graph import PRECISIONS
from benchmarks import gpu_rows as rows
from benchmarks.gpu_rows import How, Network

RESULTS = Path(__file__).with_name("results")
BATCHES = (1, 4, 16, 64, 256, 1024)
QUICK_BATCHES = (1, 2, 4)
COLUMNS = ("network", "batch", "mode", "precision", "layout")
FIGURES = ("wall_p50_ms", "wall_p99_ms", "event_p50_ms", "faces_per_s", "of_roofline")


@dataclass(slots=True)
class Run:
    """What is measured, and the rows so far.

    Attributes:
        how: where and for how long.
        batches: faces per call, rising.
        end: `time.monotonic()` after which no further row is begun.
        path: where everything is written after each row.
        about: how it was made.
        rows: by section.
    """

    how: How
    batches: tuple[int, ...]
    end: float
    path: Path
    about: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def row(
        self, section: str, measure: Callable[[], Mapping[str, Any]], **what: Any
    ) -> Mapping[str, Any]:
        """Measure one row; a failure is a row too."""
        if time.monotonic() > self.end:
            found: Mapping[str, Any] = {"failed": "there was no time left"}
        else:
            try:
                found = measure()
            except (AgebenchError, RuntimeError, OSError, ImportError) as error:
                first = (str(error) or type(error).__name__).splitlines()[0]
                found = {"failed": f"{type(error).__name__}: {first}"}
                if self.how.device == "cuda":
                    torch.cuda.empty_cache()
        self.rows.setdefault(section, []).append({**what, **found})
        self.write()
        print(section, *what.values(), *(f"{key}={_short(found[key])}" for key in found))
        return found

    def write(self) -> None:
        """Write all rows, whole or not at all."""
        text = json.dumps({"schema_version": 1, **self.about, **self.rows}, indent=1)
        write_whole(self.path, (text + "\n").encode())


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def variants(device: str) -> list[tuple[str, str, str]]:
    """Return mode, precision and layout of the rows, the most wanted first."""
    modes = ("graph", "eager") if device == "cuda" else ("eager",)
    layouts = ("channels_last", "contiguous")
    wanted = [(mode, "float32", "contiguous") for mode in modes]
    others = ("float16", "bfloat16", "tf32", "float32")
    rest = [(mode, kind, layout) for mode in modes for kind in others for layout in layouts]
    return wanted + [item for item in rest if item not in wanted]


def measure_peaks(run: Run) -> dict[str, float]:
    """Return operations per second by precision, and bytes per second; without what failed."""
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        row = run.row("peaks", partial(rows.product_rate, run.how, precision), what=precision)
        found[precision] = row.get("flops_per_s", 0.0)
    row = run.row("peaks", partial(rows.copy_rate, run.how), what="copy on the device")
    return found | {"bytes": row.get("bytes_per_s", 0.0)}


def measure_errors(run: Run, network: Network) -> None:
    """Hold the ages of each precision on the bundled sample against float32's."""
    inputs, truth = rows.sample_inputs()
    exact: list[np.ndarray[Any, Any]] = []

    def errors(precision: str) -> dict[str, float]:
        years = rows.ages_in(run.how, network, inputs, precision)
        exact.append(years)
        off = np.abs(years - exact[0])
        return {
            "mae_years": float(np.abs(years - truth).mean()),
            "most_from_float32_years": float(off.max()),
            "mean_from_float32_years": float(off.mean()),
        }

    for precision in PRECISIONS:
        run.row(
            "errors_on_the_sample",
            partial(errors, precision),
            precision=precision,
            pictures=len(truth),
        )


def measure_paths(run: Run, network: Network) -> None:
    """Take the harness against a bare loop, crops, and decoded pictures to ages."""
    large = run.batches[-2]
    for reference in ("multicrop-resnet@torch", "multicrop-resnet@onnxruntime"):
        for batch in (1, large):
            call = partial(rows.harness_ratio, run.how, reference, batch)
            run.row("harness", call, estimator=reference, batch=batch)
    for batch in run.batches:
        run.row("crops", partial(rows.time_crops, run.how, batch), batch=batch)
    for precision in ("float32", "float16"):
        for batch in run.batches[-2:]:
            call = partial(rows.time_whole_path, run.how, network, batch, precision)
            run.row("whole_path", call, network=network.name, batch=batch, precision=precision)


def measure_network(
    run: Run,
    network: Network,
    variant: tuple[str, str, str],
    limits: Mapping[str, float],
    batches: tuple[int, ...],
) -> None:
    """Time one network in one way, batch by batch."""
    for batch in batches:
        facts = dict(zip(COLUMNS, (network.name, batch, *variant), strict=True))
        call = partial(rows.time_network, run.how, network, batch, variant, limits)
        run.row("torch", call, **facts)


def measure_kernels(run: Run, network: Network) -> None:
    """Tell what takes the time of a large batch, and the power that it draws."""
    batch = run.batches[-2]
    facts = {"network": network.name, "batch": batch, "precision": "float16"}
    run.row("profile", partial(rows.profile, run.how, network, batch, "float16"), **facts)
    if run.how.device == "cuda":
        run.row("power", partial(rows.power, run.how, network, batch, "float16"), **facts)


def measure_onnxruntime(run: Run, network: Network) -> None:
    """Time the same file under ONNX Runtime."""
    for provider in ("cuda", "tensorrt") if run.how.device == "cuda" else ("cpu",):
        for batch in run.batches:
            call = partial(rows.time_onnxruntime, run.how, network, batch, provider)
            run.row("onnxruntime", call, network=network.name, batch=batch, provider=provider)


def measure_networks(run: Run, networks: list[Network], limits: Mapping[str, float]) -> None:
    """Time every network in every way; last what has to be compiled, for up to a minute each."""
    for variant in variants(run.how.device):
        for network in networks:
            measure_network(run, network, variant, limits, run.batches)
    for network in networks:
        measure_kernels(run, network)
        measure_onnxruntime(run, network)
    compiled = ("compile", "float16", "channels_last")
    for network in networks:
        measure_network(run, network, compiled, limits, (1, run.batches[-2]))


def markdown(content: Mapping[str, Any]) -> str:
    """Return the rows of the networks as a table, and what stands beside them as lists."""
    gpu = content["gpu"] or {}
    lines = [f"# {gpu.get('name', 'Rehearsal on a processor')}", ""]
    lines += [f"{content['created']}; `{content['command']}`. Driver {gpu.get('driver', 'none')}."]
    lines += ["", "| " + " | ".join((*COLUMNS, *FIGURES)) + " |"]
    lines += ["|" + "---|" * len((*COLUMNS, *FIGURES))]
    for row in content.get("torch", []):
        cells = [str(row[name]) for name in COLUMNS]
        if "failed" in row:
            cells += [row["failed"], *("" for _ in FIGURES[1:])]
        else:
            cells += [str(_short(row.get(name, ""))) for name in FIGURES]
        lines.append("| " + " | ".join(cells) + " |")
    for section in ("peaks", "errors_on_the_sample", "harness", "crops", "whole_path"):
        lines += ["", f"## {section.replace('_', ' ')}", ""]
        for row in content.get(section, []):
            lines.append("- " + ", ".join(f"{key} {_short(row[key])}" for key in row))
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Measure, write both files; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--name", required=True, help="of the two files, such as gpu-h100")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=7.0, help="no row begins after them")
    parser.add_argument("--quick", action="store_true", help="rehearse: few and short calls")
    given = parser.parse_args(arguments)
    how = How(given.device, 0.01 if given.quick else 0.3, given.quick)
    began = time.monotonic()
    try:
        require_device(how.device)
        state = read_gpu() if how.device == "cuda" else None
    except AgebenchError as error:
        print(error, file=sys.stderr)
        return 1
    about = describe_call() | {"gpu": None if state is None else asdict(state)}
    about["torch"] = {"version": torch.__version__, "cuda": torch.version.cuda}
    about["warnings"] = [] if state is None else [w for w in (state.held_back, state.shared) if w]
    path = given.out / f"{given.name}.json"
    batches = QUICK_BATCHES if given.quick else BATCHES
    run = Run(how, batches, began + 60 * given.minutes, path, about)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agebench-") as folder:
        limits = measure_peaks(run)
        networks = rows.networks(Path(folder))
        about["networks"] = [{**asdict(item), "path": item.path.name} for item in networks]
        measure_errors(run, networks[0])
        measure_paths(run, networks[0])
        measure_networks(run, networks, limits)
    if state is not None:
        about["gpu_after"] = asdict(read_gpu())
        run.write()
    written = json.loads(path.read_text(encoding="utf-8"))
    write_whole(path.with_suffix(".md"), markdown(written).encode())
    failed = [row for section in run.rows.values() for row in section if "failed" in row]
    print(f"written to {path} in {time.monotonic() - began:.0f} s; {len(failed)} rows failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
