"""Python processes that need not import PyTorch and the rest anew.

They are forked off one process that imported them once, so that a command of which a test kills
five costs what it does and not what it takes to begin.  Where there is no fork each starts over.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

_SCRIPT = Path(__file__).with_name("forked_child.py")
_METHOD = "forkserver" if os.name == "posix" else "spawn"
_IMPORTED = [
    # PyTorch's optimisers import its compiler, which takes longer than all the rest of a small run.
    *("torch", "torch._dynamo", "cv2", "onnx", "onnxruntime", "scipy.optimize"),
    *("matplotlib.figure", "rich.progress"),
    *("agebench.cli.main", "agebench.cli.compare", "agebench.cli.predict", "agebench.cli.prepare"),
    *("agebench.cli.train", "agebench.trainer.run", "agebench.comparison.api"),
]


def _context() -> Any:
    context = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(_IMPORTED)  # what can't be imported is left out
    return context


class ForkedPython:
    """A Python process; the words are as `python` takes them: ``-m MODULE ...`` or ``-c CODE ...``.

    Its output goes to files, so that no one needs to read while it runs.
    """

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.words = words
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        given = {
            "words": list(words),
            "environment": dict(os.environ if environment is None else environment),
            "outputs": [str(path) for path in self._outputs],
            "folder": str(Path.cwd()),
        }
        self._process = _context().Process(
            target=runpy.run_path, args=(str(_SCRIPT), {"given": given}, "__forked__")
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self._process.pid)

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        return None if self._process.is_alive() else int(self._process.exitcode)

    def wait(self) -> int:
        """Wait for its end, and return as `poll` does."""
        self._process.join()
        return int(self._process.exitcode)

    def kill(self) -> int:
        """End it as SIGKILL does, and wait for that."""
        if self.poll() is None:
            os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        return self.wait()

    def ended(self) -> CompletedProcess[str]:
        """Wait for its end, and return its exit code and output."""
        code = self.wait()
        stdout, stderr = (
            path.read_text(encoding="utf-8") if path.exists() else "" for path in self._outputs
        )
        return CompletedProcess(self.words, code, stdout, stderr)


def run_python(*words: str, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run a Python process to its end; arguments as `ForkedPython`."""
    return ForkedPython(*words, environment=environment).ended()
