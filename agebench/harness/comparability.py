"""Whether two results may be ranked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agebench.types import LabelKind

LABEL_SOURCES: Mapping[str, str] = {
    "birth-age": "dates of birth",
    "apparent": "people's guesses",
    "dex-estimated": "the DEX network's estimates",
    "unknown": "an unknown source",
}
"""Where the true ages of each `LabelKind` come from."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a result was measured on.

    Attributes:
        dataset: registry name of the data set.
        protocol: name of the protocol, "" for none; as in `Split.protocol`.
        part: which part was scored, such as "test"; "" without a protocol.
        label_kind: how the true ages came about.
        pictures: how pictures were selected, such as "random 100, seed 0"; "" for all.
        content_sha256: hash over all names, labels and pictures; "" if not known.
    """

    dataset: str
    protocol: str = ""
    part: str = ""
    label_kind: LabelKind = "unknown"
    pictures: str = ""
    content_sha256: str = ""

    @property
    def label(self) -> str:
        """Name of the protocol and part: "utkface-full/test, random 100, seed 0".

        >>> Scored("fgnet").label, Scored("utkface", "utkface-full", "test").label
        ('all pictures', 'utkface-full/test')
        """
        named = f"{self.protocol}/{self.part}" if self.protocol else ""
        return ", ".join(filter(None, (named, self.pictures))) or "all pictures"


def comparable(first: Scored, second: Scored) -> str:
    """Return why two results may not be ranked together, or "" if they may.

    >>> comparable(Scored("utkface", "utkface-full", "test"), Scored("utkface"))
    'one is of utkface-full/test, the other of all pictures: they score different pictures'
    """
    if first.dataset != second.dataset:
        return f"one is of the data set {first.dataset!r}, the other of {second.dataset!r}"
    if first.label_kind != second.label_kind:
        one, other = LABEL_SOURCES[first.label_kind], LABEL_SOURCES[second.label_kind]
        return f"the true ages of one come from {one}, those of the other from {other}"
    if first.label != second.label:
        return (
            f"one is of {first.label}, the other of {second.label}: they score different pictures"
        )
    known = first.content_sha256 and second.content_sha256
    if known and first.content_sha256 != second.content_sha256:
        return (
            f"both are of {first.label}, but pictures or labels differ: the copies of the "
            "data set differ"
        )
    return ""
