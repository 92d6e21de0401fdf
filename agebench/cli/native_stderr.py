"""Output of native libraries: captured, sanitised and reported once per kind.

libpng and libjpeg warn of each odd picture, in messages that may contain bytes of the file: escape
sequences would reach the terminal, and thousands of lines would hide the progress bar.  What a
library prints to standard output would be mixed with the results.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from agebench.cli.process_limits import address_space
from agebench.errors import inert

MOST_KINDS = 20
"""Largest number of kinds; the lines of all others are counted together."""

_LONGEST_LINE = 300
_SHOWN_OF_KIND = 80
_CHANGING = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")
_DRAIN_S = 2.0


@dataclass(slots=True)
class LibraryMessages:
    """Lines grouped by kind: those that differ only in numbers are of one kind.

    >>> words = LibraryMessages()
    >>> for number in range(3):
    ...     words.add(f"Premature end at {number}".encode())
    >>> words.sentences()
    ['message of a library (3 times): Premature end at 0']
    """

    first: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    others: int = 0

    def add(self, line: bytes) -> None:
        """Count a line."""
        text = inert(line[:_LONGEST_LINE].decode(errors="replace").strip())
        if not text:
            return
        kind = _CHANGING.sub("#", text)[:_SHOWN_OF_KIND]
        if kind not in self.first and len(self.first) >= MOST_KINDS:
            self.others += 1
            return
        self.first.setdefault(kind, text)
        self.counts[kind] += 1

    def sentences(self) -> list[str]:
        """Return the messages, one line per kind."""
        lines = []
        for kind, text in self.first.items():
            count = self.counts[kind]
            times = f" ({count:,} times)" if count > 1 else ""
            lines.append(f"message of a library{times}: {text}")
        if self.others:
            lines.append(f"{self.others:,} more lines of libraries")
        return lines


@contextmanager
def caught_messages() -> Iterator[None]:
    """Capture what native code writes to descriptors 1 and 2, and report it at the end.

    Nothing is captured if stderr is redirected inside Python, as in tests and notebooks, or if the
    address space is limited, as the last message of a library that ends the process would be lost.
    """
    stderr = sys.stderr
    if address_space():
        yield
        return
    if os.name != "posix" or stderr is not sys.__stderr__ or not _is_at(stderr, 2):
        yield
        return
    try:
        read, write = os.pipe()
    except OSError:
        yield
        return
    # A library that writes while it holds the interpreter's lock must not wait for the reader
    # below.
    os.set_blocking(write, False)
    messages = LibraryMessages()
    reader = threading.Thread(target=_collect, args=(os.fdopen(read, "rb"), messages), daemon=True)
    with suppress(RuntimeError):  # without a thread the output stays as it is
        reader.start()
    try:
        with _aside("stderr", 2, write, reader), _aside("stdout", 1, write, reader):
            os.close(write)
            yield
    finally:
        if reader.ident is not None:
            reader.join(_DRAIN_S)  # a child process left behind may keep the pipe open
        for sentence in messages.sentences():
            with suppress(OSError, ValueError):
                print(f"agebench: {sentence}", file=stderr)


def _is_at(stream: object, descriptor: int) -> bool:
    with suppress(OSError, ValueError):
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor
    return False


@contextmanager
def _aside(name: str, descriptor: int, pipe: int, reader: threading.Thread) -> Iterator[None]:
    """Move one of Python's streams to another descriptor; the old one becomes a pipe."""
    ours = getattr(sys, name)
    own = ours is getattr(sys, f"__{name}__") and _is_at(ours, descriptor)
    if reader.ident is None or not own:
        yield
        return
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield
        return
    ours.flush()
    # The second name too, since the terminal's width is read through its descriptor.
    # A separate stream, as third-party code may close it.
    moved, second = (
        io.TextIOWrapper(
            os.fdopen(os.dup(kept), "wb"), ours.encoding, ours.errors, line_buffering=True
        )
        for _ in range(2)
    )
    moved.reconfigure(line_buffering=name == "stderr" or ours.line_buffering)
    setattr(sys, name, moved)
    setattr(sys, f"__{name}__", second)
    os.dup2(pipe, descriptor)
    try:
        yield
    finally:
        for stream in (moved, second):
            with suppress(OSError, ValueError):
                stream.close()
        os.dup2(kept, descriptor)
        os.close(kept)
        setattr(sys, name, ours)
        setattr(sys, f"__{name}__", ours)


def _collect(pipe: BinaryIO, messages: LibraryMessages) -> None:
    with pipe, suppress(OSError):
        while line := pipe.readline(1 << 16):
            messages.add(line)
