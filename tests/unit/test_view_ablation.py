"""benchmarks/view_ablation.py: figures from ages, and the streams that rows start from."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.scripts import load_script

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks.view_ablation")


AGES = np.array([10.0] * 6 + [40.0] * 4 + [70.0] * 2)
SETS: dict[str, Any] = {
    "val": (SimpleNamespace(ages=AGES), None),
    # Twelve people in twelve pictures.
    "fgnet": (SimpleNamespace(ages=AGES), list("abcdefghijkl")),
}


def _run(off: float) -> dict[str, Any]:
    return {"ages": {name: (AGES + off).tolist() for name in SETS}, "epochs_mae": [abs(off)]}


def test_figures_are_means_over_seeds_and_differences_are_paired(script: ModuleType) -> None:
    views = _run(-3)
    views["ages"]["val"][0] += 12  # an error of 9 instead of -3
    runs = {
        "face / 0": _run(4), "face / 1": _run(-6), "face + eyes / 0": views,
        "face + eyes + mouth / 1": _run(2),
    }  # fmt: skip
    found = script.summary(runs, SETS)
    assert list(found) == ["face", "face + eyes + mouth", "face + eyes"]
    assert found["face"]["val"]["mae_years"] == 5  # 4 and 6, not 1 as the mean of +4 and -6
    # Over the seed that both have, 1.
    assert found["face"]["val"]["differences"] == {
        "face + eyes + mouth": {"years": 4, "interval": [4, 4]}
    }
    with_eyes = found["face + eyes"]["val"]
    assert with_eyes["mae_years"] == pytest.approx((11 * 3 + 9) / 12)
    assert with_eyes["spans"] == pytest.approx([(5 * 3 + 9) / 6, 3, 3])
    # From the first row's error of the same seed, 4, not from its mean over both.
    than_face = with_eyes["differences"]["face"]
    assert than_face["years"] == pytest.approx((11 * -1 + 5) / 12)
    low, high = than_face["interval"]
    assert low < than_face["years"] < high
    assert with_eyes["differences"]["face + eyes + mouth"] is None  # no seed in common
    assert found["face + eyes"]["fgnet"]["differences"]["face"]["years"] == -1

    held = {
        "summary": found, "made": {"steps": 300},
        "costs": {row: {"macs": 104_700_000, "ms": 1.25} for row in script.ROWS},
    }  # fmt: skip
    page = script.table(held)
    assert "| face | 2 | 5.000 | 4.00 6.00 | 5.00 | 5.00 | 5.00 |  | +4.000 (+4.000 to" in page
    assert "+4.000) | 105 | 1.2 |" in page
    assert f"| face + eyes | 1 | 3.500 | 3.50 | 4.00 | 3.00 | 3.00 | -0.500 ({low:+.3f} to" in page
    assert (
        "| face + eyes | 1 | 3.000 | 3.00 | 3.00 | 3.00 | 3.00 | -1.000 (-1.000 to -1.000) |  |"
        in page
    )


def test_operations_are_counted(script: ModuleType) -> None:
    from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings
    from agebench.train.networks import MultiCropResNet

    def counted(settings: ModelSettings) -> int:
        """Count those of the convolutions by PyTorch's own shapes."""
        model, total = MultiCropResNet(settings).eval(), [0]

        def add(layer: Any, _: Any, output: Any) -> None:
            total[0] += output.numel() * layer.weight[0].numel()

        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(add)
        side = settings.views["face"].size_hw
        model({"face": torch.zeros(1, 3, *side)}, {"face": torch.ones(1, 1)})
        return total[0]

    backbone = BackboneSettings(depth=10, width=4)
    small, large = (
        ModelSettings(
            views={"face": ViewSettings("face", (side, side), backbone=backbone)}, dense=8
        )
        for side in (32, 64)
    )
    found = script.costs({"small": small, "large": large}, repeats=1)
    # What follows the convolutions is the same.
    more = found["large"]["macs"] - found["small"]["macs"]
    assert more == counted(large) - counted(small) > 0
    assert found["small"]["ms"] > 0


MOBILENET = {"kind": "mobilenet", "width": 32}


def test_rows_differ_in_nothing_but_their_views(script: ModuleType) -> None:
    from agebench.train.settings import settings_from

    views = {
        "face": {"region": "face", "size_hw": [160, 160], "backbone": MOBILENET},
        "eyes": {"region": "eyes", "size_hw": [64, 128], "backbone": {"depth": 10, "width": 4}},
        "mouth": {"region": "mouth", "size_hw": [64, 96], "backbone": {"depth": 10, "width": 4}},
    }  # fmt: skip
    recipe = settings_from({"model": {"views": views, "view_dropout": 0.1}}, "made")
    every = script.all_views(recipe)
    rows = {row: script.row_settings(every, row, 7, 3) for row in script.ROWS}
    sides = {
        row: [view.size_hw for view in each.model.views.values()] for row, each in rows.items()
    }
    assert sides["face"] == [(96, 96)]
    assert sides["face, larger"] == [(128, 128)]
    assert sides["face + eyes + mouth"] == [(96, 96), (64, 128), (64, 96)]
    # The only view must not be withheld.
    assert {row: each.model.view_dropout for row, each in rows.items()} == {
        row: 0.1 if " + " in row else 0 for row in rows
    }
    assert {(each.seed, each.bootstrap.seed, each.epochs) for each in rows.values()} == {(7, 7, 3)}
