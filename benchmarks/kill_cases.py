"""The commands that `kills.py` disturbs: their arguments, and the files they must leave."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from agebench.modelfiles.manifest import load_manifest
from agebench.suite.spent import SPENT_FILE
from benchmarks.hostile_files import SPEC
from benchmarks.hostile_onnx import WHOLE

SETTINGS = """
epochs = 2
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
backbone = { depth = 10, width = 4 }
[augment]
rotation_deg = 4.0
"""
"""Write a checkpoint after every step, so that kills hit the writing of checkpoints."""

SUITE = """
title = "Made up"
[settings]
decode_threads = 0
threads = 1
[[contenders]]
model = "constant years=30"
[[contenders]]
model = "constant years=40"
[[sets]]
key = "first"
dataset = "folders"
root = "pictures"
detector = "aligned"
[[sets]]
key = "few"
dataset = "folders"
root = "pictures"
sample = 12
detector = "aligned"
"""

Files = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A command to be disturbed.

    Attributes:
        name: the verb.
        arguments: returns the command's arguments, given its output folder.
        left: returns what a complete run left in that folder, by name; compared with what the
            undisturbed run left.
        code: exit code of an undisturbed run.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    left: Callable[[Path], Files]
    code: int = 0


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def named(*names: str) -> Callable[[Path], Files]:
    """Return a function that returns the hashes of these files in a folder."""
    return lambda folder: {name: digest(folder / name) for name in names}


def tree(folder: Path) -> Files:
    """Return the hash of every file below a folder, except `*.part` and `converted`."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "converted" and path.suffix != ".part"
    }


def names_below(folder: Path) -> Files:
    """Return the names of all files, without hashes: they contain times, which differ by run."""
    return dict.fromkeys(tree(folder), "")


def of_a_board(folder: Path) -> Files:
    """Return the names of a suite's files, except the cells' times: interrupted runs lose those."""
    return {
        name: text for name, text in names_below(folder).items() if Path(name).name != SPENT_FILE
    }


def weights_of(folder: Path) -> Files:
    """Return the hashes of a run's tensors; the checkpoints' headers also contain times."""
    from agebench.train.checkpoint import read_checkpoint

    found = {}
    for name in ("last.safetensors", "best.safetensors"):
        saved = read_checkpoint(folder / name)
        parts = [*sorted(saved.model.items()), *sorted(saved.averaged.items())]
        found[name] = hashlib.sha256(b"".join(v.numpy().tobytes() for _, v in parts)).hexdigest()
    return found


def predicted(folder: Path) -> Files:
    """Return the lines with predictions, by picture."""
    lines = (folder / "ages.jsonl").read_text().splitlines()
    names = [json.loads(line)["picture"] for line in lines]
    if len(names) != len(set(names)):
        raise SystemExit("predict: a picture has two lines")
    return dict(zip(names, lines, strict=True))


def broken(folder: Path) -> list[str]:
    """List the files below a folder that have their final name but are damaged or incomplete."""
    return [
        f"{path.relative_to(folder)}: {problem}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and (problem := _problem(path))
    ]


