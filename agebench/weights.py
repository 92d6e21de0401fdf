"""Which model file, from where, with which hash.

One manifest (`pretrained/weights.toml`) names every published file.  `resolve` finds a file or
fetches it, and never hands out bytes that differ from the manifest's, unless they were named by an
explicit path.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pooch

from agebench.downloads import (
    Kind,
    ProgressBar,
    RichBar,
    SourceError,
    check_file,
    check_readable,
    download,
    sha256_of,
    shown_url,
    terminal_lines,
)
from agebench.errors import UsageError, WeightsError, WeightsUnavailableError, suggestion
from agebench.types import WeightsFile

__all__ = [
    "ManifestEntry",
    "Need",
    "ResolvedWeights",
    "bundled_dir",
    "cache_dir",
    "describe",
    "files_for",
    "find_entry",
    "is_here",
    "load_manifest",
    "parse_manifest",
    "resolve",
    "sha256_of",
]

BUNDLED_LIMIT_BYTES = 40_000_000
"""What the weights that come with the package may take together."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEED = re.compile(
    r"((?:estimator|detector):[A-Za-z0-9][A-Za-z0-9_.-]*)(?: ([a-z][a-z0-9_]*=\S+))?"
)
_URL = re.compile(r"https?://[^\s/]+/\S+")


@dataclass(frozen=True, slots=True)
class Need:
    """Who needs a file.

    Attributes:
        plugin: "estimator:NAME" or "detector:NAME".
        option: the option, as "key=value", without which the file is not needed; "" for always.
    """

    plugin: str
    option: str = ""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One published model file.

    Attributes:
        file: its name here: in the cache, in `pretrained/` and on a mirror.
        size_bytes: exact size.
        sha256: of its bytes, 64 lower-case hex digits.
        licence: the terms that its makers state.
        what: one line on what it is.
        needs: who needs it.
        sources: full http(s) URLs, in the order in which they are tried.

    Raises:
        ValueError: a value is not of that form; says which.
    """

    file: str
    size_bytes: int
    sha256: str
    licence: str
    what: str
    needs: tuple[Need, ...]
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        _expect(_FILE_NAME.fullmatch(self.file), "a file name without folders", self.file)
        _expect(self.size_bytes > 0, "bytes above 0", self.size_bytes)
        _expect(_SHA256.fullmatch(self.sha256), "a sha256 of 64 lower-case hex digits", self.sha256)
        _expect(self.licence, "a licence", self.licence)
        for url in self.sources:
            _expect(_URL.fullmatch(url), "an http(s) URL", url)

    @property
    def published(self) -> WeightsFile:
        """The file as results record it."""
        source = self.sources[0] if self.sources else "agebench"
        return WeightsFile(self.file, self.sha256, self.licence, source, published=True)


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """A model file that can be loaded.

    Attributes:
        path: where it lies.
        info: name, hash, licence and source, for the spec of the estimator or detector.
        origin: "given" (explicit path), "package", "cache", "mirror", or the URL from which it
            was fetched just now.
    """

    path: Path
    info: WeightsFile
    origin: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    place: str
    reason: str
    kind: Kind


def _expect(condition: object, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected}, got {got!r}")


def _typed(table: Mapping[str, Any], key: str, kind: type) -> Any:
    if key not in table:
        raise ValueError(f"{key!r} is missing")
    value = table[key]
    if type(value) is not kind:  # not isinstance: true is no number of bytes
        raise ValueError(f"{key!r} must be of type {kind.__name__}, got {value!r}")
    return value


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _typed(table, key, list)
    _expect(all(isinstance(value, str) for value in values), f"texts in {key!r}", values)
    return tuple(values)


def _need(text: str) -> Need:
    match = _NEED.fullmatch(text)
    if match is None:
        raise ValueError(f"expected 'estimator:NAME' or 'detector:NAME' in 'for', got {text!r}")
    return Need(match[1], match[2] or "")


def _entry(file: str, table: object) -> ManifestEntry:
    if not isinstance(table, dict):
        raise ValueError(f"expected a table, got {table!r}")
    known = ("bytes", "sha256", "licence", "what", "for", "sources")
    for key in table:
        _expect(key in known, "keys out of " + ", ".join(known), key)
    return ManifestEntry(
        file=file,
        size_bytes=_typed(table, "bytes", int),
        sha256=_typed(table, "sha256", str),
        licence=_typed(table, "licence", str),
        what=_typed(table, "what", str),
        needs=tuple(map(_need, _texts(table, "for"))),
        sources=_texts(table, "sources"),
    )


def parse_manifest(text: str, where: str = "weights.toml") -> Mapping[str, ManifestEntry]:
    """Read a manifest: TOML with one table ``[files."NAME"]`` per file.

    Args:
        text: the manifest.
        where: what to call it in an error.

    Returns:
        The entries by file name, in the manifest's order; read-only.

    Raises:
        WeightsError: it is no TOML, or a value is missing, of the wrong type or form.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WeightsError(f"the manifest {where} is no TOML: {error}") from error
    files = tables.pop("files", None)
    if tables or not isinstance(files, dict):
        raise WeightsError(f'the manifest {where} must hold tables [files."NAME"] and no others')
    entries: dict[str, ManifestEntry] = {}
    for file, table in files.items():
        try:
            entries[file] = _entry(file, table)
        except ValueError as error:
            raise WeightsError(f"the manifest {where}, file {file!r}: {error}") from error
    return MappingProxyType(entries)


