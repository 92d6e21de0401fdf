"""`agebench report`: arguments only; the work is in `agebench.report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from agebench.cli.options import FilePath, advanced_option, check_options, help_all
from agebench.errors import inert
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.api.report import Report
    from agebench.harness.fail_if import Checks
    from agebench.harness.reading import ResultFile

EPILOG = """\b
Examples:
  agebench report out/result.json
  agebench report before/result.json after/result.json --out what-changed
  agebench report out/result.json out/bench.json --format html,tex
  agebench report out --figures figures
"""


@click.command("report", epilog=EPILOG)
@click.argument("results", nargs=-1, required=True, type=FilePath())
@click.option(
    "-o",
    "--out",
    type=FilePath(),
    help="Output folder; default: that of the first result.",
)
@click.option(
    "--format", "formats", default="html", show_default=True, help="Some of html,md,tex,csv."
)
@click.option(
    "--thumbnails",
    type=FilePath(),
    help="Folder of the pictures, to show the largest errors.",
)
@click.option(
    "--figures", type=FilePath(), help="Write all figures as SVG, PDF and PNG to this folder."
)
@advanced_option("--columns", help="Columns of the ranking in md and tex: mae,interval,bias,ms,...")
@check_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@help_all
def command(
    results: tuple[Path, ...],
    out: Path | None,
    formats: str,
    thumbnails: Path | None,
    figures: Path | None,
    columns: str | None,
    checks: Checks,
    as_json: bool,
) -> None:
    """Write a report of a result.json, or of several over the same pictures.

    If two results have an estimator in common, the report says what changed.  A bench.json of
    'agebench bench' adds its batch sweep.
    """
    from agebench.api.report import report_of
    from agebench.report.reading import read_files
    from agebench.report.writing import read_columns, read_formats

    wanted = read_formats(formats)
    kept = None if columns is None else read_columns(columns, wanted)
    files, sweeps = read_files(results)
    checks.require_names([item.name for file in files for item in file.estimators])
    with progress_bars() as progress:
        report = report_of(
            files,
            sweeps,
            out,
            formats=wanted,
            columns=kept,
            thumbnails=thumbnails,
            figures=figures,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), allow_nan=False))
    else:
        _print(report)
        if report.figures:
            drawn = f"{len(report.figures)} figures, such as {report.figures[0].name}"
            click.echo(inert(f"Written to {figures}: {drawn}"))
    _require(checks, files)


def _require(checks: Checks, files: list[ResultFile]) -> None:
    """Check each of several results by its own figures, named as in the report."""
    from agebench.report.joining import letter

    if len(files) == 1:
        checks.require(files[0].content)
    else:
        checks.require_each(
            {f"{letter(at)} ({file.path})": file.content for at, file in enumerate(files)}
        )


def _print(report: Report) -> None:
    from agebench.report.changes import change_lines, changes

    console = Console(highlight=False)
    lines = [*report.remarks, *change_lines(changes(report.joined))]
    lines += [f"{report.not_shown}."] if report.not_shown else []
    lines += [f"Written: {path}" for path in report.files]
    for line in lines:
        console.print(inert(line), markup=False, soft_wrap=True)
