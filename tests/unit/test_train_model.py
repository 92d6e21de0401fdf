"""The network: shapes, missing views, colours against OpenCV, sizes against the published ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.vision.opencv import cv2

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train.formulas import CoralHead  # noqa: E402 - only where torch is there
from agebench.train.layers import Backbone, StepRng  # noqa: E402
from agebench.train.mobilenet import HalvingConvolution, MobileNet  # noqa: E402
from agebench.train.model_settings import (  # noqa: E402
    BackboneSettings,
    ModelSettings,
    ViewSettings,
)
from agebench.train.networks import SCALE, Colours, MultiCropResNet, drop_views  # noqa: E402

TINY = BackboneSettings(depth=10, width=4)
FACES = 5


def _settings(names: tuple[str, ...] = ("face", "mouth"), **given: Any) -> ModelSettings:
    regions = {"face": "face", "mouth": "mouth", "eyes": "eyes"}
    views = {name: ViewSettings(regions[name], (32, 32), backbone=TINY) for name in names}
    return ModelSettings(views, **{"dense": 16, "youngest": 10, "oldest": 30} | given)


def _model(settings: ModelSettings, head: Any = torch.nn.Linear) -> MultiCropResNet:
    torch.manual_seed(0)
    model = MultiCropResNet(settings, head)
    for values in model.absent.values():  # zeros at first: would hide whether they are used
        torch.nn.init.normal_(values)
    for module in model.modules():  # zeros too: residuals would stay out
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def _inputs(settings: ModelSettings, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    pixels, present = {}, {}
    for name, view in settings.views.items():
        values = rng.uniform(0, 255, (FACES, 3, *view.size_hw)).astype(np.float32)
        pixels[name] = torch.from_numpy(values)
        present[name] = torch.ones(FACES, 1)
    return pixels, present


VIEWS = [("face",), ("mouth", "face"), ("face", "eyes", "mouth")]


@pytest.mark.parametrize("fusion", ["late", "early"])
@pytest.mark.parametrize("names", VIEWS)
def test_any_views_give_a_row_of_bins_per_face(names: tuple[str, ...], fusion: Any) -> None:
    settings = _settings(names, fusion=fusion)
    model = _model(settings).eval()
    outputs = model(*_inputs(settings))
    assert outputs.final.shape == (FACES, 21)
    assert not outputs.auxiliary
    model.rng.begin(0, 0, FACES)
    trained = model.train()(*_inputs(settings))
    shapes = {name: tuple(own.shape) for name, own in trained.auxiliary.items()}
    assert shapes == (dict.fromkeys(names, (FACES, 21)) if fusion == "late" else {})


def test_other_heads_and_no_heads_of_backbones() -> None:
    settings = _settings()
    assert _model(settings, CoralHead).eval()(*_inputs(settings)).final.shape == (FACES, 20)
    without = _settings(auxiliary=False)
    model = _model(without)
    model.rng.begin(0, 0, FACES)
    assert not model(*_inputs(without)).auxiliary


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "deep"},
        {"pool": False},
        {"average_shortcut": False},
        {"squeeze_excitation": True},
        {"blur_pool": True},
        {"stochastic_depth": 0.5},
        {"depth": 14},
        {"depth": 34},
        {"depth": 50},
        {"depth": 50, "blur_pool": True, "squeeze_excitation": True, "stem": "deep"},
    ],
)
@pytest.mark.parametrize("size", [32, 45])
def test_variants_run_on_even_and_odd_sizes(changes: dict[str, Any], size: int) -> None:
    settings = replace(TINY, **changes)
    rng = StepRng()
    backbone = Backbone(3, settings, rng)
    rng.begin(0, 0, 2)
    pixels = torch.randn(2, 3, size, size, requires_grad=True)
    features = backbone(pixels)
    assert features.shape == (2, settings.features)
    assert settings.features == (128 if settings.depth == 50 else 32)
    features.sum().backward()
    assert pixels.grad is not None
    assert torch.isfinite(pixels.grad).all()


@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032)]
)
def test_sizes_are_the_published_ones(
    depth: Any, parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ResNet-18, -34 and -50 without their last layer: 11.18, 21.28 and 23.51 million."""
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", None)  # nothing is drawn without memory
    settings = BackboneSettings(depth=depth, width=64, stem="classic", average_shortcut=False)
    with torch.device("meta"):
        backbone = Backbone(3, settings, StepRng())
    assert sum(value.numel() for value in backbone.parameters()) == parameters
    assert backbone.features == settings.features == (2048 if depth == 50 else 512)