def bundled_dir() -> Path:
    """Return the folder of the manifest and of the weights that come with the package."""
    try:
        return Path(str(resources.files("agebench.pretrained")))
    except ModuleNotFoundError:
        # Python started in a checkout takes the package from there, where nothing is mapped.
        return Path(__file__).resolve().parents[1] / "pretrained"


@cache
def load_manifest() -> Mapping[str, ManifestEntry]:
    """Return the package's manifest by file name; read once.

    Raises:
        WeightsError: it is missing or malformed.
    """
    path = bundled_dir() / "weights.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"the manifest {path} can't be read ({error}): reinstall agebench"
        ) from (error)
    return parse_manifest(text, str(path))


def find_entry(file_name: str) -> ManifestEntry:
    """Return the manifest's entry for a file.

    Raises:
        UsageError: there is none; names near matches.
    """
    manifest = load_manifest()
    if file_name not in manifest:
        raise UsageError(f"unknown model file {file_name!r}: {suggestion(file_name, manifest)}")
    return manifest[file_name]


def files_for(plugin_key: str) -> list[ManifestEntry]:
    """Return the files that a plug-in may need, in the manifest's order.

    >>> [entry.file for entry in files_for("detector:yunet")]
    ['face_detection_yunet_2023mar.onnx']
    """
    return [
        entry
        for entry in load_manifest().values()
        if any(need.plugin == plugin_key for need in entry.needs)
    ]


def cache_dir() -> Path:
    """Return the folder for fetched files: AGEBENCH_CACHE, or the user's cache folder."""
    own = os.environ.get("AGEBENCH_CACHE", "")
    return Path(own).expanduser() if own else Path(pooch.os_cache("agebench"))


def _mirror() -> str:
    return os.environ.get("AGEBENCH_MIRROR", "").strip()


def _is_url(place: str) -> bool:
    return place.lower().startswith(("http://", "https://"))


def _local_places(file_name: str) -> Iterator[tuple[str, Path]]:
    yield "package", bundled_dir() / file_name
    yield "cache", cache_dir() / file_name
    mirror = _mirror()
    if mirror and not _is_url(mirror):
        yield "mirror", Path(mirror).expanduser() / file_name


def _urls(entry: ManifestEntry) -> Iterator[str]:
    mirror = _mirror()
    if _is_url(mirror):
        yield f"{mirror.rstrip('/')}/{quote(entry.file)}"
    yield from entry.sources


def is_here(file_name: str) -> bool:
    """Say whether `resolve` is likely to need no network: name and size are right somewhere.

    Nothing is hashed.

    Raises:
        UsageError: the manifest does not name the file.
    """
    entry = find_entry(file_name)
    for _, path in _local_places(file_name):
        try:
            if path.is_file() and path.stat().st_size == entry.size_bytes:
                return True
        except OSError:  # a folder that may not be entered does not have it
            continue
    return False


