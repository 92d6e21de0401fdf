"""The fine-tuned teacher: the published network in PyTorch, its loss, and the file it becomes."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from agebench.datasets.base import sample
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.types import Crops
from tests.unit.scripts import load_script

torch = pytest.importorskip("torch")

from agebench.train.checkpoint import read_checkpoint  # noqa: E402
from agebench.train.losses import LOSSES  # noqa: E402
from agebench.train.model_settings import (  # noqa: E402 - only where torch is there
    BackboneSettings,
    ModelSettings,
    ViewSettings,
)
from agebench.train.networks import MultiCropResNet, build_network  # noqa: E402


@pytest.fixture(scope="module")
def network() -> ModuleType:
    return load_script("benchmarks.hse_network")


@pytest.fixture(scope="module")
def teacher() -> ModuleType:
    return load_script("benchmarks.hse_teacher")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)


@pytest.mark.shared
def test_gives_the_probabilities_of_the_published_graph(
    network: ModuleType, teacher: ModuleType, pixels: np.ndarray, shared_weights: Path
) -> None:
    # cv2.dnn on the graph itself is the second implementation.
    estimator = load_estimator("hse-mobilenet")
    there, outside = np.ones(3, np.bool_), np.zeros(3)
    found = estimator.predict(Crops({"face": pixels}, {"face": there}, {"face": outside}))
    planes = teacher.prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    with torch.no_grad():
        ours = network.HseMobileNet().eval()(planes).softmax(1).numpy()
    theirs = np.array([item.probabilities for item in found], float)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.shared
def test_norms_change_nothing_until_trained(
    network: ModuleType, teacher: ModuleType, pixels: np.ndarray, shared_weights: Path
) -> None:
    planes = teacher.prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    plain = network.HseMobileNet().eval()
    normed = copy.deepcopy(plain)
    network.set_norms(normed, torch.rand(4, 3, 96, 96) * 200 - 100)
    with torch.no_grad():
        np.testing.assert_allclose(normed(planes), plain(planes), atol=2e-3)
    spreads = [norm.weight.detach() for _, norm in network.pairs(normed.body.layers)]
    assert len(spreads) == 27
    assert all(float(spread.max()) != 1 for spread in spreads)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_file_gives_what_the_network_gives(
    network: ModuleType, teacher: ModuleType, shared_weights: Path, tmp_path: Path
) -> None:
    normed = network.HseMobileNet().eval()
    network.set_norms(normed, torch.rand(4, 3, 96, 96) * 200)
    teacher.write_teacher(normed, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 160, 160, 3), np.uint8)
    estimator = load_estimator(f"spec:{tmp_path / 'hse.toml'}")
    there, outside = np.ones(3, np.bool_), np.zeros(3)
    found = estimator.predict(Crops({"face": pixels}, {"face": there}, {"face": outside}))
    planes = teacher.prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    with torch.no_grad():
        ours = normed(planes).softmax(1).numpy()
    theirs = np.array([item.probabilities for item in found], float)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-4


@pytest.mark.shared
def test_a_face_stream_starts_with_the_same_features(
    network: ModuleType, teacher: ModuleType, pixels: np.ndarray, shared_weights: Path
) -> None:
    start = load_script("benchmarks.hse_start")
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    tuned = network.HseMobileNet().eval()
    network.set_norms(tuned, teacher.prepared(planes))
    model = MultiCropResNet(
        ModelSettings(
            {
                "face": ViewSettings(
                    "face", (160, 160), backbone=BackboneSettings("mobilenet", width=32)
                ),
                "mouth": ViewSettings(
                    "mouth", (64, 96), backbone=BackboneSettings(depth=10, width=4)
                ),
            }
        )
    ).eval()
    start.fill_face(model.backbones["face"], tuned)
    start.fill_dense(model, tuned)
    # Without detail, like most of a face: noise would weigh the border no less than all else.
    smooth = torch.nn.functional.avg_pool2d(planes, 33, 1, 16)
    with torch.no_grad():
        theirs = tuned.body(teacher.prepared(smooth))
        ours = model.backbones["face"](model.colours["face"](smooth))
        # Only what the border of the first convolution is padded with differs.
        torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)
        joined = torch.cat([ours, torch.zeros(3, 32)], 1)
        logits = model.head(torch.relu(model.joint(joined)))
        expected = tuned.ages(torch.relu(tuned.features(ours)))
    torch.testing.assert_close(logits[:, 1:101], expected)


SETTINGS = """
decode = "median"
[data]
dataset = "sample"
[loss]
name = "dldl"
[model]
dense = 256
[model.views.face]
region = "face"
size_hw = [160, 160]
backbone = { kind = "mobilenet", width = 32 }
"""


@pytest.mark.shared
def test_a_run_can_start_from_the_network_as_published(
    teacher: ModuleType, network: ModuleType, shared_weights: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    start = load_script("benchmarks.hse_start")
    monkeypatch.setattr(start, "TYPICAL", 16)
    (tmp_path / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    out = tmp_path / "start" / "best.safetensors"
    how = ["--settings", str(tmp_path / "settings.toml"), "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["hse_start", "published", *how])
    start.main()
    # Nothing was trained, and nobody knows the pictures that the published network learned from.
    assert [path.name for path in out.parent.iterdir()] == ["best.safetensors"]
    saved = read_checkpoint(out)
    assert saved.about["started_from"] == ["published"]

    data = saved.settings.data
    some = sample(load_dataset(data.dataset, None), 24, 0)
    faces = start.faces_of(some, load_detector(data.detector), None)
    planes = teacher.cut(faces.pixels, 160, jitter=False)
    model = build_network(saved.settings.model, LOSSES["dldl"].head).eval()
    model.load_state_dict(dict(saved.averaged))
    with torch.no_grad():
        ours = model({"face": planes}, {"face": torch.ones(len(planes), 1)}).final
        theirs = network.HseMobileNet().eval()(teacher.prepared(planes))
    years = ours.softmax(1)[:, 1:101] @ teacher.AGES
    # Only what the border of the first convolution is padded with differs.
    off = (years - theirs.softmax(1) @ teacher.AGES).abs()
    assert years.std() > 10
    assert off.max() < 1
    assert off.mean() < 0.3


def test_loss_is_least_at_the_label_and_within_the_range(teacher: ModuleType) -> None:
    ages = torch.arange(1, 101).float()

    def loss(at: float, low: float, high: float) -> float:
        peak = (-0.5 * ((ages - at) / 2) ** 2)[None]
        return float(teacher.loss_of(peak, torch.tensor([low]), torch.tensor([high])))

    assert loss(30, 30, 30) == pytest.approx(0, abs=1e-4)
    assert min(range(1, 101), key=lambda age: loss(age, 30, 30)) == 30
    # 20 to 29: nearly all of a distribution around 24.5 lies inside, half of one around 29.5.
    assert loss(24.5, 20, 29) == pytest.approx(-np.log(0.9876), abs=0.01)
    assert loss(29.5, 20, 29) == pytest.approx(np.log(2), abs=0.01)


def test_crop_without_jitter_is_the_middle_of_the_stored_one(teacher: ModuleType) -> None:
    side = teacher.STORED_PX
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[None, None, :, None], (1, side, side, 3))
    cut = teacher.cut(np.ascontiguousarray(ramp), 160, jitter=False)[0, 0].numpy()
    # Its edges are at 1/14 and 13/14 of the stored side.
    step = side * 12 / 14 / 160
    expected = side / 14 - 0.5 + (np.arange(160) + 0.5) * step
    np.testing.assert_allclose(cut, np.broadcast_to(expected, (160, 160)), atol=0.01)


def test_rare_decades_are_drawn_more_often_than_they_occur(teacher: ModuleType) -> None:
    ages = np.array([25.0] * 90 + [75.0] * 10)
    faces = teacher.Faces(np.zeros((100, 1, 1, 3), np.uint8), ages, ages)
    rare = faces.chances()[90:].sum()
    assert rare == pytest.approx(10**0.7 / (10**0.7 + 90**0.7))
