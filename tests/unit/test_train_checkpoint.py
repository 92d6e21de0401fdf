"""Checkpoints: what is written comes back; what a stranger made can't run code or stop the show."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import AgebenchError, UsageError, WeightsError

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from safetensors.torch import save  # noqa: E402 - only where torch is there

from agebench.train.checkpoint import (  # noqa: E402
    FORMAT,
    Checkpoint,
    plain_settings,
    read_checkpoint,
    require_fit,
)
from agebench.train.loop import LAST_FILE  # noqa: E402
from agebench.train.settings import TrainSettings, read_settings  # noqa: E402
from agebench.train.stability import DivergedError  # noqa: E402
from agebench.trainer.run_folder import alone_in_run  # noqa: E402

SETTINGS = read_settings(None, ["bootstrap.groups=[20, 40]", "augment.filters.jpeg=0.5"])


def _checkpoint(**given: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "settings": SETTINGS,
        "state": {"step": 3, "losses": [0.1, 1 / 3]},
        "about": {"näme": "x"},
        "model": {"a.weight": torch.rand(2, 3), "count": torch.tensor(4)},
        "averaged": {"a.weight": torch.rand(2, 3)},
        "optimiser": {"exp_avg/a.weight": torch.rand(2, 3), "step/a.weight": torch.tensor(3.0)},
    }
    return Checkpoint(**values | given)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path, made = tmp_path / "c.safetensors", _checkpoint()
    made.write(path)
    back = read_checkpoint(path)
    assert (back.settings, back.state, back.about) == (made.settings, made.state, made.about)
    for group in ("model", "averaged", "optimiser"):
        ours, theirs = getattr(made, group), getattr(back, group)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name])
            assert value.dtype == theirs[name].dtype
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]


def test_the_same_checkpoint_has_the_same_bytes(tmp_path: Path) -> None:
    # The library draws the order of the header's texts anew for every file.
    made, written = _checkpoint(), set()
    for _ in range(12):
        made.write(tmp_path / "c.safetensors")
        written.add((tmp_path / "c.safetensors").read_bytes())
    assert len(written) == 1
    assert read_checkpoint(tmp_path / "c.safetensors").model


def test_weights_in_any_memory_layout_come_back(tmp_path: Path) -> None:
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    _checkpoint(model={"w": weight, "same": weight.mT}).write(tmp_path / "c.safetensors")
    back = read_checkpoint(tmp_path / "c.safetensors").model
    assert torch.equal(back["w"], weight)
    assert torch.equal(back["same"], weight.mT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("group", ["model", "averaged", "optimiser"])
def test_numbers_that_are_not_finite_are_never_written(
    tmp_path: Path, group: str, value: float
) -> None:
    path = tmp_path / "c.safetensors"
    _checkpoint().write(path)
    before = path.read_bytes()
    with pytest.raises(DivergedError, match="start a new run"):
        _checkpoint(**{group: {"a.weight": torch.tensor([1.0, value])}}).write(path)
    assert path.read_bytes() == before


def _refused(path: Path, error: type[AgebenchError] = WeightsError) -> str:
    with pytest.raises(error) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("keep", [0, 3, 8, 100, 2000, -100, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.safetensors"
    _checkpoint().write(path)
    path.write_bytes(path.read_bytes()[:keep])
    _refused(path)


class _Evil:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._trace),))


@pytest.mark.parametrize("with_torch", [False, True])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, with_torch: bool) -> None:
    path, trace = tmp_path / "c.safetensors", tmp_path / "trace"
    if with_torch:
        torch.save({"model": _Evil(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(_Evil(trace)))
    assert "pickle" in _refused(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Evil(trace)))  # noqa: S301 - it would have
    assert trace.exists()


def _written(path: Path, metadata: dict[str, str] | None, **tensors: Any) -> Path:
    path.write_bytes(save(tensors or {"model/a": torch.zeros(2)}, metadata))
    return path


def _head(**given: Any) -> dict[str, str]:
    head = {"settings": plain_settings(TrainSettings()), "state": {}, "about": {}} | given
    return {"format": FORMAT, "agebench": json.dumps(head)}


def test_files_of_other_makers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert "of another library; to measure another network, export" in _refused(
        _written(path, None)
    )
    assert "format is 'pt'" in _refused(_written(path, {"format": "pt"}))
    assert "agebench-train 3" in _refused(_written(path, {"format": "agebench-train 3"}))
    read_checkpoint(_written(path, _head()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "null",
        "[]",
        "{}",
        '{"settings": {}, "state": {}}',
        '{"settings": [], "state": {}, "about": {}}',
        "[" * 100_000,
    ],
)
def test_headers_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    _refused(_written(tmp_path / "c.safetensors", {"format": FORMAT, "agebench": text}))


@pytest.mark.parametrize(
    "header",
    [
        b"[1]",
        b'{"__metadata__": 5}',
        b'{"__metadata__": {"format": "agebench-train 1", "agebench": 5}}',
        b'{"__metadata__": {"format": "agebench-train 1"}}',
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    _refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + header)
    _refused(path)


def test_settings_of_another_version_are_named(tmp_path: Path) -> None:
    values = plain_settings(TrainSettings())
    values["optim"]["sharpness"] = 3
    path = _written(tmp_path / "c.safetensors", _head(settings=values))
    assert "optim.sharpness" in _refused(path, UsageError)
    values = plain_settings(TrainSettings())
    values["model"]["dense"] = -1
    assert "dense" in _refused(_written(path, _head(settings=values)), UsageError)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_tensors_that_are_not_finite_or_not_known_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "c.safetensors"
    bad = {"model/a": torch.tensor([0.0, value])}
    assert "'model/a'" in _refused(_written(path, _head(), **bad))
    assert "'other/a'" in _refused(_written(path, _head(), **{"other/a": torch.zeros(1)}))


def test_a_truncated_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    path = _written(tmp_path / "c.safetensors", _head(), **{"model/a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-10])
    assert f"its {path.stat().st_size:,} bytes are not what its header says" in _refused(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "none.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    _refused(folder)


def test_tensors_of_another_network_are_named() -> None:
    own = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    require_fit(own, {"b": torch.ones(1), "a": torch.ones(2, 3)})
    for saved, named in (
        ({"a": torch.zeros(2, 3)}, "'b' has shape none"),
        ({**own, "c": torch.zeros(1)}, "'c'"),
        ({**own, "a": torch.zeros(3, 2)}, r"'a' has shape \(3, 2\), expected \(2, 3\)"),
    ):
        with pytest.raises(WeightsError, match=named):
            require_fit(own, saved)


@pytest.mark.parametrize(
    "given",
    [
        {"about": {"dataset": None}},
        {"about": {"split": [1]}},
        {"state": {"history": True}},
        {"state": {"history": "x"}},
    ],
)
def test_facts_of_another_kind_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    path = tmp_path / "c.safetensors"
    _checkpoint(**given).write(path)
    with pytest.raises(WeightsError, match="facts about the run"):
        read_checkpoint(path)


def test_what_a_kill_left_of_a_checkpoint_is_removed_by_the_next_run(tmp_path: Path) -> None:
    _checkpoint().write(tmp_path / LAST_FILE)
    half, other = tmp_path / f".{LAST_FILE}.x7_k2", tmp_path / ".others.safetensors.x7_k2"
    for path in (half, other):
        path.write_bytes(b"half")
    with (
        alone_in_run(tmp_path),
        pytest.raises(AgebenchError, match="at work"),
        alone_in_run(tmp_path),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, LAST_FILE]
