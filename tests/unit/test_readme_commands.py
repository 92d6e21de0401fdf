"""Every command that README.md shows is typed, on small stand-ins for its files.

As it stands, but that latency is measured for a shorter time and of fewer faces, and that two
processes do not begin where one will do.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from agebench.cli.main import main
from agebench.export.random_age_net import random_age_net
from agebench.modelfiles.manifest import load_manifest
from agebench.registry.plugins import load_dataset
from agebench.types import Image
from tests.unit.test_spec_file import save_network

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

SHORTER = {
    "bench": "--batch 1 --repeats 1 --cold-start 1",
    "compare": "--latency-pictures 1",
    "prepare": "--processes 1",
}

SETTINGS = """
epochs = 1
batch = 8
[data]
dataset = "folders"
protocol = "holdout"
[model]
dense = 8
[model.views.face]
region = "chip"
size_hw = [32, 32]
backbone = { depth = 10, width = 4 }
"""


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Each block of commands under its heading; how to install is CI's to run."""
    for section in re.split(r"^## ", README, flags=re.MULTILINE):
        for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            commands = [shlex.split(line, comments=True) for line in lines]
            typed = [shlex.join(words[1:]) for words in commands if words[:1] == ["agebench"]]
            if typed and "pip install" not in block:
                yield section.partition("\n")[0], typed


BLOCKS = [pytest.param(typed, id=f"{title}: {typed[0][:30]}") for title, typed in _commands()]


def _video(path: Path, frame: Image) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (256, 256))
    for _ in range(4):
        writer.write(cv2.resize(frame, (256, 256)))
    writer.release()


def _composites(folder: Path) -> None:
    """Composites with their ages: as a list, as folders of ages, and named as UTKFace has it."""
    samples = load_dataset("sample").samples[::12]
    rows = []
    for index, sample in enumerate(samples):
        assert sample.age_years is not None
        age = round(sample.age_years)
        one = folder / "FOLDER" / str(age) / f"{index}.jpg"
        one.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, one)
        rows.append({"path": str(one.relative_to(folder)), "age": age})
    with (folder / "my.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "age"])
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(folder / "my.csv", folder / "answers.csv")
    shutil.copytree(folder / "FOLDER", folder / "UTKFACE")
    for name in ("OTHER/30", "PHOTOS"):
        (folder / name).mkdir(parents=True)
        shutil.copy(samples[0].path, folder / name / "copy.jpg")


@pytest.fixture(scope="module")
def stand_ins(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands name."""
    folder = tmp_path_factory.mktemp("readme")
    _composites(folder)
    (portrait,) = load_dataset("demo").samples
    pixels = cv2.imread(str(portrait.path))
    assert pixels is not None
    cv2.imwrite(str(folder / "portrait.jpg"), pixels)
    _video(folder / "party.mp4", np.asarray(pixels, np.uint8))
    for file in sorted((shared_dir / "data" / "fgnet").rglob("001*"), key=lambda file: file.name):
        if int(file.name[4:6]) > 10:  # four pictures will do
            continue
        target = folder / "FGNET" / file.relative_to(shared_dir / "data" / "fgnet")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    random_age_net(folder / "my.caffemodel", seed=0)
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    _spec(folder)
    return folder


def _spec(folder: Path) -> None:
    """What docs/spec-file.md shows, with a network whose numbers are as it says."""
    page = (ROOT / "docs" / "spec-file.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    shown = tomllib.loads(text)
    save_network(
        folder / shown["files"]["model"],
        np.random.default_rng(1).normal(size=(len(shown["bins"]["ranges"]), 3)).tolist(),
        softmax=True,
        size_hw=tuple(shown["crop"]["size"]),
        names=(shown["input"]["name"], shown["output"]["name"]),
    )
    (folder / "my_model.toml").write_text(text, encoding="utf-8")


def _earlier_results(folder: Path) -> None:
    """What earlier commands of the same user left."""
    made = "compare constant --dataset csv --root my.csv --out results"
    assert _type(f"{made} {SHORTER['compare']}") == 0
    for name in ("before", "after", "stored"):
        shutil.copytree(folder / "results", folder / name)


def _type(command: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command))
    return int(str(end.value.code))


@pytest.mark.slow
@pytest.mark.usefixtures("short_probe", "short_warm_up", "undrawn")
@pytest.mark.parametrize("commands", BLOCKS)
def test_the_commands_run(
    commands: list[str],
    stand_ins: Path,
    tmp_path: Path,
    shared_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(stand_ins, folder)
    # As on a user's machine, a face that one command found is known to the next.
    monkeypatch.setenv("AGEBENCH_DETECTIONS", str(stand_ins.parent / "readme_faces.sqlite"))
    # Nor is anything downloaded: test_wheels.py has that.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.chdir(folder)
    if any("report" in command or "stored" in command for command in commands):
        _earlier_results(folder)
    for command in commands:
        code = _type(f"{command} {SHORTER.get(command.split()[0], '')}")
        said = capsys.readouterr()
        if command == "fetch":
            # The mirror of the tests has not all of them.
            missing = [name for name in load_manifest() if not (shared_weights / name).exists()]
            assert code == (1 if missing else 0), said.err
        elif "--fail-if" in command:
            assert code in (0, 1), said.err
            assert "Traceback" not in said.err
        else:
            assert code == 0, f"agebench {command}\n{said.err}"


def test_there_are_commands_and_what_they_write_is_there() -> None:
    typed = [command for _, commands in _commands() for command in commands]
    assert {command.split()[0] for command in typed} >= {
        *("predict", "ls", "fetch", "compare", "doctor", "split", "prepare", "fit-years"),
        *("report", "bench", "train", "export-onnx"),
    }
