"""`agebench ls`: lists plug-ins and whether their files are here, without importing them."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.modelfiles.manifest import ManifestEntry, bundled_dir, files_for
from agebench.modelfiles.weights import is_here
from agebench.registry.plugins import DATASETS, DETECTORS, ESTIMATORS, Plugin, list_plugins

GROUPS = {"estimators": ESTIMATORS, "detectors": DETECTORS, "datasets": DATASETS}

OWN_PACKAGE = "agebench"

# Descriptions of agebench's own plug-ins without model files, as plug-ins are not imported.
_ABOUT = {
    "estimators:answers": ("answers of another program: answers:FILE.csv", "", ""),
    "estimators:constant": ("the baseline: the same age for everybody", "Apache-2.0", ""),
    "estimators:onnx": ("a file that 'agebench export-onnx' wrote: onnx:FILE", "", ""),
    "estimators:torch": ("a checkpoint of 'agebench train': torch:FILE", "", ""),
    "estimators:spec": ("any model, described by a TOML file: spec:FILE", "", ""),
    "detectors:aligned": ("the picture is the face", "Apache-2.0", ""),
    "detectors:spec": ("any face network, described by a TOML file: spec:FILE", "", ""),
    "detectors:haar": (
        "Haar cascade that comes with OpenCV",
        "Intel License (BSD-style)",
        "github.com/opencv/opencv",
    ),
    "datasets:adience": (
        "Adience: faces in the wild in eight age classes",
        "research only; see the terms on its page (unverified)",
        "talhassner.github.io/home/projects/Adience",
    ),
    "datasets:agfw": ("AGFW: one folder per age group", "unverified: ask its makers", ""),
    "datasets:csv": ("a list: path,age[,identity,group...]", "yours", ""),
    "datasets:demo": ("one portrait, to check that everything works", "public domain (NASA)", ""),
    "datasets:facial-age": (
        "facial-age: one folder per age, 001 to 110",
        "not stated by its publisher (unverified)",
        "kaggle.com/datasets/frabbisw/facial-age",
    ),
    "datasets:fairface": ("FairFace: age ranges, gender and race", "CC BY 4.0", ""),
    "datasets:fgnet": (
        "FG-NET: 1,002 pictures of 82 people",
        "research only; private family photographs",
        "yanweifu.github.io/FG_NET_data",
    ),
    "datasets:folders": ("one folder per age or range of ages", "yours", ""),
    "datasets:imdb-wiki": (
        "IMDB-WIKI: 523,051 pictures of celebrities, by imdb.mat or wiki.mat",
        "academic research only",
        "data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki",
    ),
    "datasets:kaggle-merged": (
        "merged and augmented UTKFace and facial-age",
        "not stated by its publisher (unverified); UTKFace is non-commercial research only",
        "kaggle.com/datasets/skillcate/merged-augmented-utk-faces-facial-age-dataset",
    ),
    "datasets:names": ("pictures with the age in their names: pattern={age}_{}", "yours", ""),
    "datasets:prepared": ("what 'agebench prepare' wrote", "as its source's", ""),
    "datasets:sample": (
        "composites of twelve faces each, for demonstration only: they measure nothing",
        "non-commercial research only (made from UTKFace)",
        "comes with agebench",
    ),
    "datasets:utkface": (
        "UTKFace: 23,708 faces, aligned or in the wild",
        "non-commercial research only",
        "susanqq.github.io/UTKFace",
    ),
}


@dataclass(frozen=True, slots=True)
class FileState:
    """One model file of a plug-in.

    Attributes:
        file: its name.
        size_bytes: its size.
        here: whether it is on this machine (by name and size; it is hashed when used).
        option: the plug-in's option that needs it, "" if always needed.
        licence: its makers' terms.
        sources: addresses to fetch it from, in order.
    """

    file: str
    size_bytes: int
    here: bool
    option: str
    licence: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListedItem:
    """One registered name.

    Attributes:
        name: as it is used.
        what: a one-line description; "" if not known without importing it.
        files: the model files that it may need.
        licence, source: the files', or its own.
        tried: false for a description that was never tried with a file.
        package, version: that it comes with.
    """

    name: str
    what: str
    files: tuple[FileState, ...]
    licence: str
    source: str
    package: str
    version: str
    tried: bool = True


def short_source(url: str) -> str:
    """Return the page of a source that a reader may visit; a wheel as it is.

    >>> short_source("https://raw.githubusercontent.com/me/nets/0ab1/a/net.onnx")
    'github.com/me/nets'
    """
    parts = urlsplit(url)
    if parts.hostname == "raw.githubusercontent.com":
        return "/".join(["github.com", *parts.path.split("/")[1:3]])
    return parts.hostname or url


def _state(entry: ManifestEntry, key: str) -> FileState:
    option = entry.option_for(key)
    here = is_here(entry.file)
    wheel = () if entry.wheel is None else (f"wheel {entry.wheel.requirement}",)
    sources = wheel + entry.sources
    return FileState(entry.file, entry.size_bytes, here, option, entry.licence, sources)


def _unique(texts: list[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _row(kind: str, plugin: Plugin) -> ListedItem:
    key = f"{kind.removesuffix('s')}:{plugin.name}"
    # The manifest is about our own plug-ins; another package's may have the same name.
    entries = files_for(key) if plugin.package == OWN_PACKAGE else []
    what, licence, source = "", "", ""
    if plugin.package == OWN_PACKAGE:
        what, licence, source = _ABOUT.get(f"{kind}:{plugin.name}", ("", "", ""))
    zoo = _described(plugin.name) if kind == "estimators" else {}
    if zoo:
        what, licence, source = (str(zoo.get(key, "")) for key in ("what", "licence", "source"))
    elif entries:
        what = entries[0].what
        licence = _unique([entry.licence for entry in entries])
        named = [entry.published.source for entry in entries if not entry.bundled]
        source = _unique([short_source(place) for place in named])
    return ListedItem(
        plugin.name,
        what,
        tuple(_state(entry, key) for entry in entries),
        licence,
        source,
        plugin.package,
        plugin.version,
        zoo.get("tried", True) is True,
    )


def _described(name: str) -> dict[str, object]:
    """Return the table [about] of a public model's spec file; empty without one."""
    path = bundled_dir() / "zoo" / f"{name}.toml"
    if not path.is_file():
        return {}
    about: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8")).get("about", {})
    return about


