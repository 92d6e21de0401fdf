"""`agebench export-onnx`: arguments and what is printed; the work is in `agebench.api.export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.cli.options import (
    FilePath,
    advanced_option,
    help_all,
    print_note,
    refuse_given,
)
from agebench.errors import UsageError, inert
from agebench.references import join_options
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.api.export import ExportedModel
    from agebench.export.parity import ParityReport
    from agebench.export.precision import Price
    from agebench.runtimes.onnx_metadata import Precision

EPILOG = """\b
Examples:
  agebench export-onnx runs/best.safetensors -o model.onnx
  agebench export-onnx runs/best.safetensors -o small.onnx --int8 \\
    --dataset utkface --root CHIPS --protocol utkface-full --part train
"""


_OF_FACES = ("root", "detector", "face_detector", "protocol", "part", "sample", "seed")
"""Options of the faces of `--dataset`."""


@click.command("export-onnx", epilog=EPILOG)
@click.argument("model", nargs=-1, metavar="[CHECKPOINT | ESTIMATOR [key=value]...]")
@click.option("-o", "--out", type=FilePath(), required=True, help="File to write.")
@click.option(
    "--export-detector", metavar="NAME", help="Export a face detector instead of a model."
)
@advanced_option("--name", help="Name of the model in the file.")
@click.option("--flip", is_flag=True, help="Average over the mirror image; slower.")
@advanced_option(
    "--flip-views", metavar="NAMES", help="Mirror only these views, such as face; faster."
)
@click.option("--fp16", is_flag=True, help="Use half precision.")
@advanced_option(
    "--fp16-weights", is_flag=True, help="Only store weights in half precision; as fast as before."
)
@click.option("--int8", is_flag=True, help="Quantise to 8 bits; needs --dataset.")
@advanced_option(
    "--tolerance", type=float, help="Years by which any age may differ; default: 0.01 in float32."
)
@advanced_option("--no-check", is_flag=True, help="Skip the comparison with the source.")
@click.option("--dataset", help="Compare on this set's faces, not synthetic ones.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@advanced_option("--detector", help="Face detector; chosen as by 'compare' by default.")
@advanced_option("--face-detector", help="Earlier name of --detector.")
@click.option("--protocol", help="Protocol or split file of the data set.")
@click.option("--part", help="Part of the protocol.")
@advanced_option(
    "--sample", type=int, default=128, show_default=True, help="Number of real pictures."
)
@advanced_option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@help_all
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: click.Context,
    model: tuple[str, ...],
    out: Path,
    export_detector: str | None,
    name: str | None,
    flip: bool,
    flip_views: str | None,
    fp16: bool,
    fp16_weights: bool,
    int8: bool,
    tolerance: float | None,
    no_check: bool,
    dataset: str | None,
    root: Path | None,
    detector: str | None,
    face_detector: str | None,
    protocol: str | None,
    part: str | None,
    sample: int,
    seed: int,
) -> None:
    """Export a model as one ONNX file, and verify that it gives the same ages.

    The file is run under onnxruntime and, unless it has 8-bit numbers, cv2.dnn; if an age differs,
    nothing is written.  Its report is written next to it.
    """
    from agebench.api.export import ExportSettings, export_onnx, onnx_target
    from agebench.harness.settings import CompareSettings

    onnx_target(out)
    precision = _precision(fp16=fp16, fp16_weights=fp16_weights, int8=int8)
    export_detector, detector = _by_their_names(model, export_detector, detector, face_detector)
    if (export_detector is None) == (not model):
        raise UsageError("name a checkpoint or an estimator, or a detector with --export-detector")
    if export_detector is not None:
        of_faces = [name for name in _OF_FACES if name != "detector" or detector is not None]
        precisions = ("fp16", "fp16_weights", "int8")
        options = ("name", "flip", "flip_views", *precisions, "tolerance", "dataset", *of_faces)
        refuse_given(
            context,
            options,
            "is not for detectors, which are exported unchanged in float32, on generated pictures",
        )
        _detector(export_detector, out, check=not no_check)
        return
    names = join_options(model)
    if len(names) != 1:
        raise UsageError(f"expected one model, got {len(names)}: {', '.join(names)}")
    if int8 and dataset is None:
        raise UsageError("--int8 needs --dataset, for real faces to find the range of each value")
    _refuse_idle(context, dataset, check=not no_check, reduced=precision != "float32")
    mirrored = flip if flip_views is None else _names(flip_views)
    settings = ExportSettings(name, mirrored, precision, tolerance, check=not no_check)
    pictures = CompareSettings(sample=sample, seed=seed, protocol=protocol, part=part)
    with progress_bars() as progress:
        done = export_onnx(
            names[0],
            out,
            settings=settings,
            dataset=dataset,
            root=root,
            detector=detector,
            pictures=pictures,
            progress=progress,
        )
    _print(done)


def _precision(*, fp16: bool, fp16_weights: bool, int8: bool) -> Precision:
    """Return the precision that is asked for; at most one option may be given."""
    asked: dict[str, Precision] = {}
    if fp16:
        asked["--fp16"] = "float16"
    if fp16_weights:
        asked["--fp16-weights"] = "float16-weights"
    if int8:
        asked["--int8"] = "int8"
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} exclude each other: give one of them")
    return next(iter(asked.values()), "float32")


def _names(text: str) -> tuple[str, ...]:
    """Return names separated by commas or spaces, each once."""
    return tuple(dict.fromkeys(re.split(r"[\s,]+", text.strip(", "))))


def _by_their_names(
    model: tuple[str, ...], exported: str | None, detector: str | None, face_detector: str | None
) -> tuple[str | None, str | None]:
    """Return which detector to export and which to find faces with; note earlier option names.

    ``--detector`` formerly named what to export; in all other verbs it names the face detector.
    """
    if detector is not None and face_detector is not None:
        raise UsageError("--face-detector is the earlier name of --detector: give one of them")
    if face_detector is not None:
        print_note("--face-detector is now called --detector")
        return exported, face_detector
    if detector is not None and not model and exported is None:
        print_note("--detector without a model is now called --export-detector")
        return detector, None
    return exported, detector


def _refuse_idle(
    context: click.Context, dataset: str | None, *, check: bool, reduced: bool
) -> None:
    """Refuse options of real faces without --dataset, and of the comparison with --no-check."""
    if dataset is None:
        refuse_given(context, _OF_FACES, "needs --dataset: without it crops are generated")
    if not check:
        compared = ("tolerance",) if reduced else ("tolerance", "dataset")
        refuse_given(
            context, compared, "is for the comparison that --no-check skips: give one of them"
        )


def _detector(text: str, out: Path, *, check: bool) -> None:
    from agebench.api.export import darknet_of
    from agebench.export.detector_file import export_detector
    from agebench.harness.trial import try_models

    try_models(detectors=[text])
    written = export_detector(darknet_of(text), out, check=check)
    console = Console(highlight=False)
    report = written.report
    if report is not None:
        _print_line(console, f"Against {report.label}, on {report.crops}:")
        table = Table("runtime")
        for heading in ("batch", "largest px", "largest score"):
            table.add_column(heading, justify="right")
        for row in report.rows:
            runtime = f"{row.runtime.runtime}:{row.runtime.device} {row.runtime.version}"
            table.add_row(runtime, str(row.batch), f"{row.box_px:.2g}", f"{row.score:.2g}")
        console.print(table)
        _print_skipped(console, report.skipped)
    _print_line(console, _summary(written.path, written.size_bytes, written.report_path))


def _print(done: ExportedModel) -> None:
    console = Console(highlight=False)
    if done.parity is not None:
        _print_parity(console, done.parity)
    if done.price is not None:
        _print_price(console, done.price)
    _print_line(console, _summary(done.path, done.size_bytes, done.parity_path, done.list_path))


def _print_parity(console: Console, report: ParityReport) -> None:
    """Print the worst of all batch sizes per runtime and missing view; the file has all."""
    table = Table("runtime", "missing")
    for heading in ("faces", "largest", "mean"):
        table.add_column(heading, justify="right")
    worst: dict[tuple[str, str], tuple[int, float, float]] = {}
    for row in report.rows:
        key = (f"{row.runtime.runtime}:{row.runtime.device} {row.runtime.version}", row.missing)
        _, largest, mean = worst.get(key, (0, 0.0, 0.0))
        worst[key] = (row.faces, max(largest, row.max_years), max(mean, row.mean_years))
    for (runtime, missing), (faces, largest, mean) in worst.items():
        table.add_row(runtime, missing, str(faces), f"{largest:.2g}", f"{mean:.2g}")
    batches = ", ".join(str(batch) for batch in sorted({row.batch for row in report.rows}))
    _print_line(console, f"Ages against {report.label}, years, batches of {batches}:")
    console.print(table)
    _print_line(
        console,
        f"{report.crops}; the source's ages spread by {report.spread_years:.2g} years; allowed: "
        f"{report.tolerance.max_years:g} (mean {report.tolerance.mean_years:g})",
    )
    _print_skipped(console, report.skipped)


def _print_skipped(console: Console, skipped: tuple[tuple[str, str], ...]) -> None:
    """Print which runtimes were not tried; CUDA is expected where there is a GPU."""
    from agebench.runtimes import cuda_library

    for runtime, reason in skipped:
        if not runtime.endswith(":cuda") or cuda_library.find_devices().names:
            _print_line(console, f"not tried: {runtime}: {reason}")


def _print_price(console: Console, price: Price) -> None:
    if price.mae_before is not None and price.mae_after is not None:
        _print_line(
            console,
            f"MAE on {price.faces} faces: {price.mae_before:.3f} in float32, "
            f"{price.mae_after:.3f} now ({price.mae_after - price.mae_before:+.3f} years)",
        )
    _print_line(console, f"ages moved by {price.moved_years:.2g} years on average")
    for batch, (before, after) in price.milliseconds.items():
        _print_line(
            console,
            f"batch {batch}, onnxruntime on the CPU: {before:.3g} ms in float32, {after:.3g} ms "
            f"now ({before / after:.2f} times as fast)",
        )
    _print_line(console, f"{price.bytes_before:,} bytes in float32, {price.bytes_after:,} now")


def _summary(path: Path, size_bytes: int, *beside: Path | None) -> str:
    *first, last = f"{path} ({size_bytes:,} bytes)", *(file.name for file in beside if file)
    return f"wrote {', '.join(first)} and {last}" if first else f"wrote {last}"


def _print_line(console: Console, text: str) -> None:
    console.print(Text(inert(text)), soft_wrap=True)
