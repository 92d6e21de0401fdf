"""`agebench doctor`: what is wrong with a data set before anything is measured on it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from agebench.cli.paths import FilePath
from agebench.errors import AgebenchError, DatasetError, UsageError, suggestion
from agebench.references import user_path
from agebench.registry.plugins import DATASETS, list_plugins, load_dataset
from agebench.util.files import refuse_nested
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.doctor.diagnosis import Diagnosis, SharedPicture
    from agebench.protocols import Dataset
    from agebench.types import Sample

EPILOG = """\b
Examples:
  agebench doctor UTKFACE
  agebench doctor --dataset csv my.csv --json
  agebench doctor MERGED --against utkface:UTKFACE --out report

The contact sheets show the data set's faces: keep them where the pictures may be.
"""

_GUESSED = ("utkface", "fgnet", "folders")
_PREPARED_MARK = "prepare.json"
_KIND = re.compile(r"[a-z][a-z0-9-]+")


def open_dataset(name: str | None, root: Path) -> Dataset:
    """List a data set, guessing its kind if no name is given.

    A file is taken for a table ("csv"); of a folder, the kind is taken that gives most pictures.

    Raises:
        AgebenchError: there is no usable picture.
    """
    if name is not None:
        return load_dataset(name, root)
    if root.is_file():
        return load_dataset("csv", root)
    if (root / _PREPARED_MARK).is_file():
        return load_dataset("prepared", root)
    found: list[Dataset] = []
    reasons: list[str] = []
    for kind in _GUESSED:
        try:
            found.append(load_dataset(kind, root))
        except DatasetError as error:
            reasons.append(str(error))
    if not found:
        tried = ", ".join(_GUESSED)
        raise DatasetError(
            f"{str(root)!r} is none of the kinds that are tried ({tried}); give --dataset, or in "
            "place of the folder a CSV file with the columns path,age. "
            f"The first says: {reasons[0]}"
        )
    return max(found, key=lambda dataset: len(dataset.samples))


def split_against(text: str) -> tuple[str | None, Path]:
    """Split "NAME:ROOT" or "ROOT"; the colon of a path that exists, or of a drive, is its own.

    Raises:
        UsageError: NAME looks like a data set's name and is not one.

    >>> split_against("utkface:/data/utk")[0], split_against("C:/data")[0]
    ('utkface', None)
    """
    name, colon, rest = text.partition(":")
    if not (rest if colon else name):
        raise UsageError(f"--against {text!r} names no place: is a variable not set?")
    known = [plugin.name for plugin in list_plugins(DATASETS)]
    if not colon or (name not in known and (Path(text).exists() or not _KIND.fullmatch(name))):
        return None, user_path(text)
    if name not in known:
        raise UsageError(f"unknown data set {name!r} in {text!r}: {suggestion(name, known)}")
    return name, user_path(rest)


def _for_other(step: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: step(f"{stage}, other set", done, total)


def _both(
    shared: SharedPicture, here: dict[str, Sample], there: dict[str, Sample]
) -> tuple[SharedPicture, list[Sample]]:
    pair = [here[shared.here[0]], there[shared.there[0]]]
    more = [here[name] for name in shared.here[1:]] + [there[name] for name in shared.there[1:]]
    return shared, pair + more


def _refuse_out(out: Path, root: Path, against: str | None) -> None:
    refuse_nested(out, root)
    if against is not None:
        refuse_nested(out, split_against(against)[1])


def _open_other(against: str, root: Path) -> Dataset:
    kind, place = split_against(against)
    if place.resolve() == root.resolve():
        raise UsageError(f"--against {against} is the data set itself: name another one")
    return open_dataset(kind, place)


@click.command("doctor", epilog=EPILOG, short_help="What is wrong with a data set.")
@click.argument("root", type=FilePath())
@click.option("--dataset", help="Its kind by name; guessed among utkface, fgnet, folders, csv.")
@click.option("--against", metavar="[NAME:]ROOT", help="Another set: what is in both?")
@click.option("-o", "--out", type=FilePath(), help="Folder for JSON and pictures.")
@click.option("--near/--no-near", default=True, help="Look for near-identical copies (default).")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Pictures decoded at once.",
)
@click.option(
    "--fail-if",
    multiple=True,
    metavar="GATE",
    help="Exit with 1 if 'broken>0', 'near>5', ...",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, no tables.")
def command(
    root: Path,
    dataset: str | None,
    against: str | None,
    out: Path | None,
    near: bool,
    workers: int,
    fail_if: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look for broken files, copies, contradicting ages and leaks between data sets.

    ROOT is the folder or table of a data set.  Nothing in it is changed.
    """
    from agebench.doctor.diagnosis import examine, shared_pictures
    from agebench.doctor.fail_if import read_count_gates, require_counts
    from agebench.doctor.report import print_report, report_json, write_report
    from agebench.harness.results import prepare_folder

    gates = read_count_gates(fail_if, near=near, against=against is not None)
    if out is not None:
        _refuse_out(out, root, against)
    here = open_dataset(dataset, root)
    there = None if against is None else _open_other(against, root)
    other: Diagnosis | None = None
    shared: tuple[SharedPicture, ...] = ()
    if out is not None:
        prepare_folder(out)
    with progress_bars() as step:
        diagnosis, prints = examine(here, root, near=near, processes=workers, progress=step)
        if there is not None and against is not None:
            other_root = split_against(against)[1]
            other, other_prints = examine(
                there, other_root, near=near, processes=workers, progress=_for_other(step)
            )
            shared = shared_pictures(
                (here.samples, prints),
                (there.samples, other_prints),
                near=near,
                processes=workers,
                progress=lambda stage, done, total: step(f"{stage}, both sets", done, total),
            )
    content = report_json(diagnosis, other, shared)
    written: list[str] = []
    if out is not None:
        names = {sample.name: sample for sample in here.samples}
        others = {sample.name: sample for sample in there.samples} if there is not None else {}
        pairs = [_both(item, names, others) for item in shared]
        written = write_report(out, content, diagnosis, here.samples, pairs)
    if as_json:
        click.echo(json.dumps(content, allow_nan=False))
    else:
        console = Console()
        print_report(diagnosis, other, shared, console)
        if out is not None:
            line = f"Written to {out}: {', '.join(written)}"
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    if not diagnosis.decoded:
        raise AgebenchError(f"none of the {diagnosis.pictures} pictures in {root} can be decoded")
    require_counts(gates, diagnosis, shared)
