"""`agebench bench`: arguments only; the work is in `agebench.benchmark.speed`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
from rich.console import Console

from agebench.cli.options import FilePath, advanced_option, help_all
from agebench.errors import UsageError, inert
from agebench.references import join_options
from agebench.util.progress import progress_bars

EPILOG = """\b
Examples:
  agebench bench hse-mobilenet caffe-age-net --batch 1,4,16
  agebench bench caffe-age-net crops=10 --dataset fgnet --root FGNET -o FOLDER
  agebench bench spec:net.toml@onnxruntime --device cuda --batch 1,4,16,64,256
"""

_MAX_DIGITS = 12


def read_batches(text: str) -> tuple[int, ...]:
    """Read batch sizes separated by commas.

    >>> read_batches("1,4, 16")
    (1, 4, 16)

    Raises:
        UsageError: a part is not a whole number.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not re.fullmatch(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}", part)]
    if wrong:
        raise UsageError(
            f"--batch takes whole numbers of at most {_MAX_DIGITS} digits, such as 1,4,16: "
            f"got {wrong[0]!r}"
        )
    return tuple(int(part) for part in parts)


@click.command("bench", epilog=EPILOG)
@click.argument("estimators", nargs=-1, required=True, metavar="ESTIMATOR [key=value]...")
@click.option("--device", help="Run all on cpu or cuda; default: as each ESTIMATOR says.")
@click.option("--batch", default="1,4,16,64", show_default=True, help="Faces per call.")
@advanced_option(
    "--threads", type=int, help="Threads of OpenCV and ONNX Runtime; default: one per processor."
)
@advanced_option("--pin", is_flag=True, help="Pin the process to that many processors.")
@advanced_option("--repeats", type=int, help="Rounds per batch size.")
@advanced_option("--seconds", type=float, help="Seconds per estimator and batch size; default: 5.")
@advanced_option(
    "--cold-start",
    "cold_starts",
    type=int,
    default=3,
    show_default=True,
    help="Fresh processes timed per estimator; 0: none.",
)
@click.option("--dataset", help="Time real faces of this data set, not generated ones.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option("--detector", help="Face detector; chosen as by 'compare' by default.")
@advanced_option(
    "--seed", type=int, default=0, show_default=True, help="Seed of all random choices."
)
@click.option("-o", "--out", type=FilePath(), help="Folder for bench.json.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no tables.")
@help_all
def command(
    estimators: tuple[str, ...],
    batch: str,
    dataset: str | None,
    root: Path | None,
    detector: str | None,
    out: Path | None,
    as_json: bool,
    **settings: str | int | float | bool | None,
) -> None:
    """Measure the latency of estimators by batch size: crops and network, no error in years.

    The estimators take turns in each round, and all samples are kept.  Memory, parameters,
    operations and the roofline are shown too.  docs/latency.md explains the tables.
    """
    from agebench.benchmark.result import BENCH_FILE, BenchSettings
    from agebench.benchmark.speed import bench
    from agebench.benchmark.tables import print_bench
    from agebench.harness.trial import try_models

    how = BenchSettings(batches=read_batches(batch), **settings)  # type: ignore[arg-type]  # click checked the types
    names = join_options(estimators)
    try_models(names, [detector])
    with progress_bars() as progress:
        result = bench(
            names,
            dataset=dataset,
            root=root,
            detector=detector,
            out=out,
            settings=how,
            progress=progress,
        )
    if as_json:
        # ASCII alone, so that it is JSON in whatever encoding stdout has.
        click.echo(json.dumps(result.to_json(), allow_nan=False))
        return
    console = Console()
    print_bench(result, console)
    if out is not None:
        written = f"Written to {out}: {BENCH_FILE}"
        console.print(inert(written), soft_wrap=True, markup=False, highlight=False)
