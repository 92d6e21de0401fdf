"""The memory of a training step, told before pictures are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
import torch

from agebench.errors import AgebenchError
from agebench.train.losses import LOSSES
from agebench.train.networks import build_network
from agebench.train.settings import TrainSettings, read_settings, settings_from
from agebench.trainer import footprint
from agebench.util import memory_limit

RECIPES = sorted((Path(__file__).parents[2] / "pretrained").glob("[cm]*.toml"))


def _settings(size_hw: Sequence[int], depth: int = 10, width: int = 4) -> TrainSettings:
    return _with_backbone(size_hw, {"depth": depth, "width": width})


def _with_backbone(size_hw: Sequence[int], backbone: dict[str, Any]) -> TrainSettings:
    view = {"region": "chip", "size_hw": list(size_hw), "backbone": backbone}
    return settings_from({"model": {"views": {"face": view}, "dense": 8}}, "made")


@pytest.mark.parametrize(
    "backbone", [{"depth": 10, "width": 4}, {"kind": "mobilenet", "width": 32}], ids=str
)
def test_it_is_what_a_real_forward_pass_keeps(backbone: dict[str, Any]) -> None:
    settings, rows = _with_backbone((64, 80), backbone), 6
    model = build_network(settings.model, LOSSES[settings.loss.name].head).eval()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model({"face": torch.rand(rows, 3, 64, 80)}, {"face": torch.ones(rows, 1)})
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    expected = 5 * weights + sum(kept.values()) + 4 * rows * 3 * 64 * 80
    assert footprint.step_bytes(settings, rows) == pytest.approx(expected, rel=0.02)
    assert expected < footprint._bytes_bound(settings, rows)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_step_of_every_recipe_can_be_counted(recipe: Path) -> None:
    settings = read_settings(recipe)
    assert footprint.step_bytes(settings, settings.batch) > 4 * settings.batch * 3 * 64 * 64


def test_wide_networks_of_small_pictures_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "_free_bytes", lambda _device: 16_000_000_000)
    with pytest.raises(AgebenchError, match=r"view face: 16x16\) takes about .* GB"):
        footprint.check_footprint(_settings((16, 16), 101, 1024), 2, torch.device("cpu"))


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "_left_in_groups", lambda _root: iter([123]))
    assert footprint._free_bytes(torch.device("cpu")) == 123


def test_absurd_sizes_are_refused_and_large_ones_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "_free_bytes", lambda _device: 16_000_000_000)
    here = torch.device("cpu")
    assert footprint.check_footprint(_settings((32, 32)), 8, here) == ""
    with pytest.raises(AgebenchError, match=r"view face: 2048x2048\) takes about .* GB .*16\.0 GB"):
        footprint.check_footprint(_settings((2048, 2048)), 512, here)
    told = footprint.check_footprint(_settings((2048, 2048)), 32, here)
    assert told.startswith("a step of 32 pictures (view face: 2048x2048) takes about ")
