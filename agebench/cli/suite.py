"""`agebench suite`: arguments only; the work is in `agebench.suite`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from agebench.cli.options import FilePath, advanced_option, help_all, print_note
from agebench.errors import AgebenchError, UsageError, inert
from agebench.metrics.number_format import counted
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.suite.leaderboard import SuiteOutcome

RUN, PAGE, CHECK, SPENT = "run", "page", "check", "spent"

EPILOG = """\b
Examples:
  agebench suite leaderboard.toml --data DATA --out OUT
  agebench suite leaderboard.toml --out OUT --join FROM_ANOTHER_MACHINE
  agebench suite page OUT/board --out PAGE
  agebench suite check their-model.json --board benchmarks/leaderboard
  agebench suite spent OUT
"""


class _SuiteGroup(click.Group):
    """A group whose subcommand may be left out: a file is run then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)


@click.group(
    "suite",
    cls=_SuiteGroup,
    epilog=EPILOG,
    subcommand_metavar="FILE.toml | page | check | spent ...",
)
def command() -> None:
    """Measure the models and sets named in a TOML file, and make a leaderboard.

    Nothing is measured twice.  docs/leaderboard.md describes the file.
    """


@command.command(RUN, short_help="Measure what is missing from a suite; the default.")
@click.argument("file", type=FilePath(), metavar="FILE.toml")
@click.option("-o", "--out", type=FilePath(), help="Folder of results and page; required.")
@click.option(
    "--data", type=FilePath(), help="Folder that roots are relative to; default: that of FILE."
)
@click.option(
    "--join", "joined", type=FilePath(), multiple=True, help="Output folder of another machine."
)
@click.option(
    "--dry-run",
    "only",
    flag_value="dry",
    type=str,
    help="Only list what would be measured.",
)
@advanced_option("--reports", is_flag=True, help="Also write the full report of each set.")
@advanced_option(
    "--times",
    "only",
    flag_value="times",
    type=str,
    help="Measure only latency, even if already measured.",
)
@advanced_option("--minutes", type=float, help="Start no new measurement after this many minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome of each cell as JSON.")
@help_all
def run(
    file: Path,
    out: Path | None,
    data: Path | None,
    joined: tuple[Path, ...],
    only: str | None,
    minutes: float | None,
    reports: bool,
    as_json: bool,
) -> None:
    """Measure what is missing from a suite, then write its page.

    Models and sets that are not available and cells that fail are listed at the end, with exit
    code 1; the others are measured, and the page is written.
    """
    from agebench.suite.leaderboard import make_leaderboard
    from agebench.suite.plan import read_plan
    from agebench.suite.run import RunOptions

    if out is None:
        raise UsageError("expected a folder for results and page: give --out FOLDER")
    if minutes is not None and not minutes >= 0:
        raise UsageError(f"--minutes must be at least 0, got {minutes:g}")
    plan = read_plan(file)
    _require_folders(data, joined)
    dry, times = only == "dry", only == "times"
    if times and plan.times is None:
        raise UsageError(f"{file} has no table [times], which names the set to time")
    console = Console(stderr=True, highlight=False)
    folder = file.parent if data is None else data
    options = RunOptions(out, folder, minutes, dry=dry, times=times)

    def print_line(line: str) -> None:
        console.print(inert(line), markup=False, soft_wrap=True)

    with progress_bars() as progress:
        outcome = make_leaderboard(plan, options, joined, progress, print_line, reports=reports)
    if as_json:
        click.echo(json.dumps(outcome.to_json(), allow_nan=False))
    else:
        _print(outcome, dry=dry)
    if outcome.problems:
        raise AgebenchError(_failed(outcome))


def _require_folders(data: Path | None, joined: Iterable[Path]) -> None:
    """Refuse folders that would contribute nothing without a word."""
    from agebench.suite.cells import RESULTS

    if data is not None and not data.is_dir():
        raise UsageError(f"there is no folder {data}: give the one of the data sets with --data")
    for folder in joined:
        if folder.is_dir() and not (folder / RESULTS).is_dir():
            raise UsageError(
                f"{folder} has no results of a suite: give the output folder of one with --join"
            )


def _failed(outcome: SuiteOutcome) -> str:
    lines = "\n".join(f"  {line}" for line in outcome.problems)
    rest = "; the others were measured" if outcome.report.has_results else ""
    return f"{counted(len(outcome.problems), 'part')} of the suite failed{rest}:\n{lines}"


def _print(outcome: SuiteOutcome, *, dry: bool) -> None:
    console = Console(highlight=False)
    for line in outcome.summary(dry=dry):
        console.print(inert(line), markup=False, soft_wrap=True)


@command.command(PAGE, short_help="Write the page from a leaderboard's files.")
@click.argument("board", type=FilePath())
@click.option("-o", "--out", type=FilePath(), help="Folder to write into; default: BOARD.")
@help_all
def page(board: Path, out: Path | None) -> None:
    """Write leaderboard.html and leaderboard.md from the small files of a leaderboard."""
    from agebench.suite.board import BOARD_FILE, read_board, unlisted_files
    from agebench.suite.leaderboard import write_page

    content = read_board(board)
    for path in unlisted_files(board):
        print_note(
            f"{path} is not listed in {BOARD_FILE}, and is not on the page: "
            "docs/leaderboard.md says how to list it"
        )
    for path in write_page(content, board if out is None else out):
        click.echo(f"Written: {inert(str(path))}")


@command.command(CHECK, short_help="Check a submitted model file.")
@click.argument("submission", type=FilePath())
@click.option("--board", type=FilePath(), help="Folder of the leaderboard's files; must be given.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@help_all
def check(submission: Path, board: Path | None, as_json: bool) -> None:
    """Recompute all figures of a model's file from the ages in it.

    Data are compared by hash, and contamination is judged again.  Exit code 1 if anything differs.
    """
    from agebench.suite.check import check_submission

    if board is None:
        raise UsageError("give the leaderboard it is for with --board FOLDER")
    checked = check_submission(submission, board)
    if as_json:
        content: dict[str, Any] = checked.to_json()
        click.echo(json.dumps(content, allow_nan=False))
    else:
        for line in checked.lines():
            click.echo(inert(line))
    if checked.problems:
        raise AgebenchError(f"{submission} can't be accepted: {'; '.join(checked.problems)}")


@command.command(SPENT, short_help="Show processor time by stage.")
@click.argument("outs", type=FilePath(), nargs=-1, metavar="OUT...")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@help_all
def spent(outs: tuple[Path, ...], as_json: bool) -> None:
    """Sum the processor time of a suite's cells: decoding, detection, crops, models.

    In seconds, over all runs of the suite.
    """
    from agebench.report.tables import markdown_table
    from agebench.suite.spent import as_json as spent_json
    from agebench.suite.spent import spent_by_set, spent_grid

    if not outs:
        raise UsageError("expected the output folder of a suite, as given with --out")
    parts = spent_by_set(outs)
    if as_json:
        click.echo(json.dumps(spent_json(parts)))
        return
    for line in markdown_table(spent_grid(parts)).splitlines():
        click.echo(inert(line))
