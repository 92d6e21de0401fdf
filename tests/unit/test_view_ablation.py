"""benchmarks/view_ablation.py: figures from ages, and the streams that rows start from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
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


def test_runs_that_were_made_in_another_way_are_refused(script: ModuleType, tmp_path: Path) -> None:
    kept, made = tmp_path / "kept.json", {"steps": 200}
    assert script.finished(kept, made) == {}
    kept.write_text(json.dumps({"made": made, "runs": {"face / 0": 1}}))
    assert script.finished(kept, made) == {"face / 0": 1}
    with pytest.raises(SystemExit, match=r"runs of .*200.*expected .*300"):
        script.finished(kept, {"steps": 300})


MOBILENET = {"kind": "mobilenet", "width": 32}


@pytest.fixture(scope="module")
def recipe() -> Any:
    """Settings as those of the bundled network, with smaller streams for eyes and mouth."""
    from agebench.train.settings import settings_from

    views = {
        "face": {"region": "face", "size_hw": [160, 160], "backbone": MOBILENET},
        "eyes": {"region": "eyes", "size_hw": [64, 128], "backbone": {"depth": 10, "width": 4}},
        "mouth": {"region": "mouth", "size_hw": [64, 96], "backbone": {"depth": 10, "width": 4}},
    }  # fmt: skip
    return settings_from({"model": {"views": views, "view_dropout": 0.1, "dense": 8}}, "made")


def test_rows_differ_in_nothing_but_their_views(script: ModuleType, recipe: Any) -> None:
    every = script.all_views(recipe)
    rows = {row: script.row_settings(every, row, 7, 3) for row in script.ROWS}
    sides = {
        row: [view.size_hw for view in each.model.views.values()] for row, each in rows.items()
    }
    assert sides["face"] == [(96, 96)]
    assert sides["face, larger"] == [(112, 112)]
    assert sides["face + eyes + mouth"] == [(96, 96), (64, 128), (64, 96)]
    assert sides[script.EARLY] == [(96, 96)] * 3
    regions = {
        name: view.region for each in rows.values() for name, view in each.model.views.items()
    }
    assert {name: region for name, region in regions.items() if region != name} == {
        script.LARGER: "face", "eyes_square": "eyes", "mouth_square": "mouth"
    }  # fmt: skip
    # The only view must not be withheld.
    assert {row: each.model.view_dropout for row, each in rows.items()} == {
        row: 0.1 if " + " in row else 0 for row in rows
    }
    assert {row for row, each in rows.items() if each.model.fusion == "early"} == {script.EARLY}
    assert {(each.seed, each.bootstrap.seed, each.epochs) for each in rows.values()} == {(7, 7, 3)}


def test_a_row_starts_as_the_trained_network_without_the_views_that_it_lacks(
    script: ModuleType, recipe: Any
) -> None:
    from agebench.train.networks import MultiCropResNet

    torch.manual_seed(1)
    own = MultiCropResNet(recipe.model).eval()
    with torch.no_grad():
        for row in own.absent.values():
            row.uniform_(-1, 1)
    every = script.all_views(recipe)
    every = replace(
        every, model=replace(every.model, views={**every.model.views, **recipe.model.views})
    )
    pixels = {
        name: torch.rand(2, 3, *view.size_hw) * 255 for name, view in recipe.model.views.items()
    }
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)

    def started(row: str, **given: Any) -> Any:
        settings = script.row_settings(every, row, 0, 1)
        model = script.started_network(settings, own).eval()
        return model(given, dict.fromkeys(given, ones)).final.detach()

    def shown(*names: str) -> Any:
        present = {name: ones if name in names else zeros for name in pixels}
        return own(pixels, present).final.detach()

    for views in (("face",), ("face", "eyes"), ("face", "mouth"), ("face", "eyes", "mouth")):
        torch.testing.assert_close(
            started(" + ".join(views), **{name: pixels[name] for name in views}), shown(*views)
        )
    assert not torch.equal(shown("face"), shown("face", "eyes"))
    # Two crops of one stream count half each.
    both = {"eye_left": pixels["eyes"], "eye_right": pixels["eyes"]}
    torch.testing.assert_close(
        started(
            "face + left eye + right eye + mouth",
            face=pixels["face"], mouth=pixels["mouth"], **both,
        ),
        shown("face", "eyes", "mouth"),
    )  # fmt: skip
    # The whole picture takes its part from the face: shown the face again, it changes nothing.
    torch.testing.assert_close(
        started("face + eyes + mouth + original", **pixels, original=pixels["face"]),
        shown("face", "eyes", "mouth"),
    )


def test_early_fusion_starts_from_the_face_alone(script: ModuleType, recipe: Any) -> None:
    from agebench.train.networks import MultiCropResNet

    torch.manual_seed(1)
    own = MultiCropResNet(recipe.model).eval()
    settings = script.row_settings(script.all_views(recipe), script.EARLY, 0, 1)
    model = script.started_network(settings, own).eval()
    pixels = torch.rand(2, 3, 96, 96) * 255
    views = dict.fromkeys(("face", "eyes_square", "mouth_square"), pixels)
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)
    with torch.no_grad():
        alone = model(views, {**dict.fromkeys(views, zeros), "face": ones}).final
        of_own = own(
            {"face": pixels, "eyes": torch.rand(2, 3, 64, 128), "mouth": torch.rand(2, 3, 64, 96)},
            {"face": ones, "eyes": zeros, "mouth": zeros},
        ).final
        together = model(views, dict.fromkeys(views, ones)).final
    torch.testing.assert_close(alone, of_own)
    assert not torch.allclose(together, alone)


def test_rows_see_the_crops_that_they_would_gather_themselves(
    script: ModuleType, recipe: Any
) -> None:
    from agebench.datasets.base import limit
    from agebench.registry.plugins import load_dataset, load_detector
    from agebench.train.batches import plain_views
    from agebench.train.face_cache import gather_faces

    every = script.all_views(recipe)
    people, detector = limit(load_dataset("sample"), 2), load_detector("aligned")
    gathered = gather_faces(people, detector, every.model.crop)
    for row in script.ROWS:
        crop = script.row_settings(every, row, 0, 1).model.crop
        own = gather_faces(people, detector, crop)
        of_all, of_row = (
            next(iter(plain_views(faces, crop, torch.device("cpu"), 2, mirrored=False)))
            for faces in (gathered, own)
        )
        for name, pixels in of_row.pixels.items():
            assert pixels.std() > 10
            torch.testing.assert_close(of_all.pixels[name], pixels)


def test_normalisations_are_set_without_changing_an_answer(script: ModuleType, recipe: Any) -> None:
    from agebench.datasets.base import limit
    from agebench.registry.plugins import load_dataset, load_detector
    from agebench.train.face_cache import gather_faces
    from agebench.train.networks import MultiCropResNet

    every = replace(script.all_views(recipe), batch=4)
    settings = script.row_settings(every, "face + mouth", 0, 1)
    faces = gather_faces(
        limit(load_dataset("sample"), 8), load_detector("aligned"), every.model.crop
    )
    torch.manual_seed(1)
    model = MultiCropResNet(settings.model).eval()
    pixels = {
        name: torch.rand(3, 3, *view.size_hw) * 255 for name, view in settings.model.views.items()
    }
    present = dict.fromkeys(pixels, torch.ones(3, 1))
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:  # as in a file
        layer.weight.data.fill_(1.0)
        layer.running_var.fill_(1.0 - layer.eps)
    before = model(pixels, present).final.detach()
    assert norms
    found = script.normalised(model, settings, faces)
    assert any(layer.running_mean.any() for layer in norms)
    torch.testing.assert_close(found(pixels, present).final.detach(), before, atol=1e-3, rtol=1e-3)
