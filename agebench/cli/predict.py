"""`agebench predict`: arguments only; the work is in `agebench.prediction`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agebench.cli.options import (
    FilePath,
    advanced_option,
    former_name,
    help_all,
    max_pixels_option,
    print_note,
    refuse_given,
)
from agebench.errors import ImageError, UsageError, inert
from agebench.util.files import check_target
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.prediction.lines import LineFile
    from agebench.prediction.run import PictureRun, Tally
    from agebench.vision.window import Window

INTERRUPTED = 130

EPILOG = """\b
Examples:
  agebench predict portrait.jpg
  agebench predict PHOTOS --json --out ages.jsonl
  agebench predict party.mp4 --draw party_ages.mp4
  agebench predict - --csv < portrait.jpg
"""


@click.command("predict", epilog=EPILOG)
@click.argument(
    "sources",
    nargs=-1,
    metavar="[PICTURE|FOLDER|GLOB|VIDEO|-]...",
    shell_complete=click.Path().shell_complete,
)
@click.option(
    "--estimator", "estimators", multiple=True, help="Name of an estimator; repeat for several."
)
@click.option("--detector", help="Face detector; default: the best available.")
@advanced_option(
    "--tiles/--no-tiles",
    default=None,
    help="Also search tiles of large pictures; on unless --detector is given.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per picture.")
@click.option("--csv", "as_csv", is_flag=True, help="One row of CSV per face.")
@click.option(
    "-o",
    "--out",
    type=FilePath(),
    help="With --json: file to write; resumes if interrupted.",
)
@click.option("--draw", type=FilePath(), help="File or folder for the annotated output.")
@click.option(
    "--explain", is_flag=True, help="How much each view (face, eyes, ...) changed the age."
)
@advanced_option("--processes", type=int, default=1, show_default=True, help="Parallel processes.")
@former_name("--workers", "--processes")
@max_pixels_option
@advanced_option("--camera", type=int, help="Use the camera of this number; q quits.")
@advanced_option("--no-window", is_flag=True, help="Do not show the camera's picture.")
@advanced_option("--frames", type=int, help="Only the first N frames of a video or camera.")
@advanced_option(
    "--smoothing",
    type=int,
    default=25,
    show_default=True,
    help="Average ages over N frames of a video.",
)
@advanced_option("--timings", is_flag=True, help="Print the time of each stage at the end.")
@help_all
@click.pass_context
def command(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    estimators: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    out: Path | None,
    timings: bool,
    **settings: Any,
) -> None:
    """Find all faces in pictures and videos and estimate their ages.

    Each age is followed by the interval that holds 80 % of the predicted distribution.
    A picture that can't be read does not end the run: it is counted and listed.
    """
    from agebench.harness.trial import try_models
    from agebench.prediction.run import PictureRun, PredictSettings
    from agebench.prediction.sources import Sources, find_sources

    camera = settings.pop("camera")
    live = not settings.pop("no_window") and camera is not None and _has_display()
    options = {name: settings.pop(name) for name in ("smoothing", "frames")}
    frames = options["frames"]
    _check(
        sources, as_json=as_json, as_csv=as_csv, out=out, camera=camera, frames=frames, live=live
    )
    if camera is None:
        refuse_given(context, ["no_window"], "is for cameras, and none was given")
    if as_csv and settings["explain"]:
        raise UsageError("--csv can't show --explain: use --json, or leave one of them out")
    wanted = PredictSettings(estimators=estimators, **settings)
    still = out is not None or wanted.explain or wanted.processes > 1
    found = find_sources(sources, moving=not still) if sources else Sources(())
    try_models(estimators, [wanted.detector])
    run = PictureRun(found, wanted, camera=camera)
    if out is not None:
        run.refuse_moving("--out")
    if run.predictor.detector_note:
        print_note(run.predictor.detector_note)
    if not run.videos:
        refuse_given(context, options, "is for videos and cameras, and none was given")
    whole = 0
    try:
        write = _writer(as_json, as_csv, run, moving=bool(run.videos))
        if run.total or not run.videos:
            _run_pictures(run, write, out)
        for video in run.videos:
            summary = not (as_json or as_csv)
            whole += _run_video(run, video, options, None if summary else write, live=live)
    except KeyboardInterrupt:
        kept = f"; the same command resumes {out}" if out else ""
        print_note(f"interrupted{kept}")
        context.exit(INTERRUPTED)
    _report(run.tally, as_json=as_json, timings=timings)
    if not (whole or run.tally.answered):
        context.exit(1)


def _check(
    sources: tuple[str, ...],
    *,
    as_json: bool,
    as_csv: bool,
    out: Path | None,
    camera: int | None,
    frames: int | None,
    live: bool,
) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: give one")
    if out is not None and not as_json:
        raise UsageError("--out needs --json; redirect other output with '>'")
    if out is not None:
        check_target(out)
    if camera is None and not sources:
        raise UsageError("no input: name a picture, a folder, a pattern or '-'")
    if camera is not None and (sources or camera < 0 or (frames is None and not live)):
        raise UsageError(
            "--camera N (from 0) excludes other input, and without a window it needs --frames"
        )


def _has_display() -> bool:
    from agebench.vision.window import has_display

    return has_display()


def _window(video: str | int) -> Window:
    from agebench.vision.window import Window

    return Window(f"agebench: camera {video} (q quits)")


def _say_what_plays(place: Path) -> None:
    from agebench.vision.video_writers import plays_in_browsers

    if place.suffix.lower() in (".mp4", ".m4v") and (why := plays_in_browsers(place)):
        print_note(why)


def _run_video(
    run: PictureRun,
    video: str | int,
    options: dict[str, Any],
    write: Callable[[dict[str, Any]], None] | None,
    *,
    live: bool,
) -> bool:
    """Process one video; return whether it succeeded.  Without `write` a summary is printed."""
    from agebench.prediction.places import make_folder_of
    from agebench.prediction.records import add_times
    from agebench.prediction.video import VideoRun
    from agebench.prediction.writing import people_lines

    place = run.place_of(video)
    if place is not None:
        make_folder_of(place)
        _say_what_plays(place)
    source = video if isinstance(video, int) else Path(video)
    stack = ExitStack()
    show = stack.enter_context(_window(video)).show if live else None
    going = VideoRun(run.predictor, source, draw=place, show=show, **options)
    try:
        for record in going.records():
            if write is not None:
                write(record)
    except ImageError as error:
        name = video if isinstance(video, str) else f"camera {video}"
        run.tally.note(name, str(error).removeprefix(f"{name}: "))
        run.tally.failures["unreadable"] += 1
        run.tally.pictures += 1
        return False
    finally:
        stack.close()
        add_times(run.tally.stage_ms, going.tally.stage_ms)
    for line in people_lines(str(video), going.tally):
        click.echo(line, err=write is not None)
    return going.tally.answered


def _writer(
    as_json: bool, as_csv: bool, run: PictureRun, *, moving: bool
) -> Callable[[dict[str, Any]], None]:
    from agebench.prediction.records import to_line
    from agebench.prediction.writing import csv_header, csv_rows, text_lines

    def write_json(record: dict[str, Any]) -> None:
        click.echo(to_line(record))

    def write_csv(record: dict[str, Any]) -> None:
        for row in csv_rows(record, moving=moving):
            _echo_csv(row)

    def write_text(record: dict[str, Any]) -> None:
        if record["status"] != "ok" and run.total == 1:
            return  # the report states it
        for line in text_lines(record):
            click.echo(line)

    if as_csv:
        _echo_csv(csv_header(list(run.predictor.estimators), moving=moving))
        return write_csv
    return write_json if as_json else write_text


def _echo_csv(text: str) -> None:
    """Print CSV: names are unchanged, except for terminal control characters."""
    shown = inert(text, lines=True) if sys.stdout.isatty() else text
    # Without `color`, click would drop parts of names that look like colour codes.
    click.echo(shown, nl=False, color=True)


def _run_pictures(
    run: PictureRun, write: Callable[[dict[str, Any]], None], out: Path | None
) -> None:
    from agebench.metrics.number_format import counted

    if out is None:
        for finished in run.finished():
            write(finished.record)
        return
    with run.lines(out) as lines:
        if lines.others:
            print_note(
                f"{out} keeps {counted(lines.others, 'line')} of pictures that are not among the "
                "inputs"
            )
        _run_into(run, lines)


def _run_into(run: PictureRun, lines: LineFile) -> None:
    with progress_bars() as progress:
        for _ in run.finished(lines):
            progress("predict", run.tally.pictures + run.tally.resumed, run.total)


def _report(tally: Tally, *, as_json: bool, timings: bool) -> None:
    from agebench.metrics.number_format import counted
    from agebench.prediction.run import LEFT_OUT

    if tally.resumed:
        print_note(f"{counted(tally.resumed, 'picture')} finished by an earlier run")
    if timings:
        _print_times(tally)
    failed = sum(tally.failures.values())
    if tally.pictures == failed == 1 and not (tally.answered or tally.resumed):
        print_note(f"{tally.problems[0].name}: {tally.problems[0].reason}")
        return
    if tally.pictures + failed > 1 or tally.resumed:
        print_note(f"{counted(tally.faces, 'face')} in {counted(tally.pictures, 'picture')}")
    if failed:
        listed = ", ".join(f"{count} {status}" for status, count in sorted(tally.failures.items()))
        print_note(f"{failed} without an answer ({listed}):")
    lacks_a_line = tally.failures[LEFT_OUT] + tally.not_drawn
    hint = "" if as_json or lacks_a_line else " (--json lists all)"
    _list_problems(tally, failed + tally.not_drawn, hint)


def _print_times(tally: Tally) -> None:
    """Print a table on stderr: total time of each stage, per picture, and as a percentage."""
    from rich.console import Console
    from rich.table import Table

    total = sum(tally.stage_ms.values())
    table = Table("stage", title="Time by stage, sum of all processes", title_justify="left")
    # Frames of a video don't count as pictures.
    each = ("ms per picture",) if tally.pictures else ()
    for title in ("ms in all", *each, "fraction"):
        table.add_column(title, justify="right")
    for name, ms in [*tally.stage_ms.items(), ("all", total)]:
        per = (f"{ms / tally.pictures:,.1f}",) if tally.pictures else ()
        table.add_row(name, f"{ms:,.0f}", *per, f"{ms / total:.0%}" if total else "-")
    Console(stderr=True).print(table)


def _list_problems(tally: Tally, count: int, hint: str) -> None:
    for problem in tally.problems:
        click.echo(f"  {inert(problem.name)}: {inert(problem.reason)}", err=True)
    more = count - len(tally.problems)
    if more > 0:
        click.echo(f"  and {more} more{hint}", err=True)
