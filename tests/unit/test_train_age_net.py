"""The age network in PyTorch: the layers of the published one, and the same numbers as cv2.dnn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'agebench[train]'")

from agebench.errors import ModelError  # noqa: E402 - after the skip
from agebench.export.caffe_weights import convert  # noqa: E402
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, deploy_prototxt  # noqa: E402
from agebench.runtimes.base import ModelSource  # noqa: E402
from agebench.runtimes.opening import open_model  # noqa: E402
from agebench.train.local_response import LocalResponseNorm  # noqa: E402
from agebench.train.model_settings import ModelSettings, ViewSettings  # noqa: E402
from agebench.train.networks import AgeNet, build_network  # noqa: E402

SETTINGS = ModelSettings(
    views={"face": ViewSettings("face", (227, 227))}, network="age-net", youngest=0, oldest=20
)


@pytest.fixture(scope="module")
def network() -> AgeNet:
    torch.manual_seed(0)
    built = build_network(SETTINGS)
    assert isinstance(built, AgeNet)
    return built.eval()


def test_it_has_as_many_weights_as_the_published_network() -> None:
    eight = ModelSettings(views=SETTINGS.views, network="age-net", youngest=0, oldest=7)
    count = sum(value.numel() for value in build_network(eight).parameters())
    assert count == 11_415_048  # agebench.runtimes.age_net_layout.PUBLISHED


def test_cv2_dnn_gives_the_same_of_its_caffe_file(network: AgeNet, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {f"averaged/{name}": value for name, value in network.state_dict().items()}
    last = {f"model/{name}": value + 1 for name, value in network.state_dict().items()}
    save_file({**state, **last}, tmp_path / "net.safetensors")
    target = tmp_path / "net.caffemodel"
    convert(tmp_path / "net.safetensors", target, encoding="v1", half=False)
    bins = len(SETTINGS.bins)
    model = open_model(ModelSource("caffe", target, config=deploy_prototxt(bins)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 227, 227)).astype(np.float32)
    mean = np.array(CHANNEL_MEAN, np.float32)[None, :, None, None]
    by_caffe = model.run({"": pixels - mean})["prob"].reshape(2, bins)
    with torch.no_grad():
        outputs = network({"face": torch.from_numpy(pixels)}, {"face": torch.ones(2, 1)})
    by_torch = outputs.final.softmax(1).numpy()
    assert by_torch.std() > 0.01  # not a flat answer, which any network would share
    np.testing.assert_allclose(by_caffe, by_torch, atol=1e-4)


def test_a_missing_view_shows_nothing(network: AgeNet) -> None:
    pixels = torch.rand(2, 3, 227, 227) * 255
    with torch.no_grad():
        final = network({"face": pixels}, {"face": torch.zeros(2, 1)}).final
    torch.testing.assert_close(final[0], final[1])


@pytest.mark.parametrize(
    "views",
    [
        {"face": ViewSettings("face", (112, 112))},
        {"face": ViewSettings("face", (227, 227)), "eyes": ViewSettings("eyes", (227, 227))},
    ],
)
def test_other_views_are_refused(views: dict[str, ViewSettings]) -> None:
    with pytest.raises(ValueError, match="exactly one view of 227x227"):
        ModelSettings(views=views, network="age-net")


def test_it_is_not_exported_as_a_multi_crop_network(network: AgeNet) -> None:
    from agebench.export.multi_crop import multi_crop_candidate
    from agebench.train.losses import LOSSES

    with pytest.raises(ModelError, match=r"convert-caffe.*caffe-age-net-utkface:FILE"):
        multi_crop_candidate(network, LOSSES["ce"], "expectation")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_faster_normalisation_is_pytorchs(precision: str) -> None:
    dtype = getattr(torch, precision)
    torch.manual_seed(0)
    ours, theirs = LocalResponseNorm(12), torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    # Values of this size make the norm's share large: a wrong neighbour would be seen.
    values = (torch.randn(2, 12, 4, 5) * 200).to(dtype).to(memory_format=torch.channels_last)
    first, second = (values.clone().requires_grad_() for _ in range(2))
    weights = torch.randn(2, 12, 4, 5)
    got, wanted = ours(first), theirs(second.float())
    assert got.dtype == dtype
    assert got.shape == wanted.shape
    (got.float() * weights).sum().backward()
    (wanted * weights).sum().backward()
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.02, "atol": 2}
    )
    torch.testing.assert_close(got.float(), wanted, **tolerance)
    assert first.grad is not None
    assert second.grad is not None
    scale = float(second.grad.abs().max())
    torch.testing.assert_close(
        first.grad.float() / scale,
        second.grad.float() / scale,
        rtol=0,
        atol=1e-6 if dtype == torch.float32 else 0.02,
    )
    if dtype == torch.float32:
        assert float((wanted / values).detach().min()) < 0.5


def test_the_normalisations_gradient_by_differences() -> None:
    norm = LocalResponseNorm(7)
    values = (torch.randn(1, 7, 1, 2) * 100).requires_grad_()
    direction = torch.randn(1, 7, 1, 2)
    norm(values).sum().backward()
    assert values.grad is not None
    with torch.no_grad():
        ahead, behind = norm(values + direction).sum(), norm(values - direction).sum()
    slope = float((values.grad * direction).sum())
    assert slope == pytest.approx(float(ahead - behind) / 2, rel=1e-2, abs=1e-3)


def test_half_precision_around_it_does_not_reach_the_normalisation() -> None:
    norm, values = LocalResponseNorm(7), torch.randn(1, 7, 2, 2) * 100
    with torch.autocast("cpu", torch.bfloat16):
        inside = norm(values.requires_grad_())
        (slope,) = torch.autograd.grad(inside.sum(), values)
    torch.testing.assert_close(inside, norm(values))
    torch.testing.assert_close(slope, torch.autograd.grad(norm(values).sum(), values)[0])
