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
from agebench.train.age_net import AgeNet  # noqa: E402
from agebench.train.model_settings import ModelSettings, ViewSettings  # noqa: E402
from agebench.train.networks import build_network  # noqa: E402

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
