"""Every figure of one GPU in one command, at most eight minutes long.

    python -m benchmarks.gpu --device cuda --name gpu-h100
    python -m benchmarks.gpu --device cpu --quick --name rehearsal --out FOLDER

The most important measurements come first, and both files are written after every row, so that an
interrupted run keeps its rows.  A failure (too little memory, a missing library) is a row with the
reason, and the run continues.  Each section has a fraction of the time, so that a slow one does not
take that of the next ones.  A row that does not end is stopped a minute after the end of the run.
Networks get noise instead of faces: the time is the same.  docs/latency.md explains the result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agebench.errors import AgebenchError
from agebench.harness.environment import describe_call
from agebench.runtimes.gpu_state import read_gpu
from agebench.runtimes.torch_graph import PRECISIONS
from agebench.timing.devices import require_device
from agebench.util.files import write_whole
from benchmarks import gpu_rows as rows
from benchmarks.gpu_networks import NETWORKS, How, Network, load_network

RESULTS = Path(__file__).with_name("results")
BATCHES = (1, 4, 16, 64, 256, 1024)
QUICK_BATCHES = (1, 2, 4)
COLUMNS = ("network", "batch", "mode", "precision", "layout")
CUT_AFTER_S = 60
TIME_FRACTIONS = {
    "peaks": 0.06,
    "errors_on_the_sample": 0.06,
    "torch": 0.36,
    "crops": 0.06,
    "whole_path": 0.06,
    "harness": 0.12,
    "kernels": 0.06,
    "onnxruntime": 0.12,
    "compiled": 0.1,
}
"""Of the whole time, in order; what a section leaves over goes to those behind it."""

FIGURES = ("wall_p50_ms", "wall_p99_ms", "event_p50_ms", "faces_per_s", "of_roofline")


@dataclass(slots=True)
class Run:
    """A run: how it measures, and the rows so far.

    Attributes:
        how: where and for how long.
        batches: faces per call, rising.
        began, end: `time.monotonic()`; after `end` no further row is begun.
        path: where everything is written after each row, and the table beside it as Markdown.
        about: how it was made.
        rows: by section.
        section_end: after which no further row of this section is begun.
    """

    how: How
    batches: tuple[int, ...]
    began: float
    end: float
    path: Path
    about: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    section_end: float = float("inf")

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Keep what is measured inside to the time of a section and of those before it.

        What fails outside of a row is a row of its own.
        """
        names = list(TIME_FRACTIONS)
        fraction = sum(TIME_FRACTIONS[item] for item in names[: names.index(name) + 1])
        self.section_end = self.began + fraction * (self.end - self.began)
        try:
            yield
        except Exception as error:
            self._keep(name, {"failed": _reason(error)})
        finally:
            self.section_end = float("inf")

    def row(
        self, section: str, measure: Callable[[], Mapping[str, Any]], **what: Any
    ) -> Mapping[str, Any]:
        """Measure one row; a failure is a row too."""
        now = time.monotonic()
        found: Mapping[str, Any]
        if now > self.end:
            found = {"failed": "there was no time left"}
        elif now > self.section_end:
            found = {"failed": "its section had no time left"}
        else:
            try:
                found = measure()
            except Exception as error:
                found = {"failed": _reason(error)}
                if self.how.device == "cuda":
                    torch.cuda.empty_cache()
        self._keep(section, {**what, **found})
        return found

    def _keep(self, section: str, row: dict[str, Any]) -> None:
        self.rows.setdefault(section, []).append(row)
        self.write()
        print(section, *(f"{key}={_short(row[key])}" for key in row), flush=True)

    def write(self) -> None:
        """Write all rows and the table, each completely or not at all."""
        content = {"schema_version": 1, **self.about, **self.rows}
        write_whole(self.path, (json.dumps(content) + "\n").encode())
        write_whole(self.path.with_suffix(".md"), markdown(content).encode())


def _reason(error: BaseException) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {first}"


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def variants(device: str) -> list[tuple[str, str, str]]:
    """Return mode, precision and layout of the rows, the most important first."""
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
    """Compare the ages of each precision on the bundled sample with those of float32."""
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


def measure_harness(run: Run) -> None:
    """Compare the harness's own figure with a bare loop."""
    for reference in ("multicrop-resnet@torch", "multicrop-resnet@onnxruntime"):
        for batch in (1, run.batches[-2]):
            call = partial(rows.harness_ratio, run.how, reference, batch)
            run.row("harness", call, estimator=reference, batch=batch)


def measure_crops(run: Run) -> None:
    """Compare crops on the device with crops on the host."""
    for batch in run.batches:
        run.row("crops", partial(rows.time_crops, run.how, batch), batch=batch)


def measure_whole_path(run: Run, network: Network) -> None:
    """Time decoded pictures to ages."""
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
        labels = dict(zip(COLUMNS, (network.name, batch, *variant), strict=True))
        call = partial(rows.time_network, run.how, network, batch, variant, limits)
        run.row("torch", call, **labels)


def measure_kernels(run: Run, network: Network) -> None:
    """Profile a large batch, and measure the power that it draws."""
    batch = run.batches[-2]
    labels = {"network": network.name, "batch": batch, "precision": "float16"}
    run.row("profile", partial(rows.profile, run.how, network, batch, "float16"), **labels)
    if run.how.device == "cuda":
        run.row("power", partial(rows.power, run.how, network, batch, "float16"), **labels)


