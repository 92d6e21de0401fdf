"""Killed at random moments, again and again: nothing half-written is ever taken for whole.

    python benchmarks/kills.py --kills 100 --chips UTKFACE --mirror FOLDER_OF_WEIGHTS

For each of fetch, prepare, train, compare and predict: the command runs undisturbed once; then, in
a new folder, it is started and killed (SIGKILL, with all its children) at a random moment, so many
times, and started once more to its end.  After every kill what lies there is examined; at the end,
and wherever a run came to its end before its kill, it must be what the undisturbed run left.  Kills
that came before anything was written are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agebench.bench.environment import describe_environment
from agebench.files import write_whole
from agebench.manifest import load_manifest
from agebench.types import plain

RESULTS = Path(__file__).with_name("results") / "kills.json"
SETTINGS = """
rounds = 6
batch = 8
checkpoint_minutes = 0.0
[data]
dataset = "folders"
detector = "aligned"
protocol = "holdout"
[model]
dense = 8
[model.views.face]
region = "chip"
size_hw = [32, 32]
trunk = { depth = 10, width = 4 }
[augment]
rotation_deg = 4.0
"""
"""A checkpoint after every step, so that kills fall into the writing of them."""

Files = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        name: of the verb.
        arguments: from the folder that it writes to.
        check: says what is wrong with what a kill left; "" for nothing.
        left: what a whole run left, by name; compared with the undisturbed run's.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    check: Callable[[Path], str]
    left: Callable[[Path], Files]


class SlowMirror(SimpleHTTPRequestHandler):
    """Serves files in small pieces, so that a kill falls into a download."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Write with pauses."""
        with contextlib.suppress(OSError):  # who asked was killed
            while piece := source.read(1 << 17):
                outputfile.write(piece)
                time.sleep(0.002)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine inside; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SlowMirror, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path, *leave: str) -> Files:
    """Return the hash of every file below a folder but those named and unfinished downloads."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leave and path.suffix != ".part"
    }


def whole_json(*names: str) -> Callable[[Path], str]:
    """Return a check that files, where they are, are whole JSON."""

    def check(folder: Path) -> str:
        for name in names:
            path = folder / name
            try:
                if path.exists():
                    json.loads(path.read_text())
            except ValueError as error:
                return f"{name}: {error}"
        return ""

    return check


def fetched(folder: Path) -> str:
    """Say which file in the cache has its final name and other bytes."""
    for name, entry in load_manifest().items():
        path = folder / name
        if path.exists() and digest(path) != entry.sha256:
            return f"{name} is there with other bytes"
    return ""


def checkpoints(folder: Path) -> str:
    """Say which checkpoint can't be read."""
    from agebench.errors import AgebenchError
    from agebench.train.checkpoint import read_checkpoint

    for name in ("last.safetensors", "best.safetensors"):
        try:
            if (folder / name).exists():
                read_checkpoint(folder / name)
        except AgebenchError as error:
            return str(error)
    return whole_json("evaluation.json")(folder)


def predicted(folder: Path) -> Files:
    """Return the lines of predictions by picture."""
    lines = (folder / "ages.jsonl").read_text().splitlines()
    names = [json.loads(line)["picture"] for line in lines]
    if len(names) != len(set(names)):
        raise SystemExit("predict: a picture has two lines")
    return dict(zip(names, lines, strict=True))


