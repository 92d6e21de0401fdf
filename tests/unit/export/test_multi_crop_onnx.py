"""Multi-crop networks as ONNX, in every variant: the same ages as in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agebench import load_estimator  # noqa: E402 - torch first
from agebench.errors import ModelError, UsageError  # noqa: E402
from agebench.export.multi_crop import ModelAbout, multi_crop_candidate  # noqa: E402
from agebench.export.writing import export  # noqa: E402
from agebench.runtimes.age_file import generated  # noqa: E402
from agebench.testing import check_estimator  # noqa: E402
from agebench.train.formulas import CoralHead  # noqa: E402
from agebench.train.inference import mirror_partners  # noqa: E402
from agebench.train.losses import LOSSES  # noqa: E402
from agebench.train.mobilenet import MobileNet  # noqa: E402
from agebench.train.model_settings import (  # noqa: E402
    BackboneSettings,
    ModelSettings,
    ViewSettings,
)
from agebench.train.networks import MultiCropResNet  # noqa: E402
from agebench.types import Crops  # noqa: E402

pytestmark = pytest.mark.usefixtures("short_proof")

SMALL = BackboneSettings(depth=10, width=8)
RICH = BackboneSettings(depth=14, width=8, stem="deep", squeeze_excitation=True, blur_pool=True)
TWO = {
    "face": ViewSettings("face", (48, 48), backbone=SMALL),
    "eyes": ViewSettings("eyes", (16, 32), backbone=SMALL),
}
SETTINGS = {
    "late": ModelSettings(views=TWO, dense=16),
    "single": ModelSettings(
        views={"face": ViewSettings("face", (48, 48), backbone=RICH)}, dense=16
    ),
    # Odd sizes at every halving: where averages and borders differ between libraries.
    "odd": ModelSettings(
        views={
            "face": ViewSettings("face", (53, 37), backbone=RICH, input="yuv"),
            "eyes": ViewSettings(
                "eyes", (19, 45), backbone=BackboneSettings(depth=50, width=4), input="gray"
            ),
        },
        dense=16,
    ),
    "plain shortcut": ModelSettings(
        views={
            "face": ViewSettings(
                "face",
                (40, 40),
                backbone=BackboneSettings(width=4, average_shortcut=False, pool=False),
            )
        },
        dense=16,
    ),
    "early": ModelSettings(
        views={
            "face": ViewSettings("face", (32, 32), backbone=SMALL),
            "eyes": ViewSettings("eyes", (32, 32), input="yuv"),
        },
        dense=16,
        fusion="early",
    ),
    "mobilenet": ModelSettings(
        views={
            "face": ViewSettings("face", (64, 80), backbone=BackboneSettings("mobilenet", width=8)),
            "eyes": ViewSettings("eyes", (65, 77), backbone=BackboneSettings("mobilenet", width=4)),
        },
        dense=16,
    ),
    "early single": ModelSettings(
        views={"face": ViewSettings("face", (32, 32), backbone=SMALL)}, dense=16, fusion="early"
    ),
}


def random_model(settings: ModelSettings, loss: str = "dldl") -> MultiCropResNet:
    """A network whose every number has an effect: random statistics, tokens and a steep head."""
    torch.manual_seed(2)
    model = MultiCropResNet(settings, next(LOSSES[name] for name in LOSSES if name == loss).head)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.2)
                module.bias.normal_(0, 0.2)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
        for module in model.modules():
            if isinstance(module, MobileNet):  # 27 layers without shortcuts: keep their signal
                for norm in module.layers:
                    if isinstance(norm, torch.nn.BatchNorm2d) and norm.running_var is not None:
                        norm.running_var.mul_(0.45)
        for absent in model.absent.parameters():
            absent.normal_(0, 0.5)
        for weight in model.head.parameters():
            if weight.ndim == 2:
                weight.mul_(40)
    return model


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("variant", SETTINGS)
def test_every_variant_gives_the_same_ages(variant: str, flip: bool, tmp_path: Path) -> None:
    model = random_model(SETTINGS[variant])
    candidate = multi_crop_candidate(model, LOSSES["dldl"], "expectation", flip=flip)
    crops = generated(candidate.spec.crop, 9, seed=1)
    written = export(candidate, tmp_path / "m.onnx", crops=crops, described="nine")
    assert written.report is not None
    assert written.report.spread_years > 0.3
    assert written.report.worst.max_years < 2e-3


@pytest.mark.parametrize("views", [("face",), ("eyes",), ("eyes", "face")])
def test_only_the_named_views_are_mirrored(views: tuple[str, ...], tmp_path: Path) -> None:
    model = random_model(SETTINGS["late"])
    plain, both, some = (
        multi_crop_candidate(model, LOSSES["dldl"], "expectation", flip=flip)
        for flip in (False, True, views)
    )
    crops = generated(plain.spec.crop, 7, seed=1)
    crops = replace(crops, present={**crops.present, "eyes": np.arange(7) != 2})
    turned = {name: crops.views[name][:, :, ::-1].copy() for name in views}
    halves = plain.source(crops), plain.source(replace(crops, views={**crops.views, **turned}))
    # The distributions are averaged, and so are their means.
    assert some.source(crops) == pytest.approx(np.mean(halves, axis=0), abs=1e-3)
    whole = len(views) == len(crops.views)
    assert np.allclose(some.source(crops), both.source(crops), atol=1e-3) == whole
    out = tmp_path / "m.onnx"
    written = export(some, out, crops=crops, described="seven")
    assert written.report is not None
    assert written.report.worst.max_years < 2e-3
    assert load_estimator(f"onnx:{out}").spec.settings["mirrored"] == ", ".join(views)


def test_views_to_be_mirrored_must_exist() -> None:
    late, early = random_model(SETTINGS["late"]), random_model(SETTINGS["early"])
    with pytest.raises(UsageError, match=r"no view 'fase'.*face"):
        multi_crop_candidate(late, LOSSES["dldl"], "expectation", flip=("fase",))
    with pytest.raises(UsageError, match="one input for all views"):
        multi_crop_candidate(early, LOSSES["dldl"], "expectation", flip=("face",))


@pytest.mark.parametrize("decode", ["expectation", "median"])
def test_ranks_are_decoded_as_in_training(decode: str, tmp_path: Path) -> None:
    model = random_model(SETTINGS["late"], "coral")
    with torch.no_grad():
        assert isinstance(model.head, CoralHead)
        # Out of order: what training keeps apart must be put in order by the export too.
        model.head.bias.copy_(torch.randn(116) - torch.linspace(-3, 3, 116))
    candidate = multi_crop_candidate(model, LOSSES["coral"], decode)
    written = export(
        candidate, tmp_path / "m.onnx", crops=generated(candidate.spec.crop, 9), described="nine"
    )
    assert written.report is not None
    assert written.report.worst.max_years < 2e-3


def test_the_file_is_a_whole_estimator(tmp_path: Path) -> None:
    about = ModelAbout(
        "mine",
        trained_on="UTKFace",
        trained_sets=("utkface",),
        label_kind="dex-estimated",
        licence="CC0",
    )
    candidate = multi_crop_candidate(
        random_model(SETTINGS["late"]), LOSSES["dldl"], "expectation", about
    )
    out = tmp_path / "m.onnx"
    export(candidate, out, crops=generated(candidate.spec.crop, 4), described="four")
    for reference in (f"onnx:{out}", f"onnx:{out}@cv2dnn:cpu"):
        estimator = load_estimator(reference)
        check_estimator(estimator)
        spec = estimator.spec
        assert spec.crop == SETTINGS["late"].crop
        assert spec.trained_sets == ("utkface",)
        assert (spec.name, spec.trained_on, spec.label_kind) == ("mine", "UTKFace", "dex-estimated")
        assert spec.bins == SETTINGS["late"].bins
    crops = generated(candidate.spec.crop, 3)
    without = [answer.years for answer in estimator.predict(crops.without("eyes"))]
    assert not np.allclose(without, [answer.years for answer in estimator.predict(crops)], atol=0.1)
    with pytest.raises(ModelError, match="face 0: 'face', 'eyes' missing"):
        estimator.predict(crops.without("eyes").without("face"))


def test_with_flip_a_picture_and_its_mirror_image_have_one_age(tmp_path: Path) -> None:
    eye = {
        side: ViewSettings(f"eye_{side}", (32, 32), backbone=SMALL) for side in ("left", "right")
    }
    settings = ModelSettings(
        views={**eye, "mouth": ViewSettings("mouth", (32, 48), backbone=SMALL)}
    )
    plain = multi_crop_candidate(random_model(settings), LOSSES["dldl"], "expectation")
    both = multi_crop_candidate(random_model(settings), LOSSES["dldl"], "expectation", flip=True)
    crops = generated(plain.spec.crop, 5)
    left = np.array([1, 1, 0, 1, 0], np.bool_)
    crops = Crops(crops.views, {**crops.present, "left": left}, crops.outside)
    partner = {"left": "right", "right": "left", "mouth": "mouth"}
    mirrored = Crops(
        {name: crops.views[other][:, :, ::-1].copy() for name, other in partner.items()},
        {name: crops.present[other] for name, other in partner.items()},
        {name: crops.outside[other] for name, other in partner.items()},
    )
    shares = {}
    for name, candidate in (("plain", plain), ("both", both)):
        export(candidate, tmp_path / f"{name}.onnx", crops=crops, described="five")
        estimator = load_estimator(f"onnx:{tmp_path / name}.onnx")
        assert estimator.spec.settings["mirrored"] == (name == "both")
        for kind, given in (("straight", crops), ("turned", mirrored)):
            answers = estimator.predict(given)
            shares[name, kind] = np.array([answer.probabilities for answer in answers])
    mean = (shares["plain", "straight"] + shares["plain", "turned"]) / 2
    assert np.abs(shares["plain", "straight"] - shares["plain", "turned"]).max() > 1e-3
    np.testing.assert_allclose(shares["both", "straight"], mean, atol=1e-6)
    np.testing.assert_allclose(shares["both", "turned"], mean, atol=1e-6)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("plain", "both")]
    assert sizes[1] < 1.2 * sizes[0]


def test_views_that_differ_in_their_margin_alone_are_their_own_mirror_images() -> None:
    face = {
        name: ViewSettings("face", (32, 32), margin=margin, backbone=SMALL)
        for name, margin in (("tight", 0.0), ("wide", 0.4))
    }
    assert mirror_partners(face) == {"tight": "tight", "wide": "wide"}
    left, right = (ViewSettings(f"eye_{side}", (32, 32)) for side in ("left", "right"))
    for views in ({"left": left}, {"left": left, "right": replace(right, margin=0.2)}):
        with pytest.raises(UsageError, match="eye_right"):
            mirror_partners(views)


def test_a_layer_that_is_not_known_is_named() -> None:
    model = random_model(SETTINGS["single"])
    model.head = torch.nn.Bilinear(2, 2, 2)
    with pytest.raises(ModelError, match=r"Bilinear.*export"):
        multi_crop_candidate(model, LOSSES["dldl"], "expectation")
