"""safetensors files whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json

_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 8


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
    header = json.loads(content[_LENGTH_BYTES:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return b"".join(
        (len(text).to_bytes(_LENGTH_BYTES, "little"), text, memoryview(content)[start:])
    )
