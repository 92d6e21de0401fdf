"""Child processes: what lies in the current folder is not run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agebench
from agebench import processes

PACKAGE = Path(agebench.__file__).parent

HOSTILE = "open({mark!r}, 'a').write(__name__)\nraise SystemExit('foreign code')\n"

SCRIPT = """
import os, sys
from agebench.workers import Work, in_processes

def make():
    return lambda task: (task, "PYTHONSAFEPATH" in os.environ, "numpy" in sys.modules)

if __name__ == "__main__":
    print(list(in_processes(Work(make, None), range(3), 1)))
"""

OTHER_INTERPRETERS = ("multiprocessing", "concurrent.futures.process", "pty", "runpy")


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder whose modules leave a mark beside it if they are imported."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("pickle", "signal", "multiprocessing", "click", "json", "numpy"):
        (folder / f"{name}.py").write_text(HOSTILE.format(mark=str(tmp_path / "mark")))
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_workers_run_nothing_from_the_current_folder(tmp_path: Path, hostile_folder: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(hostile_folder, str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(task, False, False) for task in range(3)])
    assert not (tmp_path / "mark").exists()


def test_the_module_leaves_the_current_folder(tmp_path: Path, hostile_folder: Path) -> None:
    done = run(hostile_folder, "-m", "agebench", "--version")
    assert done.stdout.startswith("agebench, version"), done.stderr
    assert not (tmp_path / "mark").exists()


def test_a_checkout_runs_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/lib"])
    processes.leave_current_folder(tmp_path / "agebench")
    assert sys.path == [str(tmp_path), "/lib"]
    processes.leave_current_folder(tmp_path / "elsewhere" / "agebench")
    assert sys.path == ["/lib"]


def test_every_interpreter_is_started_on_the_safe_path() -> None:
    """All starts are lists that begin with the interpreter and -P, or go through `workers`."""
    starts = 0
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.List) and "sys.executable" in map(ast.unparse, node.elts[:1]):
                starts += 1
                assert ast.unparse(node.elts[1]) == "'-P'", f"{file}: {ast.unparse(node)}"
            if isinstance(node, (ast.Import, ast.ImportFrom)) and file.name != "workers.py":
                names = [getattr(node, "module", "") or "", *(item.name for item in node.names)]
                assert not set(names) & {*OTHER_INTERPRETERS, "ProcessPoolExecutor"}, file
    assert starts == 3
