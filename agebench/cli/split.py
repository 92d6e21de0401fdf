"""`agebench split`: splits a data set into training and test parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.cli.options import FilePath
from agebench.errors import inert
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.api.split import DatasetSplit

EPILOG = """\b
Examples:
  agebench split --dataset utkface --root UTK --protocol utkface-full -o s.csv
  agebench split --dataset csv --root my.csv --protocol "holdout seed=3"
  agebench split --dataset utkface --root UTK --protocol CORAL_LISTS --check
"""

MANY_PARTS = 8
"""More parts than this are listed in rows."""

MAX_LISTED = 5
"""Largest number of listed groups with copies in different parts; --json lists all."""


def _protocol_list(_context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from agebench.splits.protocols import PROTOCOLS

    for name in sorted(PROTOCOLS):
        rule = PROTOCOLS[name]
        options = " ".join(f"{option}={value}" for option, value in rule.options.items())
        click.echo(f"{' '.join(filter(None, (name, options)))}\n    {rule.summary}")
    raise click.exceptions.Exit(0)


def _size_table(result: DatasetSplit) -> Table:
    """Return a table of decades by parts, transposed if there are many parts."""
    rows = result.by_decade
    cells: dict[str, Mapping[str, int]] = {**rows, "all": result.total}
    across = list(cells["all"])
    first = "age"
    if len(across) > MANY_PARTS:
        cells = {part: {decade: row[part] for decade, row in cells.items()} for part in across}
        across = [*rows, "all"]
        first = "part"
    table = Table(first, title="Pictures per decade of age", title_justify="left")
    for column in across:
        table.add_column(column, justify="right")
    for name, row in cells.items():
        table.add_row(name, *(str(row[column]) for column in across))
    return table


def _print_remarks(console: Console, result: DatasetSplit) -> None:
    for line in result.warnings:
        console.print(Text(inert(f"warning: {line}"), style="bold"), soft_wrap=True)
    for reason, count in list(result.unused.items())[:MAX_LISTED]:
        console.print(Text(inert(f"unused: {count}: {reason}")), soft_wrap=True)
    if result.leaks is None:
        return
    console.print(Text(f"groups of copies in different parts: {len(result.leaks)}"))
    for leak in result.leaks[:MAX_LISTED]:
        places = "; ".join(f"{part}: {', '.join(names)}" for part, names in leak.parts.items())
        console.print(Text(inert(f"  {places}")), soft_wrap=True)


@click.command("split", epilog=EPILOG)
@click.option("--dataset", required=True, help="Name of a data set, with options.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option(
    "--protocol",
    required=True,
    help="Name of a protocol, with options; or a file or folder of lists.",
)
@click.option("-o", "--out", type=FilePath(), help="Split file to write (.csv or .json).")
@click.option("--check", is_flag=True, help="Look for copies in different parts.")
@click.option("--json", "as_json", is_flag=True, help="Print sizes and remarks as JSON.")
@click.option(
    "--protocols", is_flag=True, is_eager=True, expose_value=False, callback=_protocol_list,
    help="List the protocols and exit.",
)  # fmt: skip
def command(
    dataset: str,
    root: Path | None,
    protocol: str,
    out: Path | None,
    check: bool,
    as_json: bool,
) -> None:
    """Split a data set, or read a published split, and show the sizes of its parts.

    'agebench split --protocols' lists the protocols.  Those that read the pictures never put
    copies of one picture into different parts; --check tests any split for that.
    """
    from agebench.api.split import split_dataset

    with progress_bars() as progress:
        result = split_dataset(
            dataset, protocol, root=root, out=out, check=check, progress=progress
        )
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1))
        return
    split = result.split
    console = Console(highlight=False)
    console.print(Text(inert(f"{split.protocol} of {split.dataset}, {split.fingerprint[:16]}")))
    console.print(_size_table(result))
    _print_remarks(console, result)
    if out is not None:
        console.print(Text(inert(f"written to {out}")), soft_wrap=True)
