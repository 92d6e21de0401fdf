"""`agebench doctor`: finds faults of a data set before measuring on it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from agebench.cli.options import FilePath, former_name
from agebench.errors import AgebenchError, UsageError
from agebench.util.progress import progress_bars

EPILOG = """\b
Examples:
  agebench doctor UTKFACE
  agebench doctor --dataset csv my.csv --json
  agebench doctor MERGED --against utkface:UTKFACE --out report

The contact sheets show faces of the data set: store them accordingly.
"""


@click.command("doctor", epilog=EPILOG)
@click.argument("root", required=False, type=FilePath())
@click.option("--dataset", help="Kind of data set; default: guessed from the files.")
@click.option("--against", metavar="[NAME:]ROOT", help="Find pictures also in another set.")
@click.option("-o", "--out", type=FilePath(), help="Output folder for JSON and pictures.")
@click.option("--near/--no-near", default=True, help="Look for near-identical copies (default).")
@click.option(
    "--decode-threads",
    type=int,
    help="Threads that decode pictures; default: 2, or 1 if files are small.",
)
@former_name("--workers", "--decode-threads")
@click.option(
    "--fail-if",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 1 if 'broken>0', 'near>5', ...",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, no tables.")
def command(
    root: Path | None,
    dataset: str | None,
    against: str | None,
    out: Path | None,
    near: bool,
    decode_threads: int | None,
    fail_if: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look for broken files, copies, contradicting ages and leaks between data sets.

    ROOT is the folder or table of a data set, and may be left out for one that brings its own
    pictures (--dataset sample).  Nothing in it is changed.
    """
    from agebench.api.doctor import examine_dataset
    from agebench.doctor.fail_if import read_count_limits, require_counts
    from agebench.doctor.report import print_report

    if root is None and dataset is None:
        raise UsageError("no data set was given: expected its folder or table, such as FOLDER")
    limits = read_count_limits(fail_if, near=near, against=against is not None)
    with progress_bars() as step:
        found = examine_dataset(
            dataset,
            root,
            against=against,
            near=near,
            out=out,
            decode_threads=decode_threads,
            progress=step,
        )
    diagnosis = found.diagnosis
    if as_json:
        click.echo(json.dumps(found.to_json(), allow_nan=False))
    else:
        console = Console()
        print_report(diagnosis, found.other, found.shared, console)
        if out is not None:
            line = f"Written to {out}: {', '.join(path.name for path in found.files)}"
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    if not diagnosis.decoded:
        where = root or dataset
        raise AgebenchError(f"none of the {diagnosis.pictures} pictures in {where} can be decoded")
    require_counts(limits, diagnosis, found.shared)