def cases(pictures: Path, settings: Path, mirror: Path) -> list[Case]:
    """Return the five commands."""
    here = [name for name in load_manifest() if (mirror / name).is_file()]
    folders = ["--dataset", "folders", "--root", str(pictures)]
    return [
        Case("fetch", lambda _out: ["fetch", *here], fetched, lambda out: tree(out, "converted")),
        Case(
            "prepare",
            lambda out: [
                *("prepare", *folders, "--detector", "aligned", "--out", str(out)),
                *("--processes", "2"),
            ],
            whole_json("prepare.json"),
            tree,
        ),
        Case(
            "train",
            lambda out: ["train", str(settings), "--root", str(pictures), "--out", str(out)],
            checkpoints,
            lambda out: {
                name: weights_of(out / name) for name in ("last.safetensors", "best.safetensors")
            },
        ),
        Case(
            "compare",
            lambda out: [
                *("compare", "multicrop-resnet", "constant", *folders, "--detector", "aligned"),
                *("--latency-images", "4", "--out", str(out)),
            ],
            whole_json("result.json"),
            lambda out: {"predictions.csv": digest(out / "predictions.csv")},
        ),
        Case(
            "predict",
            lambda out: [
                *("predict", str(pictures), "--detector", "aligned", "--json"),
                *("--out", str(out / "ages.jsonl"), "--workers", "2"),
            ],
            lambda _out: "",
            predicted,
        ),
    ]


def weights_of(path: Path) -> str:
    """Return the hash of a checkpoint's tensors; its header has times in it."""
    from agebench.train.checkpoint import read_checkpoint

    saved = read_checkpoint(path)
    parts = [*sorted(saved.model.items()), *sorted(saved.averaged.items())]
    return hashlib.sha256(b"".join(v.numpy().tobytes() for _, v in parts)).hexdigest()


def start(case: Case, out: Path, mirror: str) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
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
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{case.name} failed: {said.decode()}")
    return time.perf_counter() - began


def kill_often(
    case: Case, folder: Path, kills: int, minutes: float, mirror: str, seed: int
) -> dict[str, Any]:
    """Return the figures of one command."""
    rng = random.Random(seed)
    undisturbed, out = folder / "undisturbed", folder / "killed"
    for each in (undisturbed, out):
        each.mkdir(parents=True)
    seconds = finish(case, undisturbed, mirror)
    expected = case.left(undisturbed)
    wrong: list[str] = []
    killed = before = 0
    ends: list[bool] = []
    last = time.monotonic() + minutes * 60
    while killed < kills and time.monotonic() < last:
        process = start(case, out, mirror)
        try:
            _, said = process.communicate(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            if process.returncode:
                wrong.append(f"exit code {process.returncode}: {said.decode(errors='replace')}")
            # It came to its end: begin again, so that the next kill has something to disturb.
            ends.append(case.left(out) == expected)
            shutil.rmtree(out)
            out.mkdir()
            continue
        killed += 1
        before += not any(out.iterdir())
        problem = case.check(out)
        if problem:
            wrong.append(problem)
    finish(case, out, mirror)
    ends.append(case.left(out) == expected)
    return {
        "kills": killed,
        "before_anything_was_written": before,
        "half_written_taken_for_whole": wrong,
        "runs_that_ended": len(ends),
        "of_them_same_as_undisturbed": sum(ends) if expected else 0,
        "seconds_undisturbed": round(seconds, 2),
    }


def main() -> None:
    """Kill all, print and write down the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most, for each command")
    parser.add_argument("--chips", type=Path, required=True, help="folder of UTKFace")
    parser.add_argument("--mirror", type=Path, required=True, help="folder with model files")
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--only", nargs="*", help="these; figures of the others are kept")
    given = parser.parse_args()
    figures: dict[str, Any] = {"environment": plain(describe_environment()), "commands": {}}
    if given.only and RESULTS.is_file():
        figures["commands"] = json.loads(RESULTS.read_text())["commands"]
    with tempfile.TemporaryDirectory() as name, served(given.mirror) as url:
        folder = Path(name)
        chips = sorted(given.chips.rglob("*.jpg"))[::97][: given.pictures]
        for chip in chips:
            target = folder / "pictures" / chip.name.partition("_")[0] / chip.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(chip, target)
        settings = folder / "settings.toml"
        settings.write_text(SETTINGS)
        for number, case in enumerate(cases(folder / "pictures", settings, given.mirror)):
            if given.only and case.name not in given.only:
                continue
            found = kill_often(case, folder / case.name, given.kills, given.minutes, url, number)
            figures["commands"][case.name] = found
            print(case.name, json.dumps(found), flush=True)
    write_whole(RESULTS, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
