"""Whether a JPEG's data last for the whole picture, which its decoder does not tell."""

from __future__ import annotations

import re

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
            frame, components = marker, data[body + 5] if after - body > 5 else 0
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
