"""The Adience benchmark on a tiny generated tree and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.datasets import adience
from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.export.random_age_net import random_age_net
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.types import AgePrediction, Crops, CropSpec, Sample, ViewSpec
from agebench.vision.images import read_image
from tests.unit.caffe_files import write_mean
from tests.unit.scripts import load_script

HEAD = "user_id\toriginal_image\tface_id\tage\tgender\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks.adience")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights and a mean image."""
    folder = tmp_path_factory.mktemp("weights")
    random_age_net(folder / "random.caffemodel", seed=0, micro=True)
    write_mean(folder / "mean.binaryproto", np.full((3, 256, 256), 110.0))
    return {"weights": folder / "random.caffemodel", "mean": folder / "mean.binaryproto"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures in two folds; one of them is not decodable."""
    root = tmp_path_factory.mktemp("adience")
    noise = np.random.default_rng(0)
    ages = ["(0, 2)", "(25, 32)"]
    for fold in (0, 3):
        lines = [HEAD]
        for face, age in enumerate(ages):
            lines.append(f"u{fold}@N0\tp.png\t{face}\t{age}\tf\n")
            path = root / "aligned" / f"u{fold}@N0" / f"landmark_aligned_face.{face}.p.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 256, (80 + fold, 60 + face, 3), np.uint8)
            PillowImage.fromarray(pixels).save(path)
        (root / f"fold_{fold}_data.txt").write_text("".join(lines), encoding="utf-8")
    (root / "aligned" / "u3@N0" / "landmark_aligned_face.1.p.png").write_bytes(b"no picture")
    return root


def run(script: ModuleType, tree: Path, files: dict[str, Path], *more: str) -> int:
    given = ["--data", str(tree), "--mean", str(files["mean"]), *more]
    return int(script.main(given))


@pytest.mark.usefixtures("micro_age_net")
def test_folds_are_scored_as_by_hand(
    script: ModuleType, tree: Path, files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "adience.json"
    more = ("--weights", str(files["weights"]), "--out", str(out))
    assert run(script, tree, files, *more) == 0
    printed = capsys.readouterr()
    assert "at least four of them" in printed.out
    assert "published 49.5 %" in printed.out
    assert "published 50.7 %" in printed.out
    assert "left out: " in printed.err
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["one_network_for_all_folds"] is True
    assert found["dataset"]["name"] == "adience"
    for crops in (1, 10):
        folds = found["crops"][str(crops)]["folds"]
        assert [(fold["fold"], fold["n"], fold["unreadable"]) for fold in folds] == [
            ("0", 2, 0),
            ("3", 1, 1),
        ]
        expected = _by_hand(script, tree, files, crops)
        assert [fold["exact"] for fold in folds] == pytest.approx([one for one, _ in expected])
        assert [fold["one_off"] for fold in folds] == pytest.approx([two for _, two in expected])
        mean = sum(one for one, _ in expected) / 2
        assert found["crops"][str(crops)]["exact"]["mean"] == pytest.approx(mean)


def _by_hand(
    script: ModuleType, tree: Path, files: dict[str, Path], crops: Any
) -> list[tuple[float, float]]:
    """Exact and one-off shares per fold, one picture at a time."""
    net = CaffeAgeNet(files["weights"], crops=crops, mean="image", mean_file=files["mean"])
    steps: dict[str, list[int]] = {"0": [], "3": []}
    for sample in adience.load(tree).samples:
        if sample.path.read_bytes() == b"no picture":
            continue
        pixels = script.whole_picture(read_image(sample.path), 256)
        assert pixels.shape == (256, 256, 3)
        (answer,) = net.predict(script.as_crops([pixels]))
        assert sample.age_range is not None
        true = ADIENCE_CLASSES.lows.index(sample.age_range[0])
        assert answer.probabilities is not None
        given = int(answer.probabilities.argmax())
        steps[sample.attributes["fold"]].append(abs(given - true))
    return [
        (sum(step == 0 for step in fold) / len(fold), sum(step <= 1 for step in fold) / len(fold))
        for fold in steps.values()
    ]


class _ByBrightness:
    """Answers with the class whose number is the picture's brightness divided by 20."""

    spec = SimpleNamespace(crop=CropSpec({"face": ViewSpec(size_hw=(256, 256))}))

    def predict(self, crops: Crops) -> list[AgePrediction]:
        brightness = crops.views["face"].mean(axis=(1, 2, 3)) / 20
        return [AgePrediction(1.0, np.eye(8)[round(float(value))]) for value in brightness]


def test_pictures_keep_to_their_labels_past_a_broken_one(
    script: ModuleType, tmp_path: Path
) -> None:
    samples = []
    for index in range(70):  # more than two chunks
        path = tmp_path / f"{index:02d}.png"
        shade = np.full((9, 7, 3), 20 * (index % 8), np.uint8)
        PillowImage.fromarray(shade).save(path)
        if index in (5, 40):
            path.write_bytes(b"")
        true = (index + (index < 8)) % 8  # the first eight are one class off, one of them seven
        labels = {"class": ADIENCE_CLASSES.labels[true]}
        samples.append(Sample(path, path.name, None, (0, 2), attributes=labels))
    score = script.score_fold(_ByBrightness(), "1", samples)
    assert (score.fold, score.n, score.unreadable) == ("1", 68, 2)
    assert score.exact == pytest.approx(61 / 68)
    assert score.one_off == pytest.approx(67 / 68)


def test_five_networks_score_their_own_folds(script: ModuleType) -> None:
    five = [Path(f"{fold}.caffemodel") for fold in range(5)]
    assert [script.network_of(five, str(fold)) for fold in range(5)] == five
    assert script.network_of(five[:1], "3") == five[0]
    assert script.network_of([], "3") is None


def test_the_summary_weighs_folds_equally(script: ModuleType) -> None:
    scores = [
        script.FoldScore("0", 1000, 0, 0.4, 0.8),
        script.FoldScore("1", 10, 0, 0.6, 1.0),
        script.FoldScore("2", 0, 3, None, None),
    ]
    assert script.summary(scores, "exact")["mean"] == pytest.approx(0.5)
    assert script.summary(scores, "exact")["sd"] == pytest.approx(0.02**0.5)
    assert script.summary(scores[2:], "exact") == {"mean": None, "sd": None}


@pytest.mark.usefixtures("micro_age_net")
def test_wrong_calls_are_one_sentence(
    script: ModuleType, tree: Path, files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    weights = ("--weights", str(files["weights"]))
    assert run(script, tree, files, *weights, *weights) == 2
    assert "once or 5 times, got 2" in capsys.readouterr().err
    assert run(script, tmp_path, files, *weights) == 1
    assert "needs the fold files" in capsys.readouterr().err
    assert run(script, tree, files, "--weights", str(tmp_path / "none.caffemodel")) == 1
    assert capsys.readouterr().err.startswith("error: ")
