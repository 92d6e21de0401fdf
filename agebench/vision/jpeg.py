"""Detects JPEG files whose data are incomplete, which decoders do not report."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SOI = b"\xff\xd8"
_SOS, _EOI = 0xDA, 0xD9
_BASELINE = (0xC0, 0xC1)
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_DRI, _RST0 = 0xDD, 0xD0
_MARKER = re.compile(rb"\xff([^\x00\xff])")
"""A marker; 0xFF before a zero is a data byte of a scan.

More of 0xFF may precede it, which are not matched: what begins with a repetition is searched for
sixteen times as long.
"""

PADDING = bytes(16)
"""More than the decoder reads ahead, but less than a row of a picture."""


def ending_with_its_data(data: bytes) -> bytes:
    """Return a JPEG that makes the decoder fail if the data are incomplete.

    At a marker within a scan's data libjpeg makes up the missing pixels (mostly flat gray) and only
    prints a warning; if the bytes end there, it fails.  So the marker and everything after it are
    removed.  The pixels of a complete picture do not change.

    Args:
        data: a JPEG file.

    Returns:
        The file up to the end of its scan, for a picture with one scan; otherwise `data`: with
        several scans (progressive ones) the decoder needs the marker.
    """
    at, frame, components, restarts = len(_SOI), -1, 0, False
    if not data.startswith(_SOI):
        return data
    while (found := _segment(data, at)) is not None:
        marker, body, after = found
        if marker in _FRAMES:
            frame, components = marker, data[body + 5] if min(after, len(data)) - body > 5 else 0
        if marker == _EOI:
            return data
        if marker == _DRI:
            restarts = any(data[body:after])
        if marker == _SOS:
            if frame not in _BASELINE or body >= len(data) or data[body] != components:
                return data
            end = _end_of_data(data, after, restarts=restarts)
            # Blocks that a download or a disk left empty read as zeros, which can be decoded.
            return (data.rstrip(b"\0") if end == len(data) else data[:end]) + PADDING
        at = after
    return data


def _end_of_data(data: bytes, at: int, *, restarts: bool) -> int:
    """Return the end of a scan's data from `at`: a marker that is not the next restart."""
    for number, found in enumerate(_MARKER.finditer(data, at)):
        if not restarts or found[1][0] != _RST0 + number % 8:
            return at + len(data[at : found.start()].rstrip(b"\xff"))
    return len(data)


def _segment(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return the next marker, and the start and end of its content; None if there is none.

    Other bytes before a marker are skipped, as decoders do.
    """
    found = _MARKER.search(data, at)
    if found is None:
        return None
    marker, body = found[1][0], found.end()
    if marker in _WITHOUT_LENGTH or marker == _EOI:
        return marker, body, body
    if body + 2 > len(data):
        return None
    return marker, body + 2, body + int.from_bytes(data[body : body + 2], "big")


MOST_SCANS = 200
"""Usual encoders write about ten; each takes a pass over the whole picture."""

_PROGRESSIVE = (0xC2, 0xCA)
_SEQUENTIAL = (*_BASELINE, 0xC9)
_COEFFICIENTS = 64
_UNKNOWN = 255
_END = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FILLER = bytes(237 * place % 255 for place in range(1, 129))
"""Appended data that a decoder uses if its own are incomplete, which changes pixels."""


@dataclass(frozen=True, slots=True)
class Scans:
    """The scans of a JPEG with several of them.

    Attributes:
        count: their number.
        complete: whether all bits of all coefficients of all components are there.
        filled: the file with data appended to each scan: its pixels differ if the decoder did not
            have enough.
    """

    count: int
    complete: bool
    filled: bytes


def several_scans(data: bytes) -> Scans | None:
    """Return the scans of a progressive JPEG, or of one with a scan for each component.

    None for one with a single scan, and for other files.
    """
    at, frame, count, end, restarts = len(_SOI), -1, 0, 0, False
    bits: dict[int, list[int]] = {}
    filled: list[bytes] = []
    while data.startswith(_SOI) and (found := _segment(data, at)) is not None:
        marker, body, at = found
        if marker == _EOI:
            break
        if marker in _FRAMES:
            frame = marker
            stated = data[body + 6 : at : 3]  # shorter if the file ends within the header
            bits = {component: [_UNKNOWN] * _COEFFICIENTS for component in stated}
        if marker == _DRI:
            restarts = any(data[body:at])
        if marker == _SOS:
            _note_scan(data[body:at], frame, bits)
            count += 1
            before, end = end, _end_of_data(data, at, restarts=restarts)
            filled += (data[before:end], _more_data(data[at:end], restarts=restarts))
            at = end
    if frame not in (*_PROGRESSIVE, *_SEQUENTIAL) or (count < 2 and frame not in _PROGRESSIVE):
        return None
    complete = bool(bits) and all(not any(each) for each in bits.values())
    return Scans(count, complete, b"".join((*filled, _END)))


def _more_data(scan: bytes, *, restarts: bool) -> bytes:
    """Return data to append to a scan, with the restarts that would follow."""
    number = len(_RESTART.findall(scan)) if restarts else 0
    marks = [bytes((0xFF, _RST0 + (number + n) % 8)) for n in range(2)] if restarts else []
    return _FILLER.join((b"", *marks, b""))


def _note_scan(header: bytes, frame: int, bits: dict[int, list[int]]) -> None:
    """Update how many low bits of which coefficients are missing after a scan."""
    components = header[0] if header else 0
    if len(header) < 1 + 2 * components + 3:
        return
    first, last, precision = header[1 + 2 * components :][:3]
    if frame not in _PROGRESSIVE:
        first, last, precision = 0, _COEFFICIENTS - 1, 0
    for place in range(components):
        missing = bits.get(header[1 + 2 * place])
        if missing is not None:
            for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                missing[coefficient] = precision & 15
