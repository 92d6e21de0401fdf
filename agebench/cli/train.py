"""`agebench train`: arguments only; the work is in `agebench.trainer.run`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from agebench.cli.options import FilePath, advanced_option, help_all
from agebench.cli.train_progress import import_training, print_renamed, watching
from agebench.errors import inert

EPILOG = """\b
Examples:
  agebench train --root UTKFACE --out RUN
  agebench train settings.toml --out RUN --set epochs=60
  torchrun --nproc-per-node 2 -m agebench train settings.toml --out RUN
"""


@click.command("train", epilog=EPILOG)
@click.argument("settings_file", required=False, type=FilePath())
@click.option("-o", "--out", required=True, type=FilePath(), help="Folder of the run.")
@click.option("--dataset", help="Name of a data set, with options; sets data.dataset.")
@click.option("--root", help="Its folder or file; sets data.root.")
@advanced_option("--detector", help="Face detector; sets data.detector.")
@click.option("--protocol", help="Protocol or split file; sets data.protocol.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Sets device; default: cpu.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
@advanced_option("--resume", is_flag=True, help="Fail unless --out holds a run to resume.")
@click.option(
    "--final-test", is_flag=True, help="At the end, evaluate on the test part (recorded)."
)
@advanced_option("--tensorboard", is_flag=True, help="Also write TensorBoard's event files.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluation as JSON.")
@help_all
def command(
    settings_file: Path | None,
    out: Path,
    device: str | None,
    overrides: tuple[str, ...],
    resume: bool,
    final_test: bool,
    tensorboard: bool,
    as_json: bool,
    **data: str | None,
) -> None:
    """Train the multi-crop network until a new sample no longer raises the loss.

    The same command resumes a run that was interrupted.  Paths in SETTINGS_FILE are relative to
    the current folder.
    """
    from agebench.errors import UsageError
    from agebench.train.settings import read_settings

    values = {f"data.{name}": value for name, value in data.items() if value is not None}
    if device is not None:
        values["device"] = device
    settings = read_settings(settings_file, overrides, values, notify=print_renamed)
    training = import_training()
    from agebench.train.loop import LAST_FILE

    if resume and not (out / LAST_FILE).is_file():
        raise UsageError(f"--resume: there is no run to resume in {out}")
    from agebench.harness.trial import try_models

    try_models(detectors=[settings.data.detector or None])
    # Only the first of several processes prints.
    console = Console(stderr=as_json, quiet=os.environ.get("RANK", "0") != "0")
    try:
        with watching(console) as (watcher, progress):
            result = training.train(
                settings,
                out,
                watcher=watcher,
                progress=progress,
                notify=lambda line: _print_line(console, line),
                final_test=final_test,
                tensorboard=tensorboard,
            )
    except KeyboardInterrupt:
        raise click.exceptions.Abort(_interrupted(out / LAST_FILE)) from None
    if not result:  # not the leading process
        return
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
        return
    ended = result["ended"]
    _print_line(console, f"Ended after {ended['steps']} steps: {ended['reason']}")
    for part, figures in result["figures"].items():
        for line in _lines(figures):
            _print_line(console, f"{part}: {line}")


def _print_line(console: Console, line: str) -> None:
    console.print(inert(line), markup=False, highlight=False, soft_wrap=True)


def _interrupted(last: Path) -> str:
    if last.is_file():
        return f"interrupted: {last} is kept; the same command resumes from it"
    return f"interrupted before the first checkpoint: {last} does not exist yet"


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["n"]:
        yield f"MAE {figures['mae_years']:.2f} years over {figures['n']}"
    if ranges := figures.get("ranges"):
        yield f"{ranges['inside']:.1%} of {ranges['n']} inside their age range"