def describe(path: Path, entry: ManifestEntry | None = None) -> WeightsFile:
    """Return name and hash of the file at `path`, with licence and source if it is `entry`'s.

    Raises:
        WeightsError: the file can't be read.
    """
    sha256 = sha256_of(path)
    if entry is None or sha256 != entry.sha256:
        return WeightsFile(path.name, sha256, source="given by path")
    known = entry.published
    return WeightsFile(path.name, sha256, known.licence, known.source, published=True)


def _explicit(path: Path, entry: ManifestEntry | None) -> ResolvedWeights:
    try:
        check_readable(path)
    except SourceError as error:
        if error.kind == "absent":
            raise WeightsError(
                f"no model file at {path}: check the path, or leave it out to use the published one"
            ) from error
        raise WeightsError(f"{path} can't be used as a model: {error}") from error
    return ResolvedWeights(path, describe(path, entry), "given")


def _find_here(entry: ManifestEntry, attempts: list[_Attempt]) -> ResolvedWeights | None:
    for origin, path in _local_places(entry.file):
        try:
            check_file(path, entry.size_bytes, entry.sha256)
        except SourceError as error:
            attempts.append(_Attempt(f"{origin} {path.parent}", str(error), error.kind))
        else:
            return ResolvedWeights(path, entry.published, origin)
    return None


def _fetch(
    entry: ManifestEntry, attempts: list[_Attempt], progress: ProgressBar
) -> ResolvedWeights | None:
    target = cache_dir() / entry.file
    for url in _urls(entry):
        try:
            download(url, target, entry.size_bytes, entry.sha256, progress)
        except SourceError as error:
            attempts.append(_Attempt(shown_url(url), str(error), error.kind))
        else:
            return ResolvedWeights(target, entry.published, shown_url(url))
    return None


def _nowhere(entry: ManifestEntry, attempts: list[_Attempt]) -> WeightsError:
    kinds = {attempt.kind for attempt in attempts}
    tried = "".join(f"\n  {attempt.place}: {attempt.reason}" for attempt in attempts)
    # NAME:PATH names a plug-in's model, not what an option of it needs besides.
    plugins = [need.plugin.partition(":")[2] for need in entry.needs if not need.option]
    own = f", or give your own copy as {plugins[0]}:PATH" if plugins else ""
    advice = (
        f"\nRun 'agebench fetch {entry.file}' where there is a network, set AGEBENCH_MIRROR to a "
        f"folder or base URL that holds it{own}."
    )
    expected = f"expected {entry.size_bytes:,} bytes, sha256 {entry.sha256}"
    if "wrong" in kinds and "failed" not in kinds:
        return WeightsError(
            f"no copy of {entry.file} is the right one ({expected}):{tried}{advice}"
        )
    return WeightsUnavailableError(f"{entry.file} can't be had ({expected}):{tried}{advice}")


def resolve(
    file_name: str,
    *,
    explicit: Path | None = None,
    download: bool = True,
    progress: ProgressBar | None = None,
) -> ResolvedWeights:
    """Find a model file, or fetch it.

    Looked for in this order: `explicit`; ``pretrained/`` of the package; the cache folder
    (`cache_dir`); the mirror AGEBENCH_MIRROR, a folder (used where it lies) or a base URL; the
    manifest's URLs.  A file with another size or hash than the manifest's is passed over, and
    replaced in the cache once the right one was fetched.

    Args:
        file_name: as in the manifest.
        explicit: the user's own file: any model will do, and no other place is looked at.
        download: False to look on this machine only.
        progress: told of each piece; None shows a bar on stderr where that is a terminal.

    Raises:
        UsageError: the manifest does not name the file, and no path is given.
        WeightsUnavailableError: it is nowhere to be had; lists each place with its reason.
        WeightsError: every copy that was found is wrong, or the explicit one is missing or no
            model.
    """
    if explicit is not None:
        return _explicit(explicit, load_manifest().get(file_name))
    entry = find_entry(file_name)
    attempts: list[_Attempt] = []
    found = _find_here(entry, attempts)
    if found is None and download:
        if progress is not None:
            found = _fetch(entry, attempts, progress)
        else:
            with terminal_lines() as lines:
                found = _fetch(entry, attempts, RichBar(lines, entry.file))
    if found is None:
        raise _nowhere(entry, attempts)
    return found
