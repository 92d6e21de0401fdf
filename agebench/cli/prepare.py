"""`agebench prepare`: arguments only; the work is in `agebench.prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from agebench.cli.options import FilePath, advanced_option, help_all, max_pixels_option
from agebench.errors import AgebenchError, inert
from agebench.util.process_pool import usable_cores
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.prepare.run import PrepareReport

INTERRUPTED = 130
MOST_PROCESSES = 8

EPILOG = """\b
Examples:
  agebench prepare --dataset fgnet --root FGNET --out CROPS
  agebench prepare --dataset utkface --root UTK --out CROPS
  agebench compare hse-mobilenet --dataset prepared --root CROPS
"""


@click.command("prepare", epilog=EPILOG)
@click.option("--dataset", required=True, help="Name of a data set, with options.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option("--detector", help="Face detector; default: one that suits the data set.")
@click.option(
    "-o",
    "--out",
    required=True,
    type=FilePath(),
    help="Output folder; resumes if interrupted.",
)
@click.option(
    "--views", default="face,eyes,eye_left,eye_right,mouth", show_default=True, help="Views to cut."
)
@click.option(
    "--groups", default="adience", show_default=True, help="adience, decades, or 0-17,18-."
)
@advanced_option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="Faces per picture; the age belongs to the largest.",
)
@advanced_option(
    "--landmarks",
    type=click.Choice(["detector", "dataset"]),
    default="detector",
    show_default=True,
    help="Source of landmarks; if a picture has none, the detector.",
)
@click.option("--split", type=FilePath(), help="Split file whose parts the manifest records.")
@advanced_option(
    "--height",
    type=int,
    default=256,
    show_default=True,
    help="Height of face crops in pixels; other views: half.",
)
@advanced_option(
    "--margin",
    type=float,
    default=0.0,
    show_default=True,
    help="Margin around the face, as a fraction of its size.",
)
@advanced_option(
    "--align/--no-align", default=True, show_default=True, help="Rotate crops upright."
)
@advanced_option(
    "--max-outside",
    type=float,
    default=0.5,
    show_default=True,
    help="Leave out views with a larger fraction outside.",
)
@advanced_option("--limit", type=int, help="Only the first N pictures by name.")
@advanced_option("--sample", type=int, help="Only N pictures, chosen at random.")
@advanced_option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@max_pixels_option
@click.option(
    "--processes",
    type=int,
    default=lambda: min(MOST_PROCESSES, usable_cores()),
    help="Parallel processes; default: one per core.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@help_all
@click.pass_context
def command(
    context: click.Context,
    /,
    dataset: str,
    root: Path | None,
    detector: str | None,
    out: Path,
    views: str,
    split: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Cut the faces of a data set into OUT/<age group>/<view>/NAME.jpg.

    A manifest is written with them.  If interrupted, the same command resumes.
    """
    from agebench.api.prepare import prepare_dataset
    from agebench.prepare.settings import PrepareSettings

    names = tuple(name.strip() for name in views.split(",") if name.strip())
    try:
        with progress_bars() as progress:
            report = prepare_dataset(
                dataset,
                out,
                root=root,
                detector=detector,
                settings=PrepareSettings(views=names, **settings),
                split=split,
                progress=progress,
            )
    except KeyboardInterrupt:
        click.echo(
            "agebench: interrupted; finished crops are kept, and the same command resumes",
            err=True,
        )
        context.exit(INTERRUPTED)
    if as_json:
        click.echo(json.dumps({"was_complete": report.was_complete, **report.counts}))
    else:
        _print_report(report)
    if not report.counts.get("faces"):
        raise AgebenchError(
            f"no face could be cropped: {report.out}/manifest_problems.csv has the reason for "
            "each picture"
        )


def _print_report(report: PrepareReport) -> None:
    from agebench.metrics.number_format import counted

    console = Console()

    def print_line(text: str) -> None:
        console.print(inert(text), soft_wrap=True, markup=False, highlight=False)

    counts = report.counts
    if report.detector_reason:
        print_line(f"detector: {report.detector_reason}")
    if report.was_complete:
        print_line(f"{report.out} is complete: nothing to do")
    elif report.resumed:
        print_line(f"{counted(report.resumed, 'picture')} finished by an earlier run")
    left_out = counts.get("left_out", {})
    faces = counted(counts.get("faces", 0), "face")
    print_line(f"{faces} of {counted(counts.get('pictures', 0), 'picture')} in {report.out}")
    if left_out:
        listed = ", ".join(f"{count} {status}" for status, count in left_out.items())
        total = counted(sum(left_out.values()), "picture")
        print_line(f"{total} left out ({listed}): see manifest_problems.csv")
    not_listed = counts.get("not_listed", 0)
    if not_listed:
        print_line(f"left out while listing the data set: {not_listed}: see manifest_problems.csv")
    missing = ", ".join(f"{view} {count}" for view, count in counts.get("missing", {}).items())
    if missing:
        print_line(f"missing views: {missing}")
