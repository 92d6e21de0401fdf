"""The script that rounds a checkpoint to what a file in half precision stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

import torch

from agebench.export.multi_crop import checkpoint_candidate
from agebench.export.precision import to_half_weights
from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.layers import BatchNorm
from agebench.train.losses import LOSSES
from agebench.train.networks import build_network
from agebench.train.settings import TrainSettings, read_settings
from tests.unit.scripts import load_script

SETTINGS = """
[model]
dense = 8
[model.views.face]
region = "chip"
size_hw = [64, 64]
backbone = { kind = "mobilenet", width = 4 }
[model.views.eyes]
region = "eyes"
size_hw = [32, 64]
backbone = { depth = 10, width = 4 }
"""


def _checkpoint(folder: Path) -> tuple[Path, TrainSettings]:
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    settings = read_settings(folder / "settings.toml", texts={"data.root": str(folder)})
    torch.manual_seed(0)
    model = build_network(settings.model, LOSSES[settings.loss.name].head)
    for layer in model.modules():
        if isinstance(layer, BatchNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
    last, averaged = ({k: v.clone() for k, v in model.state_dict().items()} for _ in range(2))
    path = folder / "best.safetensors"
    Checkpoint(settings, {"history": []}, {"made": "here"}, last, averaged, {}).write(path)
    return path, settings


def test_the_new_checkpoint_is_what_its_file_stores(tmp_path: Path) -> None:
    script = load_script("benchmarks.round_weights")
    path, settings = _checkpoint(tmp_path)
    before = read_checkpoint(path)
    half = to_half_weights(checkpoint_candidate(path))
    (tmp_path / "half.onnx").write_bytes(half.model.SerializeToString())
    after = script.rounded(before, script.stored_weights(tmp_path / "half.onnx"))
    after.write(tmp_path / "rounded.safetensors")

    # Rounded once, it is not rounded again: its own file stores the same numbers.
    again = to_half_weights(checkpoint_candidate(tmp_path / "rounded.safetensors"))
    stored = [
        {item.name: item.raw_data for item in made.model.graph.initializer}
        for made in (half, again)
    ]
    assert stored[0] == stored[1]

    # And it computes what the earlier one did, but for the rounding.
    views = {
        name: torch.rand(4, 3, *view.size_hw) * 255 for name, view in settings.model.views.items()
    }
    outputs = []
    for saved in (before, after):
        model = build_network(settings.model, LOSSES[settings.loss.name].head).eval()
        model.load_state_dict(dict(saved.averaged))
        with torch.no_grad():
            outputs.append(model(views, {name: torch.ones(4, 1) for name in views}).final.numpy())
    apart = float(np.abs(outputs[0] - outputs[1]).max())
    assert 0 < apart < 0.01 * float(np.ptp(outputs[0]))
    assert after.about == {"made": "here"}
