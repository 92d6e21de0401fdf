"""predictions.csv alone is enough: a program of numpy alone computes every figure again."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.datasets.base import SampleList
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.harness.compare import compare
from agebench.harness.settings import CompareSettings
from agebench.metrics.age_classes import ADIENCE_CLASSES, class_of_age
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.types import AgeBins, AgePrediction, Crops, CropSpec, Face, Image, Sample, ViewSpec
from tests.unit.scripts import load_script

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "recompute.py"
YEARS = AgeBins(tuple(range(101)), tuple(range(101)))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks.recompute")


class _Detector:
    """The whole picture with five points; no face in pictures of one pixel."""

    spec = DetectorSpec("whole", "5-point")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        side = float(len(image_bgr))
        shares = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
        points = tuple((side * x, side * y) for x, y in shares)
        return [] if side == 1 else [Face((0.0, 0.0, side, side), 0.9, points, "5-point")]


class _Classes:
    """The Adience class by brightness, with a distribution; knows its training pictures."""

    def __init__(self, trained: TrainingHashes) -> None:
        crop = CropSpec({"face": ViewSpec("face", (4, 4))})
        self.spec = EstimatorSpec(
            "classes", crop, "midpoint", bins=ADIENCE_CLASSES, classes=ADIENCE_CLASSES
        )
        self._trained = trained

    def training_hashes(self) -> TrainingHashes:
        return self._trained

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        found = []
        for view in crops.views["face"]:
            index = int(view.mean() // 32)
            spread = np.full(8, 0.05)
            spread[index] = 0.65
            found.append(AgePrediction(float((1, 5, 10, 17, 28, 40, 50, 70)[index]), spread))
        return found


class _Bell:
    """A bell of years around the brightness; crops that reach far out; fails on dark faces."""

    def __init__(
        self, name: str = "bell", least: float = 4, trained: TrainingHashes | None = None
    ) -> None:
        crop = CropSpec({"face": ViewSpec("face", (4, 4), margin=0.1)})
        self.spec = EstimatorSpec(name, crop, "expectation", bins=YEARS)
        self._least, self._trained = least, trained

    def training_hashes(self) -> TrainingHashes | None:
        return self._trained

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        found = []
        for view in crops.views["face"]:
            middle = float(view.mean()) / 3
            if middle < self._least:
                raise ValueError("too dark")
            weights = np.exp(-0.5 * ((np.arange(101) - middle) / 6) ** 2)
            found.append(AgePrediction(middle, weights / weights.sum()))
        return found


def _pictures(folder: Path) -> SampleList:
    generator = np.random.default_rng(0)
    samples = []
    for number in range(90):
        side = 1 if number == 7 else 12
        grey = generator.integers(0, 255, (1, 1, 1)) + generator.integers(-3, 3, (side, side, 3))
        path = folder / f"{number:02d}, \u00e9.png"
        PillowImage.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)
        age = float(np.clip(grey.mean() / 3 + generator.normal(0, 5), 0, 100))
        labels: dict[str, Any] = {"age_years": round(age, 1)}
        if number % 10 == 3:
            labels = {"age_years": None, "age_range": (int(age), int(age) + 9)}
        samples.append(
            Sample(
                path,
                path.name,
                identity=f"person {number // 2}" if number < 80 else None,
                attributes={"gender": "female" if number % 3 else "male", 'a,"b\n': "c"},
                **labels,
            )
        )
    return SampleList(DatasetSpec("made-up", "birth-age"), tuple(samples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of four estimators on 90 made-up pictures, written down; one is not ranked."""
    where = tmp_path_factory.mktemp("recompute")
    pictures = _pictures(where)
    seen = [hashlib.sha256(one.path.read_bytes()).hexdigest() for one in pictures.samples[:30]]
    trained = TrainingHashes.of("mine", seen)
    compare(
        [_Classes(trained), _Bell(), "constant years=30", _Bell("seldom", 60, trained)],
        pictures,
        detector=_Detector(),
        out=where / "out",
        settings=CompareSettings(latency_pictures=0, batch_size=1),
    )
    return where / "out"


def _run(script: ModuleType, folder: Path, result: Path | None = None) -> tuple[int, list[str]]:
    said: list[str] = []
    check = str(result or folder / "result.json")
    main: Callable[..., int] = script.main
    return main([str(folder / "predictions.csv"), "--check", check], said.append), said


