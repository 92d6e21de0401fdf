"""Limits of the shell: a sentence that names them, and no word of a fault of agebench."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from agebench.cli.process_limits import with_limit
from agebench.errors import AgebenchError

if sys.platform == "win32":
    pytest.skip("limits of Unix", allow_module_level=True)

import resource


def _run(
    *arguments: str, memory_mb: int | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    def limit() -> None:
        if memory_mb is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 10**6,) * 2)

    return subprocess.run(  # noqa: S603 - arguments of this file
        [sys.executable, "-P", *arguments],
        check=False,
        capture_output=True,
        preexec_fn=limit,
        timeout=1800,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **variables},
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not keep the limit")
@pytest.mark.parametrize("memory_mb", [450, 560, 615])
def test_a_limited_address_space_is_named(tmp_path: Path, memory_mb: int) -> None:
    for age in (20, 30):
        (tmp_path / str(age)).mkdir()
        PillowImage.new("RGB", (32, 32), "gray").save(tmp_path / str(age) / "a.png")
    call = ("doctor", "--dataset", "folders", str(tmp_path))
    done = _run("-m", "agebench", *call, memory_mb=memory_mb)
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert done.returncode in (0, 1)
    if done.returncode:
        assert "the address space of this process is limited to" in said


@pytest.mark.parametrize("verb", ["train", "augment-preview"])
def test_what_would_end_in_a_crash_is_refused(verb: str) -> None:
    done = _run("-m", "agebench", verb, "-o", "nowhere", memory_mb=1000)
    assert done.returncode == 1
    assert b"limited to 1,000 MB (ulimit -v): PyTorch needs 1,400 MB" in done.stderr


def test_a_removed_folder_is_named(tmp_path: Path) -> None:
    leave = f"cd {tmp_path} && rmdir {tmp_path} && exec {sys.executable} -m agebench train"
    done = subprocess.run(["sh", "-c", leave], check=False, capture_output=True)  # noqa: S603, S607 - made here
    assert done.returncode == 1
    assert done.stderr.startswith(b"agebench: the current folder no longer exists")


def test_processor_time_ends_in_order() -> None:
    program = (
        "import importlib, resource, time\n"
        "main = importlib.import_module('agebench.cli.main')\n"
        "@main.cli.command('spin')\n"
        "def spin():\n"
        "    while True: pass\n"
        "main.VERBS['spin'] = ''\n"
        "main._LazyGroup.get_command = lambda *_: spin\n"
        "seconds = int(time.process_time() + 0.5) + 2\n"  # at least half a second from now
        "resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))\n"
        "main.main(['spin'])\n"
    )
    done = _run("-c", program)
    assert done.returncode == 152
    assert b"the processor time that this shell allows (ulimit -t) is used up" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_consoles_of_any_encoding(encoding: str) -> None:
    done = _run("-m", "agebench", "report", "nowhere\u2603", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.decode(encoding).startswith("agebench: there is no file nowhere")


def test_only_what_lacks_memory_is_laid_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_limit(MemoryError(), "full") == "full"
    monkeypatch.setattr("agebench.cli.process_limits._allowed_bytes", lambda: 600_000_000)
    limited = "limited to 600 MB (ulimit -v), which is too low here: raise it (the error: it)"
    assert with_limit(AgebenchError("it"), "it") == "it"
    for short in (MemoryError(), ImportError("x.so: failed to map segment"), OSError(12, "no")):
        outer = AgebenchError("it")
        outer.__cause__ = short
        assert limited in with_limit(outer, "it")
    assert limited in with_limit(ValueError("odd"), "it", unforeseen=True)
