"""Run two hundred hostile models through every verb that takes a model.

    python -m benchmarks.hostile_models --seconds 600

Each model goes through all verbs (`--each N`: through N of them, which differ from model to model),
each in its own process.  None may crash, print a traceback or control characters, or exceed the
limits of time and memory set here.  Results are kept in results/hostile_models.json, so the script
can be run in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from PIL import Image as PillowImage

from agebench.benchmark import speed
from agebench.cli.main import main
from agebench.errors import inert
from agebench.fitting import class_years
from agebench.harness import compare
from agebench.harness.environment import describe_environment
from agebench.util.files import write_whole
from benchmarks.hostile_files import Hostile, hostile_models

RESULTS = Path(__file__).with_name("results") / "hostile_models.json"
SECONDS, MEMORY_GB = 20.0, 2.5
SLACK_S = 100.0
"""Additional time for the command's own work, on a busy machine."""

os.environ["AGEBENCH_MODEL_SECONDS"] = os.environ["AGEBENCH_CALL_SECONDS"] = f"{SECONDS:g}"
os.environ["AGEBENCH_MODEL_MEMORY_GB"] = f"{MEMORY_GB:g}"

WARM = (compare, class_years, speed)
"""Imported once here instead of by every command."""

ESTIMATORS = {
    "predict": "predict pictures --detector aligned --estimator {model}",
    "compare": "compare {model} constant --dataset folders --root pictures --detector aligned "
    "--latency-pictures 2 --out out",
    "bench": "bench {model} --batch 1 --out out",
    "fit-years": "fit-years {model} --dataset folders --root pictures --detector aligned "
    "--protocol holdout -o years.json",
    "export-onnx": "export-onnx {model} -o net.onnx",
    "check-spec": "check-spec {model} pictures/20/0.png",
}
DETECTORS = {
    "predict --detector": "predict pictures --estimator constant --detector {model}",
    "compare --detector": "compare constant --dataset folders --root pictures --detector {model} "
    "--latency-pictures 2 --out out",
    "prepare --detector": "prepare --dataset folders --root pictures --detector {model} -o out",
    "export-onnx --detector": "export-onnx --export-detector {model} -o net.onnx",
    "fit-frame": "fit-frame {model} --dataset folders --root pictures",
}


def calls(model: Hostile, number: int, each: int) -> dict[str, str]:
    """Return a model's commands, by verb."""
    found = {verb: text.format(model=model.reference) for verb, text in ESTIMATORS.items()}
    if model.detector:
        found |= {verb: text.format(model=model.detector) for verb, text in DETECTORS.items()}
    if model.kind == "caffe":
        found["convert-caffe"] = "convert-caffe m.caffemodel -o net.safetensors"
    verbs = list(found)
    chosen = [verbs[(number + step * 5) % len(verbs)] for step in range(min(each, len(verbs)))]
    return {verb: found[verb] for verb in chosen}


def memory_of(pid: int) -> int:
    """Return the resident memory of a command's largest process, bytes."""
    try:
        there = psutil.Process(pid)
        return max(each.memory_info().rss for each in [there, *there.children(recursive=True)])
    except psutil.Error:
        return 0


def start(folder: Path, arguments: str) -> int:
    """Run a command in a fork of this process, after its slow imports; return the process ID."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        output = os.open("said", os.O_WRONLY | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        main(arguments.split())
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 98
    finally:
        os._exit(code)


def run(folder: Path, arguments: str) -> dict[str, Any]:
    """Run one command; return its exit code, time, memory, problems and last message."""
    began, peak, code, late = time.monotonic(), 0, None, False
    pid = start(folder, arguments)
    while code is None:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        peak = max(peak, memory_of(pid))
        late = time.monotonic() - began > SECONDS + SLACK_S
        if late:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.1)
    text = (folder / "said").read_text(errors="replace")
    wrong = [
        *(["more time than the limit"] if late else []),
        *([f"ended with {code}"] if code not in (0, 1, 2) and not late else []),
        *(["a traceback"] if "Traceback" in text else []),
        *(["control characters"] if inert(text, lines=True) != text else []),
        *([f"{peak / 1e9:.1f} GB"] if peak > 1.2 * MEMORY_GB * 1e9 else []),
    ]
    lines = [line for line in text.splitlines() if line.startswith("agebench:")]
    return {
        "code": code,
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": round(peak / 1e6),
        "wrong": wrong,
        "said": (lines or [""])[-1][:300],
    }


def table(runs: dict[str, Any]) -> list[str]:
    """Return a summary line for each kind of model."""
    rows = []
    for kind in ("onnx", "caffe", "darknet", "toml"):
        mine = {key: found for key, found in runs.items() if key.startswith(f"{kind}: ")}
        codes = Counter(found["code"] for found in mine.values())
        wrong = sum(bool(found.get("wrong")) for found in mine.values())
        models = len({key.partition(" | ")[0] for key in mine})
        rows.append(
            f"{kind}: {models} models, {len(mine)} runs, codes {dict(codes)}, {wrong} wrong"
        )
    return rows


def run_all() -> None:
    """Run everything that has not been run yet, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--each", type=int, default=99, help="verbs for each model")
    parser.add_argument("--again", action="store_true", help="what went wrong, once more")
    args = parser.parse_args()
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": {}}
    if args.again:
        stored["runs"] = {
            key: item for key, item in stored["runs"].items() if not item.get("wrong")
        }
    last = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory() as made:
        models = hostile_models(Path(made))
    stored["models"], stored["environment"] = len(models), describe_environment()
    stored["limits"] = {"seconds": SECONDS, "memory_gb": MEMORY_GB}
    for number, model in enumerate(models):
        for verb, arguments in calls(model, number, args.each).items():
            key = f"{model.kind}: {model.name} | {verb}"
            if key in stored["runs"] or time.monotonic() > last:
                continue
            stored["runs"][key] = found = in_a_folder(model, arguments)
            write_whole(RESULTS, json.dumps(stored, separators=(",", ":")) + "\n")
            if found["wrong"]:
                print(key, json.dumps(found), flush=True)
    print("\n".join(table(stored["runs"])))


def in_a_folder(model: Hostile, arguments: str) -> dict[str, Any]:
    """Run a command in a folder with the model's files and a dozen pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for age in (20, 30, 40):
            (folder / "pictures" / str(age)).mkdir(parents=True)
            for place in range(4):
                picture = PillowImage.effect_noise((32, 32), 40 + age + place)
                picture.save(folder / "pictures" / str(age) / f"{place}.png")
        for file, data in model.files.items():
            (folder / file).write_bytes(data)
        return run(folder, arguments)


if __name__ == "__main__":
    run_all()
