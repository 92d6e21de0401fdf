"""The script that adjusts and calibrates the last layer, on cases counted by hand."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

import torch

from agebench.train.checkpoint import Checkpoint
from agebench.train.settings import TrainSettings
from tests.unit.scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks.calibrate")


def test_a_rare_age_gains_by_its_frequency_to_the_power_tau(script: ModuleType) -> None:
    # Smoothed over 4 years, ages 30 years apart hardly touch: 80 is there four times as often.
    ages = np.array([50.0] + [80.0] * 4)
    added = script.adjustment(ages, 0.5)
    assert float(added[50] - added[80]) == pytest.approx(0.5 * np.log(4), abs=1e-6)
    # No age counts as less than one of 10,000.
    assert float(added[10]) == pytest.approx(-0.5 * np.log(1e-4))
    assert not script.adjustment(ages, 0.0).any()


def test_old_ages_gain_from_60_to_75_alone(script: ModuleType) -> None:
    added = script.raised(0.1).numpy()
    assert added.shape == (117,)
    assert not added[:61].any()
    assert added[61:76] == pytest.approx(0.1 * np.arange(1, 16))
    assert added[76:] == pytest.approx(1.5)
    assert not script.raised(0.0).any()


def test_only_the_last_layer_changes_and_its_outputs_are_adjusted_then_divided(
    script: ModuleType,
) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "head.weight": torch.randn(117, 8, generator=generator),
        "head.bias": torch.randn(117, generator=generator),
        "joint.bias": torch.randn(8, generator=generator),
    }
    saved = Checkpoint(
        TrainSettings(), {}, {"made": "by hand"}, weights, weights, {"step": torch.ones(1)}
    )
    added = script.raised(0.1)
    new = script.changed(saved, added, 1.25, tau=0.0, slope=0.1)
    features = torch.randn(5, 8, generator=generator)

    def outputs(checkpoint: Checkpoint) -> np.ndarray:
        averaged = checkpoint.averaged
        found = features @ averaged["head.weight"].T + averaged["head.bias"]
        return np.asarray(found.numpy(), np.float64)

    expected = (outputs(saved) + added.numpy()) / 1.25
    assert outputs(new) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(new.averaged["joint.bias"], weights["joint.bias"])
    assert new.about == {"made": "by hand", "temperature": 1.25, "rare": 0.0, "older": 0.1}
    assert not new.optimiser
