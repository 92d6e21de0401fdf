"""What libraries write to the terminal by themselves: inert, once a kind, and never waited for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agebench.cli.native_stderr import MOST_KINDS, LibraryMessages

CODE = """
import ctypes, os, sys
from agebench.cli.native_stderr import caught_messages

libc = ctypes.PyDLL(None)  # keeps the interpreter while it writes
with caught_messages():
    for number in range(3):
        os.write(2, b"libpng warning: iCCP %d: \\x1b]0;title\\x07\\n" % number)
    sys.stderr.write("ours\\n")
    if "flood" in sys.argv:
        data = b"x" * 1000 + b"\\n"
        for _ in range(5000):
            libc.write(2, data, len(data))
sys.stderr.write("after\\n")
os.write(2, b"raw\\n")
"""


def run(*words: str) -> str:
    command = [sys.executable, "-P", "-c", CODE, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX descriptors")
@pytest.mark.timeout(300)
def test_words_are_inert_counted_and_said_once() -> None:
    said = "agebench: message of a library (3 times): libpng warning: iCCP 0: \\x1b]0;title\\x07\n"
    assert run() == f"ours\n{said}after\nraw\n"
    flooded = run("flood").splitlines()
    assert flooded[0] == "ours"
    assert flooded[-2:] == ["after", "raw"]
    assert len(flooded) <= 6
    assert max(map(len, flooded)) < 400


def test_kinds_are_bounded() -> None:
    words = LibraryMessages()
    for number in range(500):
        words.add(b"kind " + bytes([97 + number % 26, 97 + number // 26]) + b"\n")
    assert len(words.sentences()) == MOST_KINDS + 1
    assert words.sentences()[-1] == f"{500 - MOST_KINDS} more lines of libraries"
    words.add(b"\n")
    assert words.others == 500 - MOST_KINDS
