"""File names that never collide: readable, plain ASCII, short, told apart by a hash."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

READABLE_LENGTH = 60
HASH_DIGITS = 10

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")


def readable_stem(source: str) -> str:
    """Return what a source's file name says, in letters, digits, ``_`` and ``-`` alone.

    >>> readable_stem("albums/Zoë 7.JPG"), readable_stem("東京.png")
    ('Zoe_7', 'picture')
    """
    base = _SUFFIX.sub("", source.rpartition("/")[2])
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode("ascii")
    return _UNSAFE.sub("_", plain).strip("_-")[:READABLE_LENGTH] or "picture"


def _stem(source: str, digits: int) -> str:
    return f"{readable_stem(source)}-{hashlib.sha256(source.encode()).hexdigest()[:digits]}"


def stems(sources: Iterable[str], digits: int = HASH_DIGITS) -> dict[str, str]:
    """Return a stem for each source name.

    The stem is the readable part and the first `digits` of the SHA-256 of the whole name, so that
    it does not depend on which other pictures there are.  Should two be the same even so, on a
    file system that does not tell case, those get the whole hash.
    """
    given = {source: _stem(source, digits) for source in sources}
    counts = Counter(stem.lower() for stem in given.values())
    return {
        source: stem if counts[stem.lower()] == 1 else _stem(source, 64)
        for source, stem in given.items()
    }


def face_name(stem: str, face_index: int) -> str:
    """Return the name of one face's files, without suffix."""
    return f"{stem}-{face_index}"
