"""Layers that must not notice how a batch is shared out over processes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.forking import ForkedPython

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train.layers import (  # noqa: E402
    BatchNorm,
    BlurPool,
    Dropout,
    DropPath,
    SqueezeExcitation,
    StepRng,
)

CHILD = """
import sys
import numpy as np
import torch
import torch.distributed as dist
from agebench.train.layers import BatchNorm

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
given = np.load(f"{folder}/given.npz")
layer = BatchNorm(4)
with torch.no_grad():
    layer.weight.copy_(torch.from_numpy(given["weight"]))
    layer.bias.copy_(torch.from_numpy(given["bias"]))
rows = slice(0, 5) if rank == 0 else slice(5, 8)  # not evenly, on purpose
values = torch.from_numpy(given["values"])[rows].requires_grad_()
answer = layer(values)
# Every process has the mean of its own rows' losses, as in training, scaled to the whole.
(answer * torch.from_numpy(given["slope"])[rows]).sum().backward()
half = layer(values.detach().bfloat16())
np.savez(
    f"{folder}/{rank}.npz",
    answer=answer.detach().numpy(),
    values=values.grad.numpy(),
    weight=layer.weight.grad.numpy(),
    bias=layer.bias.grad.numpy(),
    half=half.detach().float().numpy(),
    tracked=layer.num_batches_tracked.numpy(),
)
np.savez(f"{folder}/running{rank}.npz", mean=layer.running_mean, var=layer.running_var)
dist.destroy_process_group()
"""


def _given(offset: float, spread: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    values = rng.normal(offset, spread, (8, 4, 6, 5)).astype(np.float32)
    values[:5] += spread  # the processes' own means differ
    return {
        "values": values,
        "slope": rng.normal(0, 1, values.shape).astype(np.float32),
        "weight": rng.uniform(0.5, 2, 4).astype(np.float32),
        "bias": rng.normal(0, 1, 4).astype(np.float32),
    }


def _in_two_processes(folder: Path, code: str) -> None:
    children = [ForkedPython("-c", code, str(rank), str(folder)) for rank in range(2)]
    try:
        assert [child.wait() for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (300.0, 0.1)])
def test_batch_norm_over_processes_is_that_of_the_joined_batch(
    tmp_path: Path, offset: float, spread: float
) -> None:
    """Also where the mean is 3000 times the spread: a mean of squares would lose the variance."""
    given = _given(offset, spread)
    np.savez(tmp_path / "given.npz", **given)
    _in_two_processes(tmp_path, CHILD)
    joined = torch.nn.BatchNorm2d(4).double()
    with torch.no_grad():
        joined.weight.copy_(torch.from_numpy(given["weight"]))
        joined.bias.copy_(torch.from_numpy(given["bias"]))
    values = torch.from_numpy(given["values"]).double().requires_grad_()
    expected = joined(values)
    (expected * torch.from_numpy(given["slope"])).sum().backward()
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))

    def both(name: str) -> Any:
        return np.concatenate([first[name], second[name]])

    # The input itself is known to 2**-24 of its size, which is this much of its spread.
    known = max(offset, 1.0) * 6e-8 / spread
    assert np.abs(both("answer") - expected.detach().numpy()).max() < 20 * known + 2e-6
    slopes = values.grad.numpy()
    assert np.abs(both("values") - slopes).max() < (40 * known + 4e-6) * np.abs(slopes).max()
    for name, whole in (("weight", joined.weight.grad), ("bias", joined.bias.grad)):
        got = first[name] + second[name]
        assert got == pytest.approx(whole.numpy(), abs=(200 * known + 1e-4))
    with torch.no_grad():
        again = joined(torch.from_numpy(given["values"]).bfloat16().double())
    if offset == 0:
        assert np.abs(both("half") - again.numpy()).max() < 0.05  # bfloat16 has 8 bits
    for rank in range(2):
        running = np.load(tmp_path / f"running{rank}.npz")
        assert running["mean"] == pytest.approx(joined.running_mean.numpy(), rel=1e-5, abs=1e-6)
        assert running["var"] == pytest.approx(joined.running_var.numpy(), rel=1e-3)
        assert (first, second)[rank]["tracked"] == 2


def test_batch_norm_of_one_process_is_pytorchs() -> None:
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm2d(3)
    values = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(values), theirs(values))
    assert torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("bounds", [(0, 8), (0, 4, 8), (0, 1, 7, 8)])
def test_draws_do_not_depend_on_how_a_batch_is_shared(bounds: tuple[int, ...]) -> None:
    features, residual = torch.rand(8, 6) + 1, torch.rand(8, 3, 2, 2) + 1

    def answers(rng: StepRng, rows: slice) -> list[Any]:
        dropout, path = Dropout(0.4, rng), DropPath(0.5, rng)
        return [dropout(features[rows]), path(residual[rows]), dropout(features[rows])]

    rng = StepRng()
    rng.begin(7, 3, 8)
    whole = answers(rng, slice(None))
    parts = []
    for start, stop in itertools.pairwise(bounds):
        rng.begin(7, 3, 8, start, stop)
        parts.append(answers(rng, slice(start, stop)))
    for place, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[place] for part in parts]), expected)
    assert not torch.equal(whole[0], whole[2])  # redrawn within a step


def test_draws_hang_on_seed_and_step_alone() -> None:
    def drawn(seed: int, step: int) -> list[float]:
        rng = StepRng()
        rng.begin(seed, step, 4)
        values: list[float] = rng.uniform(4, 2).flatten().tolist()
        return values

    assert drawn(1, 2) == drawn(1, 2)
    several = [tuple(drawn(seed, step)) for seed in range(4) for step in range(4)]
    assert len(set(several)) == 16
    rng = StepRng()
    rng.begin(0, 0, 4)
    with pytest.raises(ValueError, match="expected 4 rows, got 3"):
        rng.uniform(3)


def test_dropout_and_drop_path_keep_the_mean_and_rest_in_evaluation() -> None:
    rng = StepRng()
    rng.begin(0, 0, 4000)
    ones = torch.ones(4000, 5)
    dropped = Dropout(0.3, rng)(ones)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    rows = DropPath(0.3, rng)(ones[:, :, None, None])
    assert ((rows == 0).all(1) | (rows > 1).all(1)).all()
    assert rows.mean().item() == pytest.approx(1, abs=0.05)
    for layer in (Dropout(0.3, StepRng()), DropPath(0.3, StepRng())):
        assert layer.eval()(ones) is ones  # not begun: a draw would raise


def test_blur_pool_keeps_flat_areas_and_halves() -> None:
    pooled = BlurPool(2)(torch.full((1, 2, 9, 8), 3.0))
    assert pooled.shape == (1, 2, 5, 4)
    assert torch.allclose(pooled[:, :, 1:-1, 1:-1], torch.tensor(3.0))
    point = torch.zeros(1, 1, 6, 6)
    point[0, 0, 2, 2] = 16
    assert BlurPool(1)(point)[0, 0].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def test_squeeze_excitation_gates_channels_between_0_and_1() -> None:
    layer = SqueezeExcitation(8)
    values = torch.rand(2, 8, 3, 3) + 0.1
    gates = layer(values) / values
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-6)
    assert ((gates > 0) & (gates < 1)).all()
