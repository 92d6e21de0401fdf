"""Kill, stop and interrupt commands at random moments: no partial file may pass for a complete one.

    python -m benchmarks.kills --mirror FOLDER_OF_WEIGHTS --chips UTKFACE --seconds 600

Each verb that writes files first runs undisturbed once.  Then, in a new folder, it is repeatedly
started and disturbed at a random moment: by SIGKILL to the main process only, SIGTERM, SIGHUP,
SIGSTOP and SIGCONT, or Ctrl-C twice.  After each of these the files are checked; no process may
still be running, there may be no traceback, and only SIGKILL may leave temporary files.  A run that
was only stopped and continued must succeed.  At the end the command runs once more, and must leave
the same files as the undisturbed run.  Counts are added to those in results/kills.json, so the
script can be run in parts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from agebench.harness.environment import describe_environment
from agebench.types import plain
from agebench.util.files import write_whole
from benchmarks.kill_cases import Case, broken, cases

RESULTS = Path(__file__).with_name("results") / "kills.json"
KINDS = ("SIGKILL", "SIGTERM", "SIGHUP", "stop and go on", "Ctrl-C twice")
CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGHUP": 129, "stop and go on": 0, "Ctrl-C twice": 130}
PATIENCE_S = 60.0
"""How long a run may take to end after the signal, and its children after that, seconds."""


class SlowMirror(SimpleHTTPRequestHandler):
    """Serves files slowly, in small pieces, so that kills hit downloads."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Write with pauses."""
        with contextlib.suppress(OSError):  # the client was killed
            while piece := source.read(1 << 17):
                outputfile.write(piece)
                time.sleep(0.002)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Log nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine within the context; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SlowMirror, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def start(case: Case, out: Path, mirror: str) -> subprocess.Popen[bytes]:
    """Start the command in its own session."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if case.name == "fetch":
        environment |= {"AGEBENCH_MIRROR": mirror, "AGEBENCH_CACHE": str(out)}
    return subprocess.Popen(
        [sys.executable, "-m", "agebench", *case.arguments(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(case: Case, out: Path, mirror: str) -> float:
    """Run the command to its end and return the seconds it took."""
    began = time.perf_counter()
    process = start(case, out, mirror)
    _, output = process.communicate()
    if process.returncode != case.code:
        raise SystemExit(f"{case.name} failed: {output.decode()}")
    return time.perf_counter() - began


def of_session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that are still running."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def disturb(process: subprocess.Popen[bytes], kind: str, rng: random.Random) -> None:
    """Disturb a running command once."""
    if kind == "stop and go on":
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.05, 0.5))
        os.killpg(process.pid, signal.SIGCONT)
    elif kind == "Ctrl-C twice":  # a terminal sends it to the whole group
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(rng.uniform(0.0, 0.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, kind))


def one(
    case: Case, out: Path, mirror: str, kind: str, wait_s: float, rng: random.Random
) -> tuple[bool, list[str]]:
    """Start the command and disturb it; return whether it was still running, and the problems."""
    process = start(case, out, mirror)
    try:
        process.communicate(timeout=wait_s)
        in_time = False
    except subprocess.TimeoutExpired:
        in_time = True
        disturb(process, kind, rng)
    wrong, output = waited(process, kind)
    # A normal exit code is accepted too: the signal may have come as the command ended.
    if process.returncode not in (case.code, CODES[kind], -CODES[kind] + 128):
        wrong.append(f"{kind}: exit code {process.returncode}: {output[-400:]}")
    if "Traceback" in output:
        wrong.append(f"{kind}: a traceback: {output[-1200:]}")
    wrong += [f"{kind}: half-written: {problem}" for problem in broken(out)]
    return in_time, [*wrong, *hidden_in(out, kind)]


def waited(process: subprocess.Popen[bytes], kind: str) -> tuple[list[str], str]:
    """Wait for a command and its children to end; return the problems and the output."""
    wrong = []
    try:
        _, output = process.communicate(timeout=PATIENCE_S * (4 if kind == "stop and go on" else 1))
    except subprocess.TimeoutExpired:
        wrong.append(f"{kind}: it did not end within {PATIENCE_S:.0f} s")
        os.killpg(process.pid, signal.SIGKILL)
        _, output = process.communicate()
    last = time.monotonic() + PATIENCE_S
    while (left := of_session(process.pid)) and time.monotonic() < last:
        time.sleep(0.1)
    if left:
        wrong.append(f"{kind}: left running: {[' '.join(each.cmdline()) for each in left]}")
        os.killpg(process.pid, signal.SIGKILL)
    return wrong, output.decode(errors="replace")


def hidden_in(out: Path, kind: str) -> list[str]:
    """Report temporary files that were left; after SIGKILL, just remove them."""
    hidden = [path for path in out.rglob(".*") if path.is_file() and path.name != ".lock"]
    if kind != "SIGKILL":
        return [f"{kind}: temporary files left: {[path.name for path in hidden]}"] if hidden else []
    for path in hidden:
        path.unlink()
    return []


def repeatedly(
    case: Case, folder: Path, mirror: str, duration_s: float, before: Counter[str], most: int
) -> dict[str, Any]:
    """Disturb a command repeatedly; return its figures.

    The next disturbance is always the rarest one so far, including those in `before`.
    """
    rng = random.Random(time.time_ns())
    undisturbed, out = folder / "undisturbed", folder / "disturbed"
    for each in (undisturbed, out):
        each.mkdir(parents=True)
    seconds = finish(case, undisturbed, mirror)
    expected = case.left(undisturbed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    last = time.monotonic() + duration_s
    while time.monotonic() < last and (before + counts).total() < most:
        kind = min(KINDS, key=lambda kind: ((before + counts)[kind], rng.random()))
        in_time, problems = one(case, out, mirror, kind, rng.uniform(0.1, 1.0) * seconds, rng)
        counts[kind] += in_time
        wrong += problems
        if not in_time or kind == "stop and go on":
            # It ran to its end: start over, so that there is something to disturb.
            if case.left(out) != expected:
                wrong.append(f"{kind}: the whole run left something else")
            shutil.rmtree(out)
            out.mkdir()
    finish(case, out, mirror)
    if case.left(out) != expected:
        wrong.append("at the end: the whole run left something else")
    shutil.rmtree(folder)
    return {"disturbed": dict(counts), "wrong": wrong, "seconds_undisturbed": round(seconds, 2)}


def added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the new figures, with the earlier counts and problems added."""
    counts = Counter(before.get("disturbed", {})) + Counter(now["disturbed"])
    wrong = [*before.get("wrong", []), *now["wrong"]]
    return {**now, "disturbed": dict(sorted(counts.items())), "wrong": wrong}


def main() -> None:
    """Disturb every command; print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each command")
    parser.add_argument("--chips", type=Path, required=True, help="folder of UTKFace")
    parser.add_argument("--mirror", type=Path, required=True, help="folder with model files")
    parser.add_argument("--most", type=int, default=10**6, help="times, for each command")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--only", nargs="*", help="these verbs")
    args = parser.parse_args()
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as name, served(args.mirror) as url:
        folder = Path(name)
        for case in cases(folder, args.chips, args.mirror, args.pictures):
            if args.only and case.name not in args.only:
                continue
            commands = stored.setdefault("commands", {})
            before = Counter(commands.get(case.name, {}).get("disturbed", {}))
            if before.total() >= args.most:
                continue
            found = repeatedly(case, folder / case.name, url, args.seconds, before, args.most)
            print(case.name, json.dumps(found), flush=True)
            commands[case.name] = added(commands.get(case.name, {}), found)
            stored["environment"] = plain(describe_environment())
            write_whole(RESULTS, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
