"""`agebench augment-preview`: arguments only; the work is in `agebench.train.preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agebench.cli.paths import FilePath
from agebench.cli.train_progress import import_training

EPILOG = """\b
Examples:
  agebench augment-preview -o sheet.png
  agebench augment-preview settings.toml -o sheet.png --each
  agebench augment-preview -o sheet.png --set augment.hue_deg=30
"""


@click.command(
    "augment-preview", epilog=EPILOG, short_help="Draw what augmentation does to pictures."
)
@click.argument("settings_file", required=False, type=FilePath())
@click.option("-o", "--out", required=True, type=FilePath(), help="PNG to write.")
@click.option("--dataset", default="sample", show_default=True, help="Pictures to draw on.")
@click.option("--root", type=FilePath(), help="Folder or file they lie in.")
@click.option("--detector", default="aligned", show_default=True, help="Finds the faces.")
@click.option("--pictures", type=click.IntRange(1, 32), default=6, show_default=True)
@click.option("--draws", type=click.IntRange(1, 32), default=4, show_default=True, help="Rows.")
@click.option("--each", is_flag=True, help="A row for each augmentation alone, on all pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting.")
def command(
    settings_file: Path | None,
    out: Path,
    dataset: str,
    root: Path | None,
    each: bool,
    overrides: tuple[str, ...],
    **drawn: Any,
) -> None:
    """Draw a sheet of what a settings file's augmentation does."""
    from agebench.errors import UsageError
    from agebench.files import check_target
    from agebench.train.settings import read_settings

    settings = read_settings(settings_file, overrides)
    if out.suffix.lower() != ".png":
        raise UsageError(f"a PNG is written: name a file that ends in .png, not {out}")
    check_target(out)
    training = import_training()
    if each:
        drawn["draws"] = 0
    height, width = training.draw_preview(settings, out, dataset=(dataset, root), **drawn)
    click.echo(f"Written to {out}: {width}x{height} pixels")