def measure_onnxruntime(run: Run, network: Network) -> None:
    """Time the same file under ONNX Runtime."""
    for provider in ("cuda", "tensorrt") if run.how.device == "cuda" else ("cpu",):
        for batch in run.batches:
            call = partial(rows.time_onnxruntime, run.how, network, batch, provider)
            run.row("onnxruntime", call, network=network.name, batch=batch, provider=provider)


def measure_variants(run: Run, networks: list[Network], limits: Mapping[str, float]) -> None:
    """Time every network in every way, the most important first."""
    for variant in variants(run.how.device):
        for network in networks:
            measure_network(run, network, variant, limits, run.batches)


def measure_compiled(run: Run, networks: list[Network], limits: Mapping[str, float]) -> None:
    """Time what has to be compiled, for up to a minute each."""
    for network in networks:
        way = ("compile", "float16", "channels_last")
        measure_network(run, network, way, limits, (1, run.batches[-2]))


def add_network(name: str, folder: Path, networks: list[Network]) -> dict[str, Any]:
    """Load a network; return its description."""
    networks.append(load_network(name, folder))
    about = asdict(networks[-1])
    return {key: about[key] for key in ("weights", "macs", "weight_bytes", "input_bytes")}


def measure_all(run: Run, folder: Path) -> None:
    """Measure section by section; a section that fails does not affect the next ones."""
    limits: dict[str, float] = {}
    networks: list[Network] = []
    for name in NETWORKS:
        run.row("networks", partial(add_network, name, folder, networks), network=name)
    with run.section("peaks"):
        limits |= measure_peaks(run)
    with run.section("errors_on_the_sample"):
        measure_errors(run, networks[0])
    with run.section("torch"):
        measure_variants(run, networks, limits)
    with run.section("crops"):
        measure_crops(run)
    with run.section("whole_path"):
        measure_whole_path(run, networks[0])
    with run.section("harness"):
        measure_harness(run)
    with run.section("kernels"):
        for network in networks:
            measure_kernels(run, network)
    with run.section("onnxruntime"):
        for network in networks:
            measure_onnxruntime(run, network)
    with run.section("compiled"):
        measure_compiled(run, networks, limits)


def cut(run: Run) -> None:
    """End the process: a row does not come back.  All rows before it are written."""
    print(f"cut: a row did not end; what there is lies in {run.path}", file=sys.stderr, flush=True)
    os._exit(1)


def markdown(content: Mapping[str, Any]) -> str:
    """Return the rows of the networks as a table, and the other rows as lists."""
    gpu = content["gpu"] or {}
    lines = [f"# {gpu.get('name', 'Rehearsal on a processor')}", ""]
    command = " ".join(content["command"])
    lines += [f"{content['created']}; `{command}`. Driver {gpu.get('driver', 'none')}."]
    if not gpu:
        lines += [
            "",
            "A rehearsal on a processor, to show that every row can be measured: no figure of it "
            "says anything about a GPU, nor much about this processor.",
        ]
    lines += ["", "| " + " | ".join((*COLUMNS, *FIGURES)) + " |"]
    lines += ["|" + "---|" * len((*COLUMNS, *FIGURES))]
    for row in content.get("torch", []):
        cells = [str(row[name]) for name in COLUMNS]
        if "failed" in row:
            cells += [row["failed"], *("" for _ in FIGURES[1:])]
        else:
            cells += [str(_short(row.get(name, ""))) for name in FIGURES]
        lines.append("| " + " | ".join(cells) + " |")
    for section in (
        "peaks",
        "errors_on_the_sample",
        "harness",
        "crops",
        "whole_path",
        "onnxruntime",
    ):
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
    parser.add_argument(
        "--minutes", type=float, help="no row begins after them (default: 7; with --quick 30)"
    )
    parser.add_argument("--quick", action="store_true", help="rehearse: few and short calls")
    args = parser.parse_args(arguments)
    minutes = args.minutes or (30.0 if args.quick else 7.0)
    how = How(args.device, 0.01 if args.quick else 0.3, args.quick)
    began = time.monotonic()
    try:
        require_device(how.device)
        state = read_gpu() if how.device == "cuda" else None
    except AgebenchError as error:
        print(error, file=sys.stderr)
        return 1
    about = describe_call() | {"gpu": None if state is None else asdict(state)}
    about["pytorch"] = {"version": torch.__version__, "cuda": torch.version.cuda}
    about["warnings"] = [] if state is None else [w for w in (state.held_back, state.shared) if w]
    path = args.out / f"{args.name}.json"
    batches = QUICK_BATCHES if args.quick else BATCHES
    run = Run(how, batches, began, began + 60 * minutes, path, about)
    args.out.mkdir(parents=True, exist_ok=True)
    watch = threading.Timer(60 * minutes + CUT_AFTER_S, cut, (run,))
    watch.daemon = True
    watch.start()
    with tempfile.TemporaryDirectory(prefix="agebench-") as folder:
        measure_all(run, Path(folder))
    watch.cancel()
    if state is not None:
        with suppress(AgebenchError):  # a driver that no longer answers
            about["gpu_after"] = asdict(read_gpu())
    run.write()
    failed = [row for section in run.rows.values() for row in section if "failed" in row]
    print(f"written to {path} in {time.monotonic() - began:.0f} s; {len(failed)} rows failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
