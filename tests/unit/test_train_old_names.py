"""Settings, checkpoints and run folders with the names of earlier versions are still read."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agebench.cli import main
from agebench.errors import UsageError
from agebench.modelfiles.manifest import bundled_dir
from agebench.train.settings import RENAMED_KEYS, read_settings, renamed_values, settings_from

OLD_TOML = """
rounds = 7
[stability]
rounds = 4
min_rounds = 5
[data]
train_share = 0.5
workers = 0
[data.extra.more]
dataset = "csv"
share = 0.25
[optim]
small_share = 0.5
[model.views.face]
region = "chip"
trunk = { depth = 10, width = 8 }
"""

NEW_TOML = """
epochs = 7
[stability]
epochs = 4
min_epochs = 5
[data]
train_fraction = 0.5
decode_threads = 0
[data.extra.more]
dataset = "csv"
fraction = 0.25
[optim]
small_fraction = 0.5
[model.views.face]
region = "chip"
backbone = { depth = 10, width = 8 }
"""

OVERRIDES = {
    "rounds=9": "epochs=9",
    "stability.min_rounds=2": "stability.min_epochs=2",
    "stability={rounds=2}": "stability={epochs=2}",
    "model.views.face.trunk.width=16": "model.views.face.backbone.width=16",
    "model.views={face={region='chip', trunk={depth=14}}}": (
        "model.views={face={region='chip', backbone={depth=14}}}"
    ),
    "data.extra.more.share=0.1": "data.extra.more.fraction=0.1",
    "data.workers=3": "data.decode_threads=3",
}


def _written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_old_keys_of_a_file_mean_the_same_and_are_told_of(tmp_path: Path) -> None:
    new = read_settings(_written(tmp_path, NEW_TOML), notify=pytest.fail)
    notes: list[str] = []
    assert read_settings(_written(tmp_path, OLD_TOML), notify=notes.append) == new
    assert settings_from(tomllib.loads(OLD_TOML), "a checkpoint") == new
    old_keys, new_keys = (re.findall(r"^(\w+) =", text, re.M) for text in (OLD_TOML, NEW_TOML))
    renamed = [(old, new) for old, new in zip(old_keys, new_keys, strict=True) if old != new]
    assert len(notes) == len(renamed) == len(RENAMED_KEYS)
    for note, (old, new) in zip(notes, renamed, strict=True):
        assert f"{old} is now called" in note
        assert note.endswith(new)


@pytest.mark.parametrize(("old", "new"), OVERRIDES.items())
def test_old_keys_of_overrides_go_before_the_files_new_ones(
    tmp_path: Path, old: str, new: str
) -> None:
    path, notes = _written(tmp_path, NEW_TOML), list[str]()
    assert read_settings(path, [old], notify=notes.append) == read_settings(path, [new])
    assert len(notes) == 1
    assert read_settings(path, [new, old]) == read_settings(path, [old])
    assert read_settings(path, [old, new]) == read_settings(path, [new])


def test_a_setting_under_both_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stability\.min_rounds.*stability\.min_epochs"):
        read_settings(_written(tmp_path, "[stability]\nmin_rounds = 1\nmin_epochs = 2\n"))


def test_only_the_renamed_path_is_renamed() -> None:
    values = {"data": {"rounds": 1}, "optim": {"epochs": 2}}
    assert renamed_values(values) == (values, [])


def test_recipes_are_written_with_the_present_names() -> None:
    recipes = [*bundled_dir().glob("multicrop-resnet*.toml")]
    recipes += bundled_dir().glob("caffe-age-net-utkface*.toml")
    assert len(recipes) == 14
    for recipe in recipes:
        values = tomllib.loads(recipe.read_text(encoding="utf-8"))
        assert renamed_values(values)[1] == []


def _as_before(checkpoint: Path) -> None:
    """Give what a checkpoint holds the names that earlier versions wrote."""
    data = checkpoint.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    head = json.loads(header["__metadata__"]["agebench"])
    _old_settings(head["settings"])
    for record in head["state"]["history"]:
        record["round"] = record.pop("epoch")
    if started := head["about"].get("started_from"):
        started["rounds"] = started.pop("epochs")
    header = {name.replace("backbones.", "trunks.", 1): value for name, value in header.items()}
    assert any(name.startswith("optimiser/exp_avg/trunks.face.") for name in header)
    header["__metadata__"]["format"] = "agebench-train 1"
    header["__metadata__"]["agebench"] = json.dumps(head)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    checkpoint.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def _old_settings(values: Any) -> None:
    for path, new in RENAMED_KEYS.items():
        tables = [values]
        for name in path[:-1]:
            tables = [
                inner
                for table in tables
                for inner in (table.values() if name == "*" else [table[name]])
            ]
        for table in tables:
            table[path[-1]] = table.pop(new)


@pytest.fixture
def train(age_list: Path, capfd: pytest.CaptureFixture[str], undrawn: None) -> Callable[..., str]:
    """Call `agebench train` in this process; return what it printed."""
    pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

    def call(out: Path, *overrides: str) -> str:
        given = [text for override in overrides for text in ("--set", override)]
        with pytest.raises(SystemExit) as ended:
            main(["train", str(age_list / "settings.toml"), "--out", str(out), *given])
        assert ended.value.code in (0, None)
        captured = capfd.readouterr()
        return str(captured.out + captured.err)

    return call


def test_a_run_of_an_earlier_version_goes_on(train: Callable[..., str], tmp_path: Path) -> None:
    from agebench.train.checkpoint import read_checkpoint
    from agebench.trainer.curves import read_curves

    first, then = ("optim.schedule=constant", "epochs=1"), ("optim.schedule=constant", "epochs=2")
    train(tmp_path / "start", *first)
    start = f"start={tmp_path / 'start' / 'best.safetensors'}"
    new, old = tmp_path / "new", tmp_path / "old"
    train(new, *first, start)
    shutil.copytree(new, old)
    for name in ("best.safetensors", "last.safetensors"):
        _as_before(old / name)
    (old / "epochs.csv").rename(old / "rounds.csv")
    for name in ("steps.csv", "rounds.csv"):
        text = (old / name).read_text()
        assert text.partition("\n")[0].split(",").count("epoch") == 1
        (old / name).write_text(text.replace("epoch", "round", 1))
    drawn = [read_curves(new / "steps.csv", new / "epochs.csv")]
    drawn.append(read_curves(old / "steps.csv", old / "rounds.csv"))
    assert drawn[0].losses.tolist() == drawn[1].losses.tolist()
    assert drawn[0].maes.tolist() == drawn[1].maes.tolist()

    assert "after 1 epoch\n" in train(new, *then)
    assert "after 1 epoch\n" in train(old, *then)
    assert {path.name for path in old.iterdir()} == {path.name for path in new.iterdir()}
    assert (old / "steps.csv").read_bytes() == (new / "steps.csv").read_bytes()
    ours, theirs = (read_checkpoint(folder / "last.safetensors") for folder in (new, old))
    assert ours.settings == theirs.settings
    assert ours.about == theirs.about
    assert ours.about["started_from"]["epochs"] == 1
    for group in ("model", "averaged", "optimiser"):
        mine, others = getattr(ours, group), getattr(theirs, group)
        assert mine.keys() == others.keys()
        assert all(bool((mine[name] == others[name]).all()) for name in mine)


def test_the_command_line_says_what_a_setting_is_called_now(
    train: Callable[..., str], tmp_path: Path
) -> None:
    told = train(tmp_path / "run", "rounds=1")
    assert "agebench: --set rounds is now called epochs" in told