def _problem(path: Path) -> str:
    try:
        if path.name in load_manifest():
            return "" if digest(path) == load_manifest()[path.name].sha256 else "other bytes"
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".jpg"):
            with PillowImage.open(path) as picture:
                picture.load()
        elif path.suffix == ".html":
            return "" if path.read_text().rstrip().endswith("</html>") else "no end"
        elif path.suffix in (".safetensors", ".onnx"):
            _read_model(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _read_model(path: Path) -> None:
    import onnx
    from safetensors.numpy import load_file

    from agebench.train.checkpoint import read_checkpoint

    if path.suffix == ".onnx":
        onnx.checker.check_model(str(path))
    elif path.stem in ("last", "best"):
        read_checkpoint(path)
    else:
        load_file(path)


def cases(folder: Path, chips: Path, mirror: Path, count: int) -> list[Case]:
    """Create the commands' input files in `folder`; return the commands."""
    pictures, settings = folder / "pictures", folder / "settings.toml"
    for chip in sorted(chips.rglob("*.jpg"))[::97][:count]:
        target = pictures / chip.name.partition("_")[0] / chip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(chip, target)
    settings.write_text(SETTINGS)
    suite = folder / "suite.toml"
    suite.write_text(SUITE)
    (folder / "spec.toml").write_text(SPEC.format(model="m.onnx", config="", runtime="cv2dnn"))
    (folder / "m.onnx").write_bytes(WHOLE)
    data = ["--dataset", "folders", "--root", str(pictures)]
    faces = [*data, "--detector", "aligned"]
    result = folder / "result"
    command = [sys.executable, "-m", "agebench", "compare", "constant", "constant years=50", *faces]
    command += ["--latency-pictures", "4", "--out", str(result)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    fetched = [name for name in load_manifest() if (mirror / name).is_file()]
    caffe = mirror / "age_net.caffemodel"
    return [
        Case("fetch", lambda _out: ["fetch", *fetched], tree),
        Case(
            "prepare",
            lambda out: ["prepare", *faces, "--out", str(out), "--processes", "2"],
            tree,
        ),
        Case(
            "train",
            lambda out: ["train", str(settings), "--root", str(pictures), "--out", str(out)],
            weights_of,
        ),
        Case(
            "compare",
            lambda out: [
                *("compare", "multicrop-resnet-small", "constant", *faces),
                *("--latency-pictures", "4", "--batch-size", "4", "--out", str(out)),
            ],
            named("predictions.csv"),
        ),
        Case(
            "predict",
            lambda out: [
                *("predict", str(pictures), "--detector", "aligned", "--json"),
                *("--out", str(out / "ages.jsonl"), "--processes", "2"),
            ],
            predicted,
        ),
        Case(
            "split",
            lambda out: ["split", *data, "--protocol", "holdout", "-o", str(out / "split.json")],
            named("split.json"),
        ),
        Case(
            "doctor",
            lambda out: ["doctor", "--dataset", "folders", str(pictures), "-o", str(out)],
            names_below,
        ),
        Case(
            "report",
            lambda out: ["report", str(result), "-o", str(out), "--format", "html,md,tex,csv"],
            tree,
        ),
        Case(
            "fit-years",
            lambda out: [
                *("fit-years", f"caffe-age-net:{caffe}", *faces, "--protocol", "holdout"),
                *("-o", str(out / "years.json")),
            ],
            named("years.json"),
        ),
        Case(
            "export-onnx",
            lambda out: ["export-onnx", f"caffe-age-net:{caffe}", "-o", str(out / "net.onnx")],
            named("net.onnx"),
        ),
        Case(
            "convert-caffe",
            lambda out: ["convert-caffe", str(caffe), "-o", str(out / "net.safetensors")],
            named("net.safetensors"),
        ),
        Case(
            "augment-preview",
            lambda out: ["augment-preview", "-o", str(out / "sheet.png")],
            named("sheet.png"),
        ),
        Case(
            "bench",
            lambda out: [
                *("bench", "constant", "--batch", "1,4", "--seconds", "0.2"),
                *("--cold-start", "1", "-o", str(out)),
            ],
            names_below,
        ),
        Case(
            "suite",
            lambda out: ["suite", str(suite), "--data", str(folder), "--out", str(out)],
            of_a_board,
        ),
        Case(
            "card",
            lambda out: [
                *("card", str(result / "result.json"), "constant", "-o", str(out / "card.md")),
            ],
            named("card.md"),
        ),
        Case(
            "check-spec",
            lambda out: [
                *("check-spec", str(folder / "spec.toml"), "--crops", str(out / "crops.png")),
                *("--card", str(out / "card.png"), "--detector", "aligned"),
            ],
            named("crops.png", "card.png"),
            code=1,  # its ages are nonsense
        ),
    ]
