"""What a process of `forking` does: it takes on an environment and outputs, and runs the words."""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any


def begin(given: dict[str, Any]) -> None:
    """Become the process that is asked for."""
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["folder"])
    for stream, path in zip((1, 2), given["outputs"], strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    kind, what, *more = given["words"]
    sys.argv = [what if kind == "-m" else kind, *more]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            # The process's own main module would be another one.
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__forked__":
    begin(globals()["given"])
