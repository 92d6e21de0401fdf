"""The time of a training run, told before its first step."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
import torch

from agebench.train.losses import LOSSES
from agebench.train.networks import build_network
from agebench.train.settings import TrainSettings, read_settings, settings_from
from agebench.trainer import footprint as module
from agebench.trainer.footprint import duration, product_speed, step_operations

HERE = torch.device("cpu")
RECIPES = sorted((Path(__file__).parents[2] / "pretrained").glob("[cm]*.toml"))


def _settings(side: int, depth: int = 10, width: int = 4) -> TrainSettings:
    backbone = {"depth": depth, "width": width}
    view = {"region": "chip", "size_hw": [side, side], "backbone": backbone}
    return settings_from({"model": {"views": {"face": view}, "dense": 8}}, "made")


def test_operations_are_those_of_the_layers() -> None:
    settings, rows = _settings(32), 5
    model = build_network(settings.model, LOSSES[settings.loss.name].head).eval()
    counted = 0

    def count(layer: torch.nn.Module, _given: object, made: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
        # Every number of the output is a sum over one output channel's weights.
        counted += 2 * made.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    model({"face": torch.rand(rows, 3, 32, 32)}, {"face": torch.ones(rows, 1)})
    assert step_operations(settings, rows) == pytest.approx(3 * counted, rel=0.01)


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101])
def test_the_cheap_bound_is_one(depth: int) -> None:
    settings = _settings(96, depth, 128)
    assert step_operations(settings, 4) < module._operations_bound(settings, 4)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_bound_holds_for_every_recipe(recipe: Path) -> None:
    settings = read_settings(recipe)
    assert (
        0
        < step_operations(settings, settings.batch)
        < module._operations_bound(settings, settings.batch)
    )


def test_long_runs_are_told_and_short_ones_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "product_speed", lambda _device, _precision: 1e11)
    assert duration(_settings(32), 8, 100, HERE) == ""
    told = duration(_settings(2048, 18, 64), 64, 1000, HERE)
    operations = step_operations(_settings(2048, 18, 64), 64) * 1000
    assert told.startswith(
        f"1,000 steps of 64 pictures take about {operations:.1e} operations: "
        f"{operations / 1e11 / 86400:,.0f} days at the speed"
    )


def test_the_speed_is_that_of_a_product() -> None:
    assert 1e7 < product_speed(HERE, "float32") < 1e16
