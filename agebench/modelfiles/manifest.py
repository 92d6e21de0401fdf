"""The manifest `pretrained/weights.toml`: each published model file, its size, hash and sources."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from agebench.errors import UsageError, WeightsError, suggestion
from agebench.types import WeightsFile
from agebench.util.files import is_sha256
from agebench.util.record_fields import KEY, By, StructureError
from agebench.util.typed_records import read_dataclass

BUNDLED_LIMIT_BYTES = 48_000_000
"""Largest total size of the bundled weights."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_NEED = re.compile(
    r"((?:estimator|detector):[A-Za-z0-9][A-Za-z0-9_.-]*)(?: ([a-z][a-z0-9_]*=\S+))?"
)
_URL = re.compile(r"https?://[^\s/]+/\S+")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+]*")
_MEMBER = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\\\s]+(?:/[^/\\\s]+)*")


@dataclass(frozen=True, slots=True)
class Need:
    """A plug-in that needs a file.

    Attributes:
        plugin: "estimator:NAME" or "detector:NAME".
        option: the option, as "key=value", without which the file is not needed; "" for always.
    """

    plugin: str
    option: str = ""


def _need(value: object) -> Need:
    match = _NEED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise StructureError("'estimator:NAME' or 'detector:NAME'", value)
    return Need(match[1], match[2] or "")


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file in a Python wheel, which the user's own pip can download.

    Attributes:
        distribution, version: which wheel, as in "DISTRIBUTION==VERSION".
        size_bytes: of the published wheel.
        member: path inside the wheel.

    Raises:
        ValueError: a value has another form; the message names it.
    """

    distribution: str
    version: str
    size_bytes: int = field(metadata={KEY: "bytes"})
    member: str

    def __post_init__(self) -> None:
        name = _DISTRIBUTION.fullmatch(self.distribution)
        _expect(name, "the name of a distribution", self.distribution)
        _expect(_VERSION.fullmatch(self.version), "one exact version", self.version)
        _expect(self.size_bytes > 0, "bytes above 0", self.size_bytes)
        _expect(_MEMBER.fullmatch(self.member), "a relative path in the wheel", self.member)

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One published model file.

    Attributes:
        file: its name in the cache, in `pretrained/` and on a mirror.
        size_bytes: exact size.
        sha256: of its bytes, 64 lower-case hex digits.
        licence: the publisher's terms.
        what: description in one line.
        needs: plug-ins that need it.
        sources: full http(s) URLs, in the order in which they are tried.
        wheel: a Python wheel that carries the same bytes, asked for before `sources`; None for
            no such.

    Raises:
        ValueError: a value has another form; the message names it.
    """

    file: str
    size_bytes: int = field(metadata={KEY: "bytes"})
    sha256: str
    licence: str
    what: str
    needs: tuple[Annotated[Need, By(_need)], ...] = field(metadata={KEY: "for"})
    sources: tuple[str, ...]
    wheel: WheelMember | None = None

    def __post_init__(self) -> None:
        _expect(_FILE_NAME.fullmatch(self.file), "a file name without folders", self.file)
        _expect(self.size_bytes > 0, "bytes above 0", self.size_bytes)
        _expect(is_sha256(self.sha256), "a sha256 of 64 lower-case hex digits", self.sha256)
        _expect(self.licence, "a licence", self.licence)
        for url in self.sources:
            _expect(_URL.fullmatch(url), "an http(s) URL", url)

    @property
    def bundled(self) -> bool:
        """Whether it is bundled and has no other source."""
        return not self.sources and self.wheel is None

    def option_for(self, plugin_key: str) -> str:
        """Return the option without which the plug-in does not need the file, "" for none."""
        return next(need.option for need in self.needs if need.plugin == plugin_key)

    @property
    def published(self) -> WeightsFile:
        """The file's description in results."""
        carrier = self.wheel.requirement if self.wheel else "agebench"
        source = self.sources[0] if self.sources else carrier
        return WeightsFile(self.file, self.sha256, self.licence, source, published=True)


def _expect(condition: object, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected}, got {got!r}")


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StructureError("a table", value)
    return value


def parse_manifest(text: str, where: str = "weights.toml") -> Mapping[str, ManifestEntry]:
    """Read a manifest: TOML with one table ``[files."NAME"]`` per file.

    Args:
        text: the manifest.
        where: its name in errors.

    Returns:
        The entries by file name, in the manifest's order; read-only.

    Raises:
        WeightsError: it is not valid TOML, or a value is missing, of the wrong type or form.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise WeightsError(f"the manifest {where} is not valid TOML: {error}") from error
    files = tables.pop("files", None)
    if tables or not isinstance(files, dict):
        raise WeightsError(f'the manifest {where} must only contain tables [files."NAME"]')
    entries: dict[str, ManifestEntry] = {}
    for file, table in files.items():
        try:
            entries[file] = read_dataclass({"file": file, **_table(table)}, ManifestEntry)
        except ValueError as error:
            raise WeightsError(f"the manifest {where}, file {file!r}: {error}") from error
    return MappingProxyType(entries)


def bundled_dir() -> Path:
    """Return the folder of the manifest and the bundled weights."""
    try:
        return Path(str(resources.files("agebench.pretrained")))
    except ModuleNotFoundError:
        # In a checkout, Python imports the package from its folder, without the mapping.
        return Path(__file__).resolve().parents[2] / "pretrained"


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
        UsageError: there is none; the message suggests similar names.
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