def test_mobilenet_is_the_published_one() -> None:
    """Keras's MobileNet 1.0 without its top has 3,206,976 weights that are trained."""
    settings = BackboneSettings("mobilenet", width=32)
    backbone = MobileNet(3, settings.width).eval()
    assert sum(value.numel() for value in backbone.parameters()) == 3_206_976
    assert backbone.features == settings.features == 1024
    assert backbone(torch.zeros(2, 3, 64, 96)).shape == (2, 1024)
    assert backbone.layers(torch.zeros(1, 3, 224, 224)).shape == (1, 1024, 7, 7)


def test_mobilenet_halves_as_tensorflow_does() -> None:
    # Padding "SAME" of an even side adds one row or column at its end alone.
    layer = HalvingConvolution(1, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
        found = layer(torch.ones(1, 1, 4, 4))[0, 0]
    torch.testing.assert_close(found, torch.tensor([[36.0, 27 - 6.0], [15.0, 8.0]]))


def test_a_stage_halves_the_picture() -> None:
    backbone = Backbone(3, BackboneSettings(depth=18, width=4), StepRng()).eval()
    values = backbone.stem(torch.zeros(1, 3, 224, 224))
    assert values.shape == (1, 4, 56, 56)
    assert backbone.blocks(values).shape == (1, 32, 7, 7)


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_pixels_of_a_missing_view_never_matter(fusion: Any) -> None:
    settings = _settings(fusion=fusion)
    model = _model(settings).eval()
    pixels, present = _inputs(settings)
    whole = model(pixels, present).final
    present["mouth"][[0, 3]] = 0
    first = model(pixels, present).final
    pixels["mouth"] = pixels["mouth"].clone()
    pixels["mouth"][[0, 3]] = torch.rand(2, 3, 32, 32) * 255
    second = model(pixels, present).final
    assert torch.equal(first, second)
    changed = (first - whole).abs().amax(1) > 1e-5
    assert changed.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_each_view_matters_where_it_is_there(fusion: Any) -> None:
    settings = _settings(fusion=fusion)
    model = _model(settings).eval()
    pixels, present = _inputs(settings)
    whole = model(pixels, present).final
    for name in settings.views:
        changed = {**pixels, name: 255 - pixels[name]}
        assert (model(changed, present).final - whole).abs().max() > 1e-4


def test_what_stands_for_a_missing_view_is_learned() -> None:
    settings = _settings()
    model = _model(settings)
    pixels, present = _inputs(settings)
    present["mouth"][1] = 0
    model.rng.begin(0, 0, FACES)
    model(pixels, present).final.sum().backward()
    assert model.absent["mouth"].grad.abs().sum() > 0
    assert model.absent["face"].grad.abs().sum() == 0


def test_withheld_views_always_leave_one() -> None:
    rng = StepRng()
    count = 2000
    there = torch.from_numpy(np.random.default_rng(0).random((count, 3)) < 0.7).float()
    there[:, 0] = torch.where(there.sum(1) == 0, 1.0, there[:, 0])
    present = {name: there[:, i : i + 1] for i, name in enumerate(("a", "b", "c"))}
    rng.begin(1, 2, count)
    kept = torch.cat(list(drop_views(present, 0.5, rng).values()), dim=1)
    assert (kept.sum(1) >= 1).all()
    assert ((there - kept) >= 0).all()  # nothing comes back that is missing
    only = there.sum(1) == 1
    assert torch.equal(kept[only], there[only])
    # With three views there, each stays in (1/2 + 1/8) of the rows: half, or nothing left.
    full = there.sum(1) == 3
    assert kept[full].mean(0).tolist() == pytest.approx([0.625] * 3, abs=0.06)


def test_dropping_no_views_draws_nothing() -> None:
    rng = StepRng()  # not begun: a draw would raise
    present = {"a": torch.ones(4, 1), "b": torch.ones(4, 1)}
    assert drop_views(present, 0.0, rng)["b"] is present["b"]
    assert drop_views({"a": present["a"]}, 0.9, rng)["a"] is present["a"]


def test_colours_are_those_of_opencv() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    gray = Colours("gray")(pixels)[0, 0] / SCALE + 127.5
    assert np.abs(gray.numpy() - cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)).max() <= 0.51
    yuv = Colours("yuv")(pixels)[0] / SCALE
    expected = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV).astype(np.float64)
    # OpenCV rounds Y before it takes it from B and R, and all factors are known to 3 digits.
    for channel, (centre, rounding) in enumerate(((127.5, 0.51), (128, 1.0), (128, 1.0))):
        got = np.clip(yuv[channel].numpy() + centre, 0, 255)
        assert np.abs(got - expected[:, :, channel]).max() <= rounding
    bgr = Colours("bgr")(pixels)
    assert torch.allclose(bgr, (pixels - 127.5) / 64)


