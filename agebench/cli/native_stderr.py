"""What libraries outside of Python write to the terminal: caught, made inert, said once a kind.

libpng and libjpeg warn of each odd picture, in words that may hold the file's own bytes: escape
sequences would reach the terminal, and thousands of lines drown the progress bar.
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

from agebench.errors import inert

MOST_KINDS = 20
"""So many are told apart; the lines of all others are counted together."""

_LONGEST_LINE = 300
_SHOWN_OF_KIND = 80
_CHANGING = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")
_DRAIN_S = 2.0


@dataclass(slots=True)
class LibraryWords:
    """Lines by kind: those that differ in numbers alone are of one.

    >>> words = LibraryWords()
    >>> for number in range(3):
    ...     words.add(f"Premature end at {number}".encode())
    >>> words.sentences()
    ['a library says (3 times): Premature end at 0']
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
        """Return what was said, one line per kind."""
        told = []
        for kind, text in self.first.items():
            count = self.counts[kind]
            times = f" ({count:,} times)" if count > 1 else ""
            told.append(f"a library says{times}: {text}")
        if self.others:
            told.append(f"libraries say {self.others:,} lines more")
        return told


@contextmanager
def caught_words() -> Iterator[None]:
    """Catch what is written to descriptor 2 from outside of Python, and tell it at the end.

    Where stderr is not the process's own, as in tests and notebooks, nothing is done.
    """
    ours = sys.stderr
    if os.name != "posix" or ours is not sys.__stderr__ or not isinstance(ours, io.TextIOWrapper):
        yield
        return
    try:
        if ours.fileno() != 2:
            yield
            return
        kept = os.dup(2)
        read, write = os.pipe()
    except OSError:
        yield
        return
    # A library that writes while it holds the interpreter must not wait for the reader below.
    os.set_blocking(write, False)
    ours.flush()
    sys.stderr = io.TextIOWrapper(
        os.fdopen(os.dup(kept), "wb"), ours.encoding, ours.errors, line_buffering=True
    )
    words = LibraryWords()
    reader = threading.Thread(target=_collect, args=(os.fdopen(read, "rb"), words), daemon=True)
    with suppress(RuntimeError):  # where no thread can be had the words stay as they are
        reader.start()
        os.dup2(write, 2)
    os.close(write)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = ours
        if reader.ident is not None:
            reader.join(_DRAIN_S)  # a child that was left behind may hold the pipe open
        for sentence in words.sentences():
            with suppress(OSError, ValueError):
                ours.write(f"agebench: {sentence}\n")


def _collect(pipe: BinaryIO, words: LibraryWords) -> None:
    with pipe, suppress(OSError):
        while line := pipe.readline(1 << 16):
            words.add(line)
