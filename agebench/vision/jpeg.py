"""Whether a JPEG's data last for the whole picture, which its decoder does not tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SOI = b"\xff\xd8"
_SOS, _EOI = 0xDA, 0xD9
_BASELINE = (0xC0, 0xC1)
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""The end of a scan's data: a marker that is neither a stuffed byte nor a restart."""

PADDING = bytes(16)
"""More than the decoder looks ahead; too little for a row of a picture."""


def ending_with_its_data(data: bytes) -> bytes:
    """Return a JPEG so that its decoder fails where the data end before the picture does.

    At an end marker libjpeg makes up whatever is missing (flat gray, mostly) and only prints a
    warning; where the bytes simply end, it fails.  So the marker is taken away.  The pixels of a
    whole picture are the same.

    Args:
        data: a JPEG file.

    Returns:
        The file up to the end of its scan, for a picture in one scan; else `data`: of several
        scans (progressive ones) the decoder needs the marker.
    """
    at, frame = len(_SOI), -1
    if not data.startswith(_SOI):
        return data
    components = 0
    while (found := _segment(data, at)) is not None:
        marker, body, after = found
        if marker in _FRAMES:
            frame, components = marker, data[body + 5] if min(after, len(data)) - body > 5 else 0
        if marker == _EOI:
            return data
        if marker == _SOS:
            end = _MARKER.search(data, after)
            whole = frame in _BASELINE and body < len(data) and data[body] == components
            alone = end is None or data[end.end() - 1] == _EOI
            if not (whole and alone):
                return data
            # What a download or a disk has left empty reads as zeros, and decodes as something.
            return (data.rstrip(b"\0") if end is None else data[: end.start()]) + PADDING
        at = after
    return data


def _segment(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return the marker at `at`, and where its content begins and ends; None past the end."""
    while at + 1 < len(data) and data[at] == 0xFF and data[at + 1] == 0xFF:
        at += 1
    if at + 4 > len(data) or data[at] != 0xFF:
        return None
    marker = data[at + 1]
    if marker in _ALONE or marker == _EOI:
        return marker, at + 2, at + 2
    return marker, at + 4, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


MOST_SCANS = 200
"""Usual encoders make some ten; each of them costs a pass over the whole picture."""

_PROGRESSIVE = (0xC2, 0xCA)
_SEQUENTIAL = (*_BASELINE, 0xC9)
_COEFFICIENTS = 64
_UNKNOWN = 255
_END = b"\xff\xd9"
_DRI = 0xDD
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FILLER = bytes(237 * place % 255 for place in range(1, 129))
"""What a decoder that lacks data takes for some, and changes pixels by."""


@dataclass(frozen=True, slots=True)
class Scans:
    """The scans of a JPEG that has several of them.

    Attributes:
        count: how many there are.
        complete: every coefficient of every component came, to its last bit.
        filled: the file with more data at the end of its last scan: other pixels come of it if the
            decoder did not have enough of them.
    """

    count: int
    complete: bool
    filled: bytes


def several_scans(data: bytes) -> Scans | None:
    """Return the scans of a progressive JPEG, or of one with a scan for each component.

    None for one with a single scan, and for what is no such file.
    """
    at, frame, count, begin, end, restarts = len(_SOI), -1, 0, 0, 0, False
    bits: dict[int, list[int]] = {}
    while data.startswith(_SOI) and (found := _segment(data, at)) is not None:
        marker, body, at = found
        if marker == _EOI:
            break
        if marker in _FRAMES:
            frame = marker
            stated = data[body + 6 : at : 3]  # less where the file ends before the header does
            bits = {component: [_UNKNOWN] * _COEFFICIENTS for component in stated}
        if marker == _DRI:
            restarts = any(data[body:at])
        if marker == _SOS:
            _note_scan(data[body:at], frame, bits)
            count += 1
            after = _MARKER.search(data, at)
            begin, end = at, len(data) if after is None else after.start()
            at = end
    if frame not in (*_PROGRESSIVE, *_SEQUENTIAL) or (count < 2 and frame not in _PROGRESSIVE):
        return None
    complete = bool(bits) and all(not any(each) for each in bits.values())
    filler = _FILLER
    if restarts:  # those that would come next
        number = len(_RESTART.findall(data, begin, end))
        filler += b"".join(bytes((0xFF, 0xD0 + (number + n) % 8)) + _FILLER for n in range(2))
    return Scans(count, complete, data[:end] + filler + _END)


def _note_scan(header: bytes, frame: int, bits: dict[int, list[int]]) -> None:
    """Note how many low bits of which coefficients are still missing after a scan."""
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
