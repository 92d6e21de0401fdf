"""safetensors files whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json

_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 8
_METADATA_FIRST = '{"__metadata__":'


def in_fixed_order(content: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted by name.

    The library writes them in an order that it draws anew in every process, so that the same
    tensors have two hashes.  Of the format, see
    https://huggingface.co/docs/safetensors: 8 bytes with the header's length, the header as JSON,
    filled up with spaces, the tensors.

    >>> head = b'{"__metadata__":{"b":"2","a":"1"}}      '
    >>> in_fixed_order(len(head).to_bytes(8, "little") + head)[8:].decode()
    '{"__metadata__":{"a":"1","b":"2"}}      '
    """
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = content[_LENGTH_BYTES:start].decode()
    if not header.startswith(_METADATA_FIRST):
        raise ValueError("expected the metadata first, as safetensors writes them")
    first = len(_METADATA_FIRST)
    metadata, end = json.JSONDecoder().raw_decode(header, first)
    ordered = json.dumps(dict(sorted(metadata.items())), separators=(",", ":"), ensure_ascii=False)
    # The many tensors that follow are not parsed: the library sorts them.
    text = (header[:first] + ordered + header[end:].rstrip(" ")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return b"".join(
        (len(text).to_bytes(_LENGTH_BYTES, "little"), text, memoryview(content)[start:])
    )
