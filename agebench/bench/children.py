"""Measurements in a fresh child process: what only a new process can show.

The parent writes down what it wants, the child answers in a file, so that nothing a plug-in prints
comes between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agebench.bench.threads import THREAD_VARIABLES
from agebench.errors import AgebenchError, inert

TIMEOUT_S = 900.0
"""A child that takes longer hangs."""


class ChildDiedError(AgebenchError):
    """A child process crashed, was killed or hung before it could answer."""


# The clock is read before anything is imported: what came before is the start of the process.
_CODE = (
    "import time; started = time.perf_counter(); "
    "from agebench.bench.child import main; main(started)"
)
_MAX_ERROR = 300


def ask_child(
    task: str, order: Mapping[str, Any], *, threads: int, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Run one task of `agebench.bench.child` in a new process and return its answer.

    Args:
        task: "cold_start", "resources", "peaks" or "trial".
        order: what the task needs, as JSON can hold it.
        threads: for numpy's matrix products, which take it from the environment at start.
        timeout_s: a child that takes longer hangs.

    Raises:
        ChildDiedError: it gave no answer; what it last said.
        AgebenchError: it failed; its own sentence.
    """
    with tempfile.TemporaryDirectory(prefix="agebench-") as folder:
        answer = Path(folder) / "answer.json"
        # perf_counter is one clock for all processes of a machine.
        whole = {**order, "task": task, "threads": threads, "answer": str(answer)}
        whole["spawned"] = time.perf_counter()
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        # -P: a file of that name in the current folder must not stand in for a library.
        command = [sys.executable, "-P", "-c", _CODE, json.dumps(whole)]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and code
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ChildDiedError(
                f"{_what(task, order)}: no answer after {timeout_s:g} s: does the model hang?"
            ) from error
        return _read(answer, done, _what(task, order))


def _what(task: str, order: Mapping[str, Any]) -> str:
    name = order.get("reference", "")
    return f"{task.replace('_', ' ')} of {name}" if name else f"{task} in a child process"


def _read(answer: Path, done: subprocess.CompletedProcess[bytes], what: str) -> dict[str, Any]:
    if not answer.is_file():
        lines = inert(done.stderr.decode(errors="replace"), lines=True).strip().splitlines()
        said = f": {lines[-1][:_MAX_ERROR]}" if lines else ""
        how = "was killed (out of memory?)" if done.returncode < 0 else "failed"
        raise ChildDiedError(f"{what} {how}, exit code {done.returncode}{said}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise AgebenchError(f"{what}: {found['error']}")
    return found
