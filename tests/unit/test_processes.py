"""Child processes: nothing of the current folder is run, and no child outlives its parent."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import agebench
from agebench.__main__ import leave_current_folder
from agebench.timing import children

PACKAGE = Path(agebench.__file__).parent

HOSTILE = "open({mark!r}, 'a').write(__name__)\nraise SystemExit('foreign code')\n"

SCRIPT = """
import os, sys, warnings
from agebench.util.process_pool import Work, in_processes

def make():
    warnings.warn_explicit("many pixels", UserWarning, "Image.py", 1, module="PIL.Image")
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
    assert done.stderr == ""  # Pillow's warnings are not for users
    assert not (tmp_path / "mark").exists()


def test_the_module_leaves_the_current_folder(tmp_path: Path, hostile_folder: Path) -> None:
    done = run(hostile_folder, "-m", "agebench", "--version")
    assert done.stdout.startswith("agebench, version"), done.stderr
    assert not (tmp_path / "mark").exists()


def test_a_checkout_runs_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/lib"])
    leave_current_folder(str(tmp_path / "agebench"))
    assert sys.path == [str(tmp_path), "/lib"]
    leave_current_folder(str(tmp_path / "elsewhere" / "agebench"))
    assert sys.path == ["/lib"]


def test_a_deleted_folder_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["", "/lib"])
    leave_current_folder("/lib/agebench")


def test_every_interpreter_is_started_on_the_safe_path() -> None:
    """All starts are lists that begin with the interpreter and -P, or go through `workers`."""
    starts = 0
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.List) and "sys.executable" in map(ast.unparse, node.elts[:1]):
                starts += 1
                assert ast.unparse(node.elts[1]) == "'-P'", f"{file}: {ast.unparse(node)}"
            if isinstance(node, (ast.Import, ast.ImportFrom)) and file.name != "process_pool.py":
                names = [getattr(node, "module", "") or "", *(item.name for item in node.names)]
                assert not set(names) & {*OTHER_INTERPRETERS, "ProcessPoolExecutor"}, file
    assert starts == 4  # the trial of a window is the fourth


PARENT = """
import os, subprocess, sys
_, held = pipe = os.pipe()
os.set_inheritable(pipe[0], True)
child = subprocess.Popen([sys.executable, "-P", "-c", sys.argv[1], str(os.getpid()), str(pipe[0])],
                         close_fds=False, stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
child.wait()
"""

CHILD = """
import ctypes, os, sys, time
from agebench.util.child_processes import end_with_parent
end_with_parent(int(sys.argv[1]), {watch}, tied={tied})
print("ready", flush=True)
{busy}
"""

# sleep(3) by way of PyDLL keeps the interpreter, so that no thread of it can do anything.
WAYS = {
    "kernel": ("None", True, "ctypes.PyDLL(None).sleep(3600)"),
    "pipe": ("int(sys.argv[2])", False, "time.sleep(3600)"),
    "number": ("None", False, "time.sleep(3600)"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's way is Linux's")
@pytest.mark.parametrize("way", WAYS)
def test_a_child_ends_when_its_parent_is_killed(way: str) -> None:
    watch, tied, busy = WAYS[way]
    code = CHILD.format(watch=watch, tied=tied, busy=busy)
    words = [sys.executable, "-P", "-c", PARENT, code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        number, ready = parent.stdout.readline().split()
        assert ready == "ready"
        child = psutil.Process(int(number))
        parent.kill()
    child.wait(timeout=1800)


def test_a_child_that_hangs_is_killed_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(children, "_CODE", "import time; time.sleep(3600)")
    with pytest.raises(children.ChildDiedError, match=r"no answer after 0\.5 s"):
        children.ask_child("trial", {}, threads=1, timeout_s=0.5)
    assert not list(tmp_path.iterdir())


def test_what_a_child_says_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stderr.write('x' * 10_000_000 + '\\nlast \\x1b[31m words'); sys.exit(3)"
    monkeypatch.setattr(children, "_CODE", code)
    told = r"^trial in a child process failed, exit code 3: last \\x1b\[31m words$"
    with pytest.raises(children.ChildDiedError, match=told):
        children.ask_child("trial", {}, threads=1)


ENDED = """
import ctypes, signal, sys, tempfile
from agebench.cli import signals

# Anyone who started the tests may ignore them, and signals that are ignored stay so.
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signals.GRACE_S = 0.2
with signals.orderly_ends() as ended, ended.heard():
    try:
        with tempfile.TemporaryDirectory(dir=sys.argv[1]):
            print("ready", flush=True)
            {busy}
    except KeyboardInterrupt:
        pass
sys.exit(ended.code)
"""

# A lock taken twice is waited for whatever signals come, as a library that hangs.
HANGS = (
    "lock = ctypes.create_string_buffer(64); "
    "[ctypes.CDLL(None).pthread_mutex_lock(lock) for _ in range(2)]"
)


@pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")
@pytest.mark.parametrize("busy", ["__import__('time').sleep(3600)", HANGS], ids=["python", "hangs"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_in_order(busy: str, number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-c", ENDED.format(busy=busy), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as run:  # noqa: S603
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        try:
            assert run.wait(timeout=1800) == 128 + number
        finally:
            run.kill()
    assert busy == HANGS or not list(tmp_path.iterdir())