@pytest.mark.parametrize("mode", ["bgr", "gray", "yuv"])
def test_pictures_are_normalised_inside(mode: Any) -> None:
    view = ViewSettings("face", (32, 32), input=mode, backbone=TINY)
    settings = ModelSettings({"face": view}, dense=8)
    model = _model(settings)
    seen: list[Any] = []
    model.backbones["face"].register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    pixels = {"face": torch.rand(64, 3, 32, 32) * 255}
    model.eval()(pixels, {"face": torch.ones(64, 1)})
    assert seen[0].shape[1] == {"bgr": 3, "gray": 1, "yuv": 3}[mode]
    assert seen[0].mean().abs() < 0.1
    assert 0.3 < seen[0].std() < 2


def test_a_gray_network_sees_no_colour() -> None:
    view = ViewSettings("face", (32, 32), input="gray", backbone=TINY)
    model = _model(ModelSettings({"face": view}, dense=8)).eval()
    there = {"face": torch.ones(1, 1)}
    colour = torch.tensor([200.0, 100.0, 50.0])
    gray = float(colour @ torch.tensor([0.114, 0.587, 0.299]))
    one = model({"face": colour[None, :, None, None].expand(1, 3, 32, 32)}, there).final
    other = model({"face": torch.full((1, 3, 32, 32), gray)}, there).final
    assert torch.allclose(one, other, atol=1e-5)


def test_a_name_that_modules_use_themselves_is_refused() -> None:
    for name in ("keys", "training", "forward"):
        settings = ModelSettings({name: ViewSettings("face", (32, 32), backbone=TINY)})
        with pytest.raises(UsageError, match=name):
            MultiCropResNet(settings)


def test_blocks_begin_as_the_identity() -> None:
    backbone = Backbone(3, TINY, StepRng()).eval()
    block = backbone.blocks[0]
    values = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(values), values)


@pytest.mark.parametrize("backbone", [TINY, BackboneSettings(kind="mobilenet", width=4)])
@pytest.mark.parametrize("fusion", ["late", "early"])
def test_all_layers_have_a_pixels_channels_side_by_side(
    fusion: str, backbone: BackboneSettings
) -> None:
    views = {name: ViewSettings(name, (64, 64), backbone=backbone) for name in ("face", "mouth")}
    settings = ModelSettings(views, fusion=fusion, dense=16)  # type: ignore[arg-type]
    model, seen = _model(settings).eval(), list[bool]()

    def look(_layer: Any, _inputs: Any, output: Any) -> None:
        seen.append(output.is_contiguous(memory_format=torch.channels_last))

    for layer in model.backbones.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(look)
    model(*_inputs(settings))
    assert len(seen) > 10
    assert all(seen)
