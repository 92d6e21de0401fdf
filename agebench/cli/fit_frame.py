"""`agebench fit-frame`: how a detector places its boxes; the work is in `agebench.fitting`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agebench.cli.options import FilePath
from agebench.errors import UsageError
from agebench.references import join_options
from agebench.util.progress import progress_bars

EPILOG = """\b
Example:
  agebench fit-frame spec:my_detector.toml --dataset fgnet --root FGNET
"""


@click.command("fit-frame", epilog=EPILOG)
@click.argument("detector", nargs=-1, required=True, metavar="DETECTOR [key=value]...")
@click.option(
    "--dataset", required=True, help="Data set with one large face per picture, with options."
)
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option("--reference", help="Detector with landmarks; default: DETECTOR or yolov8-face.")
@click.option("--sample", type=int, help="Only N pictures, chosen at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(
    detector: tuple[str, ...],
    dataset: str,
    root: Path | None,
    reference: str | None,
    sample: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how a detector's boxes relate to the canonical face frame.

    Prints the table [frame] for its spec file: medians over the faces found both by DETECTOR and
    by a detector with landmarks.
    """
    from agebench.fitting.frames import fit_frame
    from agebench.harness.loading import load_pictures
    from agebench.harness.selection import take_pictures
    from agebench.harness.settings import CompareSettings
    from agebench.harness.trial import try_models
    from agebench.registry.plugins import DETECTORS, load_detector, require_registered
    from agebench.types import plain

    names = join_options(detector)
    if len(names) != 1:
        raise UsageError(f"expected one detector, got {len(names)}: {', '.join(names)}")
    require_registered(DETECTORS, names[0])
    if reference is not None:
        require_registered(DETECTORS, reference)
    settings = CompareSettings(sample=sample, seed=seed)
    pictures, _maker = load_pictures(dataset, root, None)
    try_models(detectors=[names[0], reference])
    measured = load_detector(names[0])
    if reference is not None:
        judge = load_detector(reference)
    else:
        judge = measured if measured.spec.landmark_scheme else load_detector("yolov8-face")
    with progress_bars() as progress:
        chosen, _split = take_pictures(pictures, None, settings, progress)
        fitted = fit_frame(
            measured,
            judge,
            chosen.samples,
            max_pixels=settings.max_pixels,
            progress=progress,
        )
    click.echo(json.dumps(plain(fitted)) if as_json else fitted.toml(), nl=as_json)
