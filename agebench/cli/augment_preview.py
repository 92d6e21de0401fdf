"""`agebench augment-preview`: arguments only; the work is in `agebench.trainer.preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agebench.cli.options import FilePath, refuse_given
from agebench.cli.train_progress import import_training, print_renamed
from agebench.errors import UsageError, inert

if TYPE_CHECKING:
    from agebench.train.sections import DataSettings

BUNDLED = "sample"

EPILOG = """\b
Examples:
  agebench augment-preview -o sheet.png
  agebench augment-preview settings.toml -o sheet.png --each
  agebench augment-preview -o sheet.png --set augment.hue_deg=30
"""


@click.command("augment-preview", epilog=EPILOG)
@click.argument("settings_file", required=False, type=FilePath())
@click.option("-o", "--out", required=True, type=FilePath(), help="PNG to write.")
@click.option("--dataset", help="Data set to show; default: the settings', or bundled pictures.")
@click.option("--root", type=FilePath(), help="Its folder or file; default: the settings'.")
@click.option("--detector", help="Face detector; default: the settings'.")
@click.option(
    "--pictures", type=click.IntRange(1, 32), default=6, show_default=True, help="Columns."
)
@click.option("--draws", type=click.IntRange(1, 32), default=4, show_default=True, help="Rows.")
@click.option("--each", is_flag=True, help="Show each augmentation alone in a row of its own.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random choices.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
@click.pass_context
def command(
    context: click.Context,
    /,
    settings_file: Path | None,
    out: Path,
    dataset: str | None,
    root: Path | None,
    detector: str | None,
    each: bool,
    overrides: tuple[str, ...],
    **drawn: Any,
) -> None:
    """Draw a sheet that shows the augmentation of a settings file.

    It shows pictures of the data set that the settings name, cropped as in training, or bundled
    ones.
    """
    from agebench.train.settings import read_settings
    from agebench.util.files import check_target

    if each:
        refuse_given(
            context,
            ["draws"],
            "can't be combined with --each, which draws one row per augmentation",
        )
    settings = read_settings(settings_file, overrides, notify=print_renamed)
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out must end in .png, got {out}")
    check_target(out)
    from agebench.harness.trial import try_models

    finder = detector or settings.data.detector
    try_models(detectors=[finder])
    training = import_training()
    if each:
        drawn["draws"] = 0
    name, where = _pictures(settings.data, dataset, root)
    height, width = training.draw_preview(
        settings, out, dataset=(name, where), detector=finder, **drawn
    )
    click.echo(inert(f"Written to {out}: {width}x{height} pixels, on pictures of {name}"))


def _pictures(
    data: DataSettings, dataset: str | None, root: Path | None
) -> tuple[str, Path | str | None]:
    """Return the pictures: the command line's, the settings', or the bundled ones."""
    if dataset is not None:
        return dataset, root or (data.root if dataset == data.dataset else "") or None
    # The default of the settings has no root, so it names no pictures.
    if root is not None or data.root or data.dataset != type(data)().dataset:
        return data.dataset, root or data.root or None
    return BUNDLED, None