def rows(kind: str) -> list[ListedItem]:
    """Return what is registered as "estimators", "detectors" or "datasets", sorted by name."""
    return [_row(kind, plugin) for plugin in list_plugins(GROUPS[kind])]


def _files_text(files: tuple[FileState, ...]) -> Text:
    text = Text()
    for state in files:
        mark, style = ("here", "green") if state.here else ("to fetch", "yellow")
        text.append("\n" if text else "").append(f"{state.file} ")
        text.append(f"{mark}, {state.size_bytes / 1e6:.2f} MB", style=style)
        text.append(f", for {state.option}" if state.option else "")
    return text


def _about_text(row: ListedItem) -> Text:
    text = Text(row.what)
    for label, value in (("licence", row.licence), ("source", row.source)):
        if value:
            text.append("\n" if text else "").append(f"{label}: ", style="dim").append(value)
    if row.package != OWN_PACKAGE:
        text.append("\n" if text else "").append("package: ", style="dim")
        text.append(f"{row.package} {row.version}".strip() or "unknown")
    if not row.tried:
        text.append("\n" if text else "")
        text.append("not tried", style="yellow").append(f": bring the file, as {row.name}:FILE")
    if row.files:
        text.append("\n" if text else "").append_text(_files_text(row.files))
    return text


def _print_table(console: Console, kind: str, listed: list[ListedItem]) -> None:
    table = Table(title=kind, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in listed:
        table.add_row(Text(row.name), _about_text(row))
    console.print(table if listed else Text(f"{kind}\nnone registered"))
    console.print()


EPILOG = """\b
Examples:
  agebench ls
  agebench ls estimators --json
"""


@click.command("ls", epilog=EPILOG)
@click.argument("kind", required=False, type=click.Choice(sorted(GROUPS)))
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(kind: str | None, as_json: bool) -> None:
    """List estimators, detectors and data sets, and whether their files are here.

    A file is "here" by its name and size; its hash is checked when it is used, and by
    `agebench fetch`.
    """
    listed = {name: rows(name) for name in ([kind] if kind else GROUPS)}
    if as_json:
        plain = {name: [asdict(row) for row in group] for name, group in listed.items()}
        click.echo(json.dumps(plain, indent=2))
        return
    console = Console(highlight=False)
    for name, group in listed.items():
        _print_table(console, name, group)
