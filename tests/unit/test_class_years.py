"""Tables of years per class: fitted on a training part, written, read and refused."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench import load_estimator
from agebench.cli import main
from agebench.datasets.base import SampleList
from agebench.errors import AgebenchError, UsageError
from agebench.export.random_age_net import random_age_net
from agebench.fitting.class_years import fit_years
from agebench.harness.settings import CompareSettings
from agebench.metrics.age_classes import ADIENCE_CLASSES, fit_class_years, years_from_classes
from agebench.metrics.class_years import (
    LARGEST_BYTES,
    ClassYears,
    deciding_settings,
    make_class_years,
    read_class_years,
    require_training_part,
)
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.splits.building import build_split
from agebench.splits.parts import part
from agebench.types import (
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    Floats,
    Image,
    Sample,
    ViewSpec,
    WeightsFile,
)

THREE = AgeBins((0, 10, 30), (9, 29, 99))


def shares(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).dirichlet([0.5, 0.5, 0.5], n)


def test_midpoint_is_the_median_age_of_the_most_probable_class() -> None:
    given = [[0.8, 0.1, 0.1], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]
    fitted = fit_class_years(given, [2, 30, 8, 50], THREE, "midpoint")
    assert fitted.tolist() == [8.0, 19.5, 50.0]  # nobody in the second: its midpoint


def test_midpoint_has_the_least_mean_absolute_error() -> None:
    given, true = shares(200), np.random.default_rng(1).uniform(0, 100, 200)
    fitted = fit_class_years(given, true, THREE, "midpoint")

    def error(years: Floats) -> float:
        return float(np.abs(years_from_classes(given, THREE, "midpoint", years) - true).mean())

    best = error(fitted)
    for index in range(3):
        for step in (-3.0, -0.5, 0.5, 3.0):
            moved = fitted.copy()
            moved[index] += step
            assert error(moved) >= best - 1e-12


def test_expectation_finds_the_years_that_made_the_ages() -> None:
    given = shares(5000)
    fitted = fit_class_years(given, given @ [4.0, 22.0, 61.0], THREE, "expectation")
    assert fitted == pytest.approx([4.0, 22.0, 61.0], abs=0.2)


def test_expectation_agrees_with_normal_equations_where_no_bound_holds() -> None:
    given, true = shares(300, 4), np.random.default_rng(5).uniform(20, 60, 300)
    left = given.T @ given + np.eye(3)
    expected = np.linalg.solve(left, given.T @ true + THREE.midpoints)
    assert expected.min() > 0
    assert fit_class_years(given, true, THREE, "expectation") == pytest.approx(expected)


def test_expectation_stays_possible_and_keeps_what_is_never_given() -> None:
    given = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0]] * 50)
    true = np.array([0.0, 10.0] * 50)
    fitted = fit_class_years(given, true, THREE, "expectation")
    assert fitted[0] == 0.0  # unbounded it would be -50
    assert 0 <= fitted[1] <= 120
    assert fitted[2] == pytest.approx(64.5)


def test_wrong_fits_name_their_argument() -> None:
    with pytest.raises(ValueError, match=r"^true_years: expected ages .*got 121.0 at \[1\]"):
        fit_class_years(shares(2), [3, 121], THREE, "midpoint")
    with pytest.raises(ValueError, match="probabilities: 3, true_years: 2"):
        fit_class_years(shares(3), [1, 2], THREE, "expectation")
    with pytest.raises(ValueError, match=r"^true_years: .*got none$"):
        fit_class_years(np.empty((0, 3)), [], THREE, "expectation")
    with pytest.raises(UsageError, match=r"'midpiont'.*did you mean 'midpoint'"):
        fit_class_years(shares(1), [1], THREE, "midpiont")  # type: ignore[arg-type]  # on purpose


def test_expectation_keeps_below_the_largest_age() -> None:
    given = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0]] * 50)
    fitted = fit_class_years(given, np.array([120.0, 100.0] * 50), THREE, "expectation")
    assert fitted[0] == 120.0  # unbounded it would be 220
    assert 90 < fitted[1] < 120


def test_impossible_fits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one age"):
        fit_class_years(np.empty((0, 3)), [], THREE, "midpoint")
    with pytest.raises(ValueError, match="equal lengths"):
        fit_class_years(shares(3), [1, 2], THREE, "midpoint")
    with pytest.raises(UsageError, match="unknown rule 'mode'"):
        fit_class_years(shares(1), [1], THREE, "mode")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "wrong",
    [
        "test",
        "val",
        "train+test",
        "fold-3",
        "person-001",
        "train+val",
        "",
        "not-train",
        "train+not-test",
        "Test",
        "Fold-3",
        "train+",
        "not-Fold-x",
        "FOLD-12",
    ],
)
def test_parts_that_are_scored_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=f"part '{re.escape(wrong)}' is for testing"):
        require_training_part(wrong)


def test_training_parts_are_taken() -> None:
    for good in ("train", "not-fold-0", "not-person-001", "train+extra"):
        require_training_part(good)


class Whole:
    def __init__(self) -> None:
        self.spec = DetectorSpec("whole")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        height, width = image_bgr.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]


class ByBrightness:
    """Says the class by how bright the picture is: dark, middle, bright."""

    def __init__(self, decode: str = "midpoint", **settings: Any) -> None:
        crop = CropSpec({"face": ViewSpec("face", (4, 4))})
        self.spec = EstimatorSpec(
            "bright", crop, decode, bins=THREE, classes=THREE, settings=settings
        )

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        level = crops.views["face"].mean(axis=(1, 2, 3)) // 86
        return [AgePrediction(30.0, np.eye(3)[int(index)]) for index in level]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SampleList:
    """90 pictures of noise: 30 dark ones of 0 to 29 years, 30 of middle brightness, 30 bright."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(8)
    samples = []
    for index in range(90):
        middle = (43, 129, 212)[index // 30]
        pixels = noise.integers(middle - 40, middle + 40, (16, 16, 3)).astype(np.uint8)
        path = folder / f"{index:02d}.png"
        PillowImage.fromarray(pixels).save(path)
        samples.append(Sample(path, path.name, float(index)))
    return SampleList(DatasetSpec("tiny", "apparent"), tuple(samples))


def settings(**changes: Any) -> CompareSettings:
    return CompareSettings(**{"protocol": "holdout stratify=no", "part": "train", **changes})


def test_only_the_training_part_is_fitted_to(dataset: SampleList, tmp_path: Path) -> None:
    trained = part(dataset, build_split("holdout", dataset, {"stratify": False}), "train").samples
    assert 0 < len(trained) < 90
    table = fit_years(ByBrightness(), dataset, detector=Whole(), settings=settings())
    by_class: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for item in trained:
        index = int(item.name[:2])
        by_class[index // 30].append(float(index))
    assert table.years == tuple(float(np.median(by_class[index])) for index in range(3))
    assert (table.protocol, table.part, table.pictures) == ("holdout", "train", len(trained))
    assert (table.rule, table.label_kind) == ("midpoint", "apparent")
    assert table.likeliest == tuple(len(by_class[index]) for index in range(3))
    digest = hashlib.sha256()
    for item in trained:
        key = hashlib.sha256(item.path.read_bytes()).hexdigest()
        digest.update(f"{item.name}|{item.age_years}|{key}\n".encode())
    assert table.content_sha256 == digest.hexdigest()
    table.write(tmp_path / "table.json")
    again, key = read_class_years(tmp_path / "table.json")
    assert again == table
    assert key == hashlib.sha256((tmp_path / "table.json").read_bytes()).hexdigest()
    table.require_fit(ByBrightness().spec)


def test_a_table_is_for_one_network_and_one_way_of_using_it(dataset: SampleList) -> None:
    table = fit_years(ByBrightness(crops=1), dataset, detector=Whole(), settings=settings())
    table.require_fit(ByBrightness(crops=1, table="ab").spec)
    for other in (ByBrightness(crops=10), ByBrightness("expectation", crops=1), ByBrightness()):
        with pytest.raises(UsageError, match="does not fit bright"):
            table.require_fit(other.spec)


def test_wrong_fits_are_refused_before_they_begin(dataset: SampleList) -> None:
    for changes, message in (
        ({"part": "test"}, "for testing"),
        ({"part": None}, "needs a protocol and a training part"),
        ({"part": None, "protocol": None}, "needs a protocol"),
    ):
        with pytest.raises(UsageError, match=message):
            fit_years(ByBrightness(), dataset, detector=Whole(), settings=settings(**changes))
    with pytest.raises(UsageError, match="has no age classes"):
        fit_years("constant", dataset, detector=Whole(), settings=settings())
    with pytest.raises(UsageError, match="only midpoint and expectation"):
        fit_years(ByBrightness("median"), dataset, detector=Whole(), settings=settings())
    with pytest.raises(UsageError, match="already has a table of years"):
        fit_years(ByBrightness(table="x"), dataset, detector=Whole(), settings=settings())


GOOD: dict[str, Any] = {
    "format": "agebench-class-years",
    "version": 1,
    "classes": ["0-2", "4-6"],
    "years": [1, 5],
    "rule": "midpoint",
    "protocol": "mine",
    "part": "train",
    "pictures": 3,
    "content_sha256": "ab",
    "label_kind": "unknown",
    "weights_sha256": "cd",
    "settings": {},
}


def test_damaged_tables_get_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text(json.dumps(GOOD))
    assert read_class_years(file)[0].years == (1.0, 5.0)
    wrong: list[Any] = [
        {**GOOD, "years": [1]},
        {**GOOD, "years": [1, 500]},
        {**GOOD, "years": [1, float("nan")]},
        {**GOOD, "years": [1, "x"]},
        {**GOOD, "rule": "mode"},
        {**GOOD, "rule": None},
        {**GOOD, "pictures": 0},
        {**GOOD, "pictures": "many"},
        {**GOOD, "version": 2},
        {**GOOD, "settings": 3},
        {key: value for key, value in GOOD.items() if key != "part"},
        [GOOD],
        None,
    ]
    for content in wrong:
        file.write_text(json.dumps(content))
        with pytest.raises(AgebenchError, match="not a table of years"):
            read_class_years(file)
    for data in (b"", b"\xff\xd8", b"[" * 100_000):
        file.write_bytes(data)
        with pytest.raises(AgebenchError, match="not a table of years"):
            read_class_years(file)
    file.write_text(json.dumps({**GOOD, "part": "test"}))
    with pytest.raises(UsageError, match="for testing"):
        read_class_years(file)
    with pytest.raises(AgebenchError, match="expected a table of years"):
        read_class_years(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="expected at least one class"):
        ClassYears((), (), "midpoint", "mine", "train", 1, "ab")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"years": [1]}, "'agebench fit-years'): expected the years of 2 classes, got 1"),
        ({"classes": ["0-2"]}, "'agebench fit-years'): expected the years of 1 class, got 2"),
        ({"classes": [], "years": []}, "expected at least one class, got none"),
        (
            {"rule": "mode"},
            "fit-years'): unknown rule 'mode': known: expectation, midpoint",
        ),
        ({"format": "agebench-split"}, "format 'agebench-class-years', version 1"),
        ({"version": 2}, "format 'agebench-class-years', version 1"),
        ({"version": None}, "format 'agebench-class-years', version 1"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "table.json"
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(AgebenchError) as refused:
        read_class_years(file)
    told = str(refused.value)
    assert told.startswith(f"'{file}' is not a table of years")
    assert "agebench fit-years" in told
    assert said in told


def test_a_list_in_place_of_a_table_is_told_the_format(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text("[]")
    with pytest.raises(AgebenchError, match="format 'agebench-class-years', version 1"):
        read_class_years(file)


def test_a_table_may_not_be_larger_than_the_limit(tmp_path: Path) -> None:
    file, text = tmp_path / "table.json", json.dumps(GOOD)
    file.write_text(text + " " * (LARGEST_BYTES - len(text)))
    assert read_class_years(file)[0].years == (1.0, 5.0)
    file.write_text(text + " " * (LARGEST_BYTES - len(text) + 1))
    with pytest.raises(AgebenchError, match=r"1,000,000 bytes.*a table of years"):
        read_class_years(file)


def _table(**changes: Any) -> ClassYears:
    values: dict[str, Any] = {
        "classes": ("0-2", "4-6"),
        "years": (0.0, 120.0),
        "rule": "midpoint",
        "protocol": "mine",
        "part": "train",
        "pictures": 1,
        "content_sha256": "0123456789abcdef",
        "settings": {"crops": 1},
        "likeliest": (1, 0),
    }
    return ClassYears(**values | changes)


def test_limits_of_a_table_are_allowed_and_what_is_beyond_is_refused() -> None:
    assert _table().years == (0.0, 120.0)
    for years in ((-0.1, 5.0), (5.0, 120.1)):
        with pytest.raises(ValueError, match=r"years must be 0 to 120, got \("):
            _table(years=years)
    with pytest.raises(ValueError, match="fitted on 0 pictures"):
        _table(pictures=0)
    with pytest.raises(UsageError, match=r"part 'train\+val' is for testing"):
        _table(part="train+val")
    settings_of = _table().settings
    with pytest.raises(TypeError):
        settings_of["crops"] = 2  # type: ignore[index]  # it is read-only


def test_a_written_table_is_json_in_the_documented_order(tmp_path: Path) -> None:
    _table(weights_sha256="cd", label_kind="apparent").write(str(tmp_path / "table.json"))
    text = (tmp_path / "table.json").read_text()
    assert text.endswith("}\n")
    assert text.startswith('{\n "format": ')
    content = json.loads(text)
    assert content == {
        "format": "agebench-class-years",
        "version": 1,
        "classes": ["0-2", "4-6"],
        "years": [0.0, 120.0],
        "rule": "midpoint",
        "protocol": "mine",
        "part": "train",
        "pictures": 1,
        "content_sha256": "0123456789abcdef",
        "label_kind": "apparent",
        "weights_sha256": "cd",
        "settings": {"crops": 1},
    }
    assert list(content) == list(GOOD)


def test_few_pictures_and_years_in_the_wrong_order_are_doubts() -> None:
    assert _table(pictures=20).doubts() == ()
    few, order = _table(pictures=1, years=(9.0, 4.25)).doubts()
    assert few.startswith("fitted to 1 picture: at least 20")
    assert "4-6 (4.2) below 0-2 (9.0)" in order


def test_the_summary_says_what_a_table_was_fitted_on() -> None:
    told = _table(pictures=37).summary
    assert "mine/train" in told
    assert "37 pictures" in told
    assert "content 0123456789ab)" in told


def _spec(**changes: Any) -> EstimatorSpec:
    values: dict[str, Any] = {
        "name": "net",
        "crop": CropSpec({"face": ViewSpec("face", (4, 4))}),
        "decode": "midpoint",
        "bins": THREE,
        "classes": THREE,
        "weights": (WeightsFile("a.onnx", "ab" * 32), WeightsFile("b.onnx", "cd" * 32)),
        "settings": {"years": "midpoint", "table": "x", "crops": 10},
    }
    return EstimatorSpec(**values | changes)


def test_a_table_keeps_what_the_probabilities_depend_on() -> None:
    fitted_on = {"protocol": "mine", "part": "train", "pictures": 3, "content_sha256": "ab"}
    table = make_class_years(_spec(), [5, 20, 60], fitted_on)
    assert table.classes == ("0-9", "10-29", "30-99")
    assert (table.years, table.rule) == ((5.0, 20.0, 60.0), "midpoint")
    assert table.weights_sha256 == "ab" * 32
    assert set(table.settings) == {"crops", "crop"}
    assert table.settings["crops"] == 10
    view = json.loads(str(table.settings["crop"]))["views"]["face"]
    assert list(view) == sorted(view)
    assert (view["region"], view["size_hw"]) == ("face", [4, 4])
    assert dict(table.settings) == deciding_settings(_spec())
    assert make_class_years(_spec(weights=()), [5, 20, 60], fitted_on).weights_sha256 == ""
    with pytest.raises(ValueError, match="expected at least one class"):
        make_class_years(_spec(classes=None), [5, 20, 60], fitted_on)


@pytest.mark.parametrize(
    ("change", "made", "asked"),
    [
        ({"decode": "expectation"}, "years=midpoint", "years=expectation"),
        (
            {"weights": (WeightsFile("c.onnx", "ef" * 32),)},
            f"weights={'ab' * 32}",
            f"weights={'ef' * 32}",
        ),
        ({"weights": ()}, f"weights={'ab' * 32}", "weights=;"),
        ({"settings": {"crops": 1}}, "crops=10", "crops=1;"),
        ({"settings": {"crops": 10, "added": 7}}, "added=None", "added=7"),
        ({"settings": {}}, "crops=10", "crops=None"),
        ({"classes": None}, "classes=('0-9', '10-29', '30-99')", "classes=()"),
        ({"classes": ADIENCE_CLASSES}, "classes=('0-9', '10-29', '30-99')", "classes=('0-2',"),
    ],
)
def test_a_table_that_does_not_fit_says_in_what(
    change: dict[str, Any], made: str, asked: str
) -> None:
    fitted_on = {"protocol": "mine", "part": "train", "pictures": 3, "content_sha256": "ab"}
    table = make_class_years(_spec(), [5, 20, 60], fitted_on)
    table.require_fit(_spec())
    table.require_fit(_spec(name="other", settings={"crops": 10, "years": "x", "table": "y"}))
    with pytest.raises(UsageError) as refused:
        table.require_fit(_spec(**change))
    told = str(refused.value)
    assert told.startswith("the table of years does not fit net")
    before, _, after = told.partition(", not with ")
    assert made in before
    assert asked in after
    assert "agebench fit-years" in after


@pytest.mark.usefixtures("micro_age_net")
def test_the_command_fits_and_caffe_age_net_uses_it(
    dataset: SampleList, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, table = tmp_path / "random.caffemodel", tmp_path / "table.json"
    random_age_net(net, seed=11, micro=True)
    listed = tmp_path / "list.csv"
    rows = [f"{item.path},{item.age_years}" for item in dataset.samples[:24]]
    listed.write_text("path,age\n" + "\n".join(rows) + "\n")
    reference = f"caffe-age-net:{net}"
    call = ["fit-years", reference, "--dataset", "csv", "--root", str(listed)]
    call += ["--detector", "aligned", "--protocol", "holdout", "-o", str(table)]
    with pytest.raises(SystemExit) as ended:
        main(call)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "fitted on holdout/train" in printed
    assert "most probable for" in printed
    assert "likeliest" not in table.read_text()  # the format is as it was
    counts = re.findall(r"(\d+) pictures? ", printed.partition("fitted on")[0])
    assert len(counts) == len(ADIENCE_CLASSES)
    assert sum(map(int, counts)) == read_class_years(table)[0].pictures
    plain_net = load_estimator(reference)
    fitted = load_estimator(reference, table=table)
    years = read_class_years(table)[0].years
    assert len(years) == len(ADIENCE_CLASSES)
    crops = Crops(
        {"face": np.random.default_rng(1).integers(0, 255, (2, 227, 227, 3), np.uint8)},
        {"face": np.ones(2, np.bool_)},
        {"face": np.zeros(2)},
    )
    for before, after in zip(plain_net.predict(crops), fitted.predict(crops), strict=True):
        assert before.probabilities is not None
        assert after.probabilities == pytest.approx(before.probabilities)
        assert after.years == pytest.approx(float(before.probabilities @ np.array(years)))
    assert fitted.spec.settings["table"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert any("fitted on holdout/train" in note for note in fitted.spec.notes)
    with pytest.raises(UsageError, match="does not fit caffe-age-net"):
        load_estimator(reference, table=table, years="midpoint")
    with pytest.raises(UsageError, match="does not fit caffe-age-net"):
        load_estimator(reference, table=table, margin=0.3)
    with pytest.raises(SystemExit) as refused:
        main([*call, "--part", "test"])
    assert refused.value.code == 2
    assert "for testing" in capsys.readouterr().err