def test_every_figure_comes_out_again(script: ModuleType, folder: Path) -> None:
    code, said = _run(script, folder)
    assert said[-1] == "every figure is as stated", said
    assert code == 0
    content = json.loads((folder / "result.json").read_text("utf-8"))
    # Nothing that could go wrong is missing from what was compared.
    classes, bell, _, seldom = content["estimators"]
    assert (seldom["errors"]["n"], seldom["unseen_errors"]["n"] > 0) == (0, True)
    assert all((classes["classes"]["n"], classes["unseen_errors"]["n"], bell["missed"]))
    assert all((bell["clipped"], bell["failed"], bell["ranges"]["n"]))
    assert content["analysis"]["estimators"]["bell"]["calibration"]["n"]


def _bump(value: Any) -> Any:
    return value + 0.001 if isinstance(value, float) else value + 1


@pytest.mark.parametrize(
    "where",
    [
        "estimators.1.errors.mae_years",
        "estimators.1.errors.cs.5",
        "estimators.1.errors.by_decade.2.n",
        "estimators.1.own_errors.median_years",
        "estimators.0.unseen_errors.mae_years",
        "estimators.1.unclipped_errors.n",
        "estimators.0.classes.one_off",
        "estimators.1.ranges.distance_years",
        "estimators.1.failed",
        "analysis.estimators.bell.with_misses.mae_years",
        "analysis.estimators.bell.groups.4.n",
        "analysis.estimators.bell.calibration.crps_years",
        "analysis.estimators.bell.calibration.coverage.1.fraction",
        "analysis.estimators.bell.calibration.pit_counts.5",
        "analysis.estimators.classes.age_thresholds.24.false_stop_rate",
        "analysis.estimators.classes.buckets.exact",
        "analysis.estimators.bell.buckets.n_in_gap",
        "analysis.pairs.0.difference_years",
        "analysis.pairs.0.interval.1",
        "analysis.pairs.0.smallest_p",
        "analysis.pairs.0.swaps",
        "analysis.pairs.1.people",
        "estimators.1.errors.mae_interval.1",
        "estimators.1.errors.people",
        "estimators.1.errors.by_decade.2.people",
        "estimators.2.own_errors.mae_interval.0",
        "estimators.0.unseen_errors.mae_interval.1",
        "estimators.0.classes.people",
        "estimators.1.ranges.people",
        "analysis.estimators.bell.with_misses.people",
        "analysis.estimators.bell.groups.-1.mae_interval.0",
        "analysis.estimators.bell.calibration.coverage.1.interval.0",
        "analysis.estimators.classes.age_thresholds.24.false_stop_interval.0",
        "analysis.estimators.classes.age_thresholds.24.adult_people",
    ],
)
def test_a_figure_that_was_altered_is_named(
    script: ModuleType, folder: Path, tmp_path: Path, where: str
) -> None:
    content = json.loads((folder / "result.json").read_text("utf-8"))
    *path, last = where.split(".")
    at: Any = content
    for step in path:
        at = at[int(step)] if isinstance(at, list) else at[step]
    key: Any = int(last) if isinstance(at, list) else last
    at[key] = _bump(at[key])
    altered = tmp_path / "result.json"
    altered.write_text(json.dumps(content), encoding="utf-8")
    code, said = _run(script, folder, altered)
    assert code == 1
    assert said[-1] in ("1 figures differ", "2 figures differ"), said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"p_value": 0.2, "p_adjusted": 0.2}, "by swaps of our own"),
        ({"p_adjusted": 0.02}, "p_adjusted"),
        ({"verdict": "second better"}, "verdict"),
        ({"p_value": None, "p_adjusted": None, "verdict": "no verdict"}, "no test is stated"),
    ],
)
def test_a_test_that_was_altered_is_named(
    script: ModuleType, folder: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    content = json.loads((folder / "result.json").read_text("utf-8"))
    content["analysis"]["pairs"][0] |= change
    (altered := tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    code, said = _run(script, folder, altered)
    assert code == 1
    assert any(told in line for line in said), said


def test_tests_with_all_swaps_and_of_pictures_come_out_again(
    script: ModuleType, tmp_path: Path
) -> None:
    """Eleven people, each way of swapping; and pictures of nobody known."""
    pictures = _pictures(tmp_path)
    aged = [item for item in pictures.samples if item.age_years is not None][10:43]
    for known in (True, False):
        samples = tuple(
            replace(item, identity=str(at % 11) if known else None) for at, item in enumerate(aged)
        )
        out = tmp_path / f"known {known}"
        compare(
            [_Bell(), "constant years=30"],
            SampleList(pictures.spec, samples),
            detector=_Detector(),
            out=out,
            settings=CompareSettings(latency_pictures=0),
        )
        (pair,) = json.loads((out / "result.json").read_text("utf-8"))["analysis"]["pairs"]
        assert pair["all_swaps"] is known
        assert pair["people"] == (11 if known else None)
        code, said = _run(script, out)
        assert (code, said[-1]) == (0, "every figure is as stated"), said


def test_labels_that_describe_no_groups_are_left_out(script: ModuleType, tmp_path: Path) -> None:
    pictures = _pictures(tmp_path)
    samples = tuple(
        replace(item, name=f"{at:03}", attributes={"number": str(at), "decade": "nineties"})
        for at, item in enumerate([*pictures.samples, *pictures.samples])
    )
    compare(
        ["constant years=30"],
        SampleList(pictures.spec, samples),
        detector=_Detector(),
        out=tmp_path / "out",
        settings=CompareSettings(latency_pictures=0),
    )
    code, said = _run(script, tmp_path / "out")
    assert (code, said[-1]) == (0, "every figure is as stated"), said


def test_intervals_end_where_errors_do(script: ModuleType, tmp_path: Path) -> None:
    """One person with most of the pictures is missed by far: the formulas reach beyond 120."""
    pictures = _pictures(tmp_path)
    samples = tuple(
        replace(item, age_years=115.0 if at < 9 else 5.0, age_range=None, identity=f"{min(at, 9)}")
        for at, item in enumerate(pictures.samples[10:40])
    )
    compare(
        ["constant years=115", "constant years=4"],
        SampleList(pictures.spec, samples),
        detector=_Detector(),
        out=tmp_path / "out",
        settings=CompareSettings(latency_pictures=0),
    )
    content = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert content["estimators"][0]["errors"]["mae_interval"][1] == 120
    assert content["analysis"]["pairs"][0]["interval"][1] == 120
    code, said = _run(script, tmp_path / "out")
    assert (code, said[-1]) == (0, "every figure is as stated"), said


def test_the_oldest_class_ends_at_100_as_in_agebench(script: ModuleType) -> None:
    ages = np.array([59.9, 60.0, 100.9, 101.0, 116.0])
    assert script.adience_class(ages).tolist() == class_of_age(ages, ADIENCE_CLASSES).tolist()


def test_the_script_uses_nothing_but_numpy() -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else name.name) or ""
        for file in SCRIPT.parent.glob("recompute*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    roots = {name.split(".")[0] for name in imported}
    assert roots - sys.stdlib_module_names == {"numpy", "benchmarks"}


def test_the_table_holds_what_was_seen_of_each_face(folder: Path) -> None:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["picture"].startswith("00")]
    first = next(row for row in rows if row["estimator"] == "classes")
    points = [float(number) for number in first["landmarks_xy"].split()]
    assert first["landmark_scheme"] == "5-point"
    assert points[:2] == [pytest.approx(12 * 0.3), pytest.approx(12 * 0.4)]
    assert json.loads(first["attributes"]) == {"gender": "male", 'a,"b\n': "c"}
    assert first["seen_in_training"] == "yes"
    assert first["class_years"].split("-")[0].isdigit()
    bell = next(row for row in rows if row["estimator"] == "bell")
    assert bell["class_index"] == bell["class_years"] == bell["seen_in_training"] == ""
    assert float(bell["interval_80_low"]) <= float(bell["interval_80_high"])


@pytest.mark.parametrize("wrong", ["", "nothing.csv", "result.json"])
def test_a_table_that_is_none_is_one_sentence(
    script: ModuleType, folder: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main([str(folder / wrong)])
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "can't be read" in told or "expected the table of a comparison" in told
