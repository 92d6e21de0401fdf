"""`agebench fit-years`: the years that an estimator's age classes stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.cli.options import FilePath, print_note
from agebench.errors import inert
from agebench.references import join_options
from agebench.util.files import check_target
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.metrics.class_years import ClassYears

EPILOG = """\b
Example:
  agebench fit-years caffe-age-net --dataset utkface --root CHIPS \\
    --detector aligned --protocol utkface-full --part train --out table.json
  agebench compare caffe-age-net table=table.json --dataset utkface \\
    --root CHIPS --detector aligned --protocol utkface-full
"""


@click.command("fit-years", epilog=EPILOG)
@click.argument("estimator", nargs=-1, required=True, metavar="ESTIMATOR [key=value]...")
@click.option("--dataset", required=True, help="Name of a data set, with options.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option("--detector", default="yolov8-face", show_default=True, help="Face detector.")
@click.option("--protocol", required=True, help="Protocol with options, or split file.")
@click.option(
    "--part", default="train", show_default=True, help="Training part; never a test part."
)
@click.option("-o", "--out", type=FilePath(), required=True, help="Table to write.")
@click.option("--sample", type=int, help="Only N pictures of the part, chosen at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
def command(
    estimator: tuple[str, ...],
    dataset: str,
    root: Path | None,
    detector: str,
    out: Path,
    **settings: str | int | None,
) -> None:
    """Fit the years of an estimator's age classes on a training part.

    The rule is that of the estimator ('years=midpoint' or 'years=expectation').  Use the table
    with the estimator's option 'table=FILE'.
    """
    from agebench.errors import UsageError
    from agebench.fitting.class_years import fit_years
    from agebench.harness.selection import refuse_lists
    from agebench.harness.settings import CompareSettings
    from agebench.harness.trial import try_models
    from agebench.metrics.class_years import require_training_part

    names = join_options(estimator)
    if len(names) != 1:
        raise UsageError(f"expected one estimator, got {len(names)}: {', '.join(names)}")
    check_target(out)
    refuse_lists(out, root, str(settings.get("protocol") or ""))
    chosen = CompareSettings(**settings)  # type: ignore[arg-type]  # click checked the types
    if chosen.part is not None:
        require_training_part(chosen.part)  # before a process tries the models
    try_models(names, [detector])
    with progress_bars() as progress:
        table = fit_years(
            names[0],
            dataset,
            root=root,
            detector=detector,
            settings=chosen,
            progress=progress,
        )
    table.write(out)
    console = Console(highlight=False)
    console.print(_shown(table))
    console.print(Text(inert(f"{table.summary}; written to {out}")), soft_wrap=True)
    for note in table.doubts():
        print_note(note)


def _shown(table: ClassYears) -> Table:
    """Return a table of the years with the number of pictures for each class."""
    shown = Table("class", title=f"Years per class ({table.rule})", title_justify="left")
    shown.add_column("years", justify="right")
    shown.add_column("most probable for", justify="right")
    for label, years, count in zip(table.classes, table.years, table.likeliest, strict=True):
        shown.add_row(label, f"{years:.1f}", f"{count:,} picture{'s' if count != 1 else ''}")
    return shown
