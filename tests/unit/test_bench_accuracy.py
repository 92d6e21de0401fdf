"""The accuracy pass on tiny pictures whose colour says what detector and estimators will do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.datasets.base import SampleList
from agebench.errors import UsageError
from agebench.harness.accuracy import PassSettings, predicted_class, run_accuracy
from agebench.harness.columns import Columns, columns_of
from agebench.harness.compare import compare
from agebench.harness.records import ImageRecord, image_json
from agebench.harness.scores import common_subset, score_estimator
from agebench.harness.settings import CompareSettings
from agebench.metrics.age_classes import ADIENCE_CLASSES as ADIENCE
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.types import (
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    Image,
    Sample,
    ViewSpec,
)
from agebench.vision import crops

NO_FACE, DETECTOR_BREAKS, POISON = 1, 2, 77
CENTRED = Face((10.0, 10.0, 30.0, 30.0), 0.9)
OVER_THE_BORDER = Face((-20.0, 0.0, 20.0, 40.0), 0.8)
SMALL = Face((12.0, 12.0, 14.0, 14.0), 1.0)


class ColourDetector:
    """Blue says whether there is a face, red = 9 puts it over the border."""

    def __init__(self) -> None:
        self.spec = DetectorSpec("colour")
        self.calls: Counter[int] = Counter()

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        blue, _, red = (int(value) for value in image_bgr[0, 0])
        self.calls[blue] += 1
        if blue == DETECTOR_BREAKS:
            raise RuntimeError("boom")
        if blue == NO_FACE:
            return []
        return [SMALL, OVER_THE_BORDER if red == 9 else CENTRED]


class Shade:
    """Says the blue of the crop as the age."""

    def __init__(self, name: str = "shade", crop: CropSpec | None = None) -> None:
        crop = crop or CropSpec({"face": ViewSpec("face", (4, 4))})
        self.spec = EstimatorSpec(name, crop, decode="blue")
        self.batches: list[int] = []

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        self.batches.append(len(crops))
        return [AgePrediction(float(pixels[2, 2, 0])) for pixels in crops.views["face"]]


class FailsOnPoison(Shade):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        if (crops.views["face"][..., 0] == POISON).any():
            raise ZeroDivisionError("poison")
        return super().predict(crops)


class AlwaysFails(Shade):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        raise RuntimeError("never works")


class Answers(Shade):
    """Says whatever the test wants."""

    def __init__(self, name: str, answer: Callable[[int], Any]) -> None:
        super().__init__(name)
        self._answer = answer

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        answer: Sequence[AgePrediction] = self._answer(len(crops))
        return answer


def _picture(folder: Path, name: str, blue: int, true: float | None, red: int = 0) -> Sample:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:] = (red, 0, blue)  # Pillow takes R, G, B
    path = folder / f"{name}.png"
    PillowImage.fromarray(pixels).save(path)
    return Sample(path, path.name, true)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    text = tmp_path / "e.jpg"
    text.write_text("no picture")
    return [
        _picture(tmp_path, "a", 25, 20.0),
        _picture(tmp_path, "b", 28, 30.0, red=9),
        _picture(tmp_path, "c", NO_FACE, 50.0),
        _picture(tmp_path, "d", DETECTOR_BREAKS, 60.0),
        Sample(text, "e.jpg", 70.0),
        _picture(tmp_path, "f", POISON, 70.0),
        _picture(tmp_path, "g", 46, 40.0),
    ]


def _how(batch_size: int = 32, workers: int = 0) -> PassSettings:
    return PassSettings(batch_size, workers, max_pixels=10_000)


def _pass(samples: Sequence[Sample], *what: Any) -> list[ImageRecord]:
    return [record for group in run_accuracy(samples, *what) for record in group]


def _columns(records: Sequence[ImageRecord], *names: str) -> Columns:
    return columns_of([image_json(record, names) for record in records], names)


def _years(records: Sequence[ImageRecord], index: int) -> dict[str, float | None]:
    return {
        record.sample.name: record.outcomes[index].years
        for record in records
        if index in record.outcomes
    }


def test_every_picture_gets_its_status_and_reason(samples: list[Sample]) -> None:
    records = _pass(samples, ColourDetector(), [Shade()], _how())
    assert [record.status for record in records] == [
        "ok",
        "ok",
        "no_face",
        "detector_failed",
        "unreadable",
        "ok",
        "ok",
    ]
    assert records[3].reason == "detector 'colour': RuntimeError: boom"
    assert "expected a picture" in records[4].reason
    assert all(record.sha256 for record in records)


def test_the_largest_face_is_used_and_all_are_counted(samples: list[Sample]) -> None:
    record = _pass(samples[:1], ColourDetector(), [Shade()], _how())[0]
    assert (record.box_xyxy, record.score, record.faces) == (CENTRED.box_xyxy, 0.9, 2)
    assert record.frame_from == "box"


def test_hand_computed_figures(samples: list[Sample]) -> None:
    estimators = [Shade(), FailsOnPoison("flaky")]
    records = _pass(samples, ColourDetector(), estimators, _how())
    columns = _columns(records, "shade", "flaky")
    common = common_subset(columns)
    names = [record.sample.name for record, shared in zip(records, common, strict=True) if shared]
    assert names == ["a.png", "b.png", "g.png"]

    shade = score_estimator(columns, common, "shade", None)
    # |25-20|, |28-30|, |46-40| on the common ones; |77-70| = 7 is shade's alone.
    assert shade.errors.n == 3
    assert shade.errors.mae_years == pytest.approx((5 + 2 + 6) / 3)
    assert shade.errors.bias_years == pytest.approx((5 - 2 + 6) / 3)
    assert shade.errors.median_years == 5
    assert shade.errors.rmse_years == pytest.approx(np.sqrt((25 + 4 + 36) / 3))
    assert shade.own_errors.mae_years == pytest.approx((5 + 2 + 6 + 7) / 4)
    assert (shade.scored, shade.missed, shade.failed, shade.clipped) == (4, 1, 2, 1)

    flaky = score_estimator(columns, common, "flaky", None)
    assert flaky.errors.mae_years == shade.errors.mae_years
    assert (flaky.scored, flaky.missed, flaky.failed, flaky.clipped) == (3, 1, 3, 1)


def test_one_bad_face_spoils_no_other_of_its_batch(samples: list[Sample]) -> None:
    records = _pass(samples, ColourDetector(), [FailsOnPoison()], _how())
    assert _years(records, 0) == {"a.png": 25, "b.png": 28, "f.png": None, "g.png": 46}
    bad = next(record for record in records if record.sample.name == "f.png")
    assert bad.outcomes[0].status == "estimator_failed"
    assert bad.outcomes[0].reason == "ZeroDivisionError: poison"


def test_an_estimator_that_always_fails_does_not_empty_the_common_subset(
    samples: list[Sample],
) -> None:
    estimators = [Shade(), AlwaysFails("dead")]
    records = _pass(samples, ColourDetector(), estimators, _how())
    columns = _columns(records, "shade", "dead")
    common = common_subset(columns)
    assert common.sum() == 4
    dead = score_estimator(columns, common, "dead", None)
    assert (dead.scored, dead.failed, dead.errors.n) == (0, 6, 0)
    assert dead.errors.mae_years is None


def test_nobody_alive_gives_an_empty_subset(samples: list[Sample]) -> None:
    records = _pass(samples, ColourDetector(), [AlwaysFails()], _how())
    assert not common_subset(_columns(records, "dead")).any()


class _Duck:
    years = float("nan")
    probabilities = None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda n: [AgePrediction(3.0)] * (n + 1),
            "estimator 'odd': predict must return one prediction per face: expected 1, got 2",
        ),
        (
            lambda n: [],
            "estimator 'odd': predict must return one prediction per face: expected 1, got 0",
        ),
        (lambda n: [40.0] * n, "must return AgePrediction values, got float"),
        (lambda n: [_Duck()] * n, "must return AgePrediction values, got _Duck"),
        (lambda n: None, "must return a list of agebench.AgePrediction, got NoneType"),
        (lambda n: [AgePrediction(float("nan"))], "age must be"),
    ],
)
def test_wrong_answers_are_failures(
    samples: list[Sample], answer: Callable[[int], Any], reason: str
) -> None:
    estimators = [Shade(), Answers("odd", answer)]
    records = _pass(samples, ColourDetector(), estimators, _how())
    assert _years(records, 0) == {"a.png": 25, "b.png": 28, "f.png": 77, "g.png": 46}
    odd = [record.outcomes[1] for record in records if record.status == "ok"]
    assert [outcome.status for outcome in odd] == ["estimator_failed"] * 4
    assert all(reason in outcome.reason for outcome in odd)


def test_a_distribution_that_does_not_fit_the_bins_is_a_failure(samples: list[Sample]) -> None:
    wrong = Answers("wrong", lambda n: [AgePrediction(3.0, np.full(9, 1 / 9))] * n)
    wrong.spec = replace(wrong.spec, bins=ADIENCE, classes=ADIENCE)
    records = _pass(samples[:1], ColourDetector(), [wrong], _how())
    said = "estimator 'wrong': expected 8 probabilities (spec.bins), got 9"
    assert records[0].outcomes[0].reason == said
    wrong.spec = replace(wrong.spec, bins=None, classes=None)
    records = _pass(samples[:1], ColourDetector(), [wrong], _how())
    said = "estimator 'wrong': a prediction with probabilities needs spec.bins"
    assert records[0].outcomes[0].reason == said


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batches_and_workers_change_nothing(
    samples: list[Sample], batch_size: int, workers: int
) -> None:
    many = [
        replace(sample, name=f"{number:02d}-{sample.name}")
        for number in range(5)
        for sample in samples
    ]
    estimator = Shade()
    records = _pass(
        many, ColourDetector(), [estimator, FailsOnPoison("flaky")], _how(batch_size, workers)
    )
    assert [record.sample.name for record in records] == [sample.name for sample in many]
    for number in range(5):
        part = records[number * 7 : number * 7 + 7]
        assert list(_years(part, 0).values()) == [25, 28, 77, 46]
        assert list(_years(part, 1).values()) == [25, 28, None, 46]
    assert max(estimator.batches) == min(batch_size, 20)
    assert sum(estimator.batches) == 20


def test_detection_runs_once_per_picture(samples: list[Sample]) -> None:
    detector = ColourDetector()
    _pass(samples, detector, [Shade("one"), Shade("two"), Shade("three")], _how())
    assert detector.calls == {25: 1, 28: 1, NO_FACE: 1, DETECTOR_BREAKS: 1, POISON: 1, 46: 1}


def test_equal_crop_specs_are_cut_once(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[CropSpec] = []
    real = crops.cut_crops

    def counting(image: Image, frames: Any, spec: CropSpec) -> Crops:
        cut.append(spec)
        return real(image, frames, spec)

    monkeypatch.setattr(crops, "cut_crops", counting)
    larger = CropSpec({"face": ViewSpec("face", (8, 8))})
    estimators = [Shade("one"), Shade("larger", larger), Shade("two")]
    records = _pass(samples[:1], ColourDetector(), estimators, _how())
    assert cut == [estimators[0].spec.crop, larger]
    assert [records[0].outcomes[index].years for index in range(3)] == [25, 25, 25]


def test_a_picture_that_cannot_be_cut_is_listed_and_the_run_goes_on(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = crops.cut_crops

    def breaks(image: Image, frames: Any, spec: CropSpec) -> Crops:
        if image[0, 0, 0] == 25:
            raise RuntimeError("too odd")
        return real(image, frames, spec)

    monkeypatch.setattr(crops, "cut_crops", breaks)
    records = _pass(samples, ColourDetector(), [Shade()], _how())
    assert (records[0].status, records[0].reason) == ("crop_failed", "RuntimeError: too odd")
    assert _years(records, 0) == {"b.png": 28, "f.png": 77, "g.png": 46}
    columns = _columns(records, "shade")
    assert score_estimator(columns, common_subset(columns), "shade", None).failed == 3


def test_a_face_without_any_view_is_not_asked_about(samples: list[Sample]) -> None:
    class Elsewhere(ColourDetector):
        def detect(self, image_bgr: Image, /) -> Sequence[Face]:
            return [Face((900.0, 900.0, 950.0, 950.0), 1.0)]

    estimator = Shade()
    records = _pass(samples[:1], Elsewhere(), [estimator], _how())
    assert records[0].outcomes[0].status == "missing_view"
    assert "face" in records[0].outcomes[0].reason
    assert estimator.batches == []
    columns = _columns(records, "shade")
    assert score_estimator(columns, common_subset(columns), "shade", None).failed == 1


def test_progress_counts_every_picture(samples: list[Sample]) -> None:
    steps: list[tuple[str, int, int]] = []

    def note(stage: str, done: int, total: int) -> None:
        steps.append((stage, done, total))

    _pass(samples, ColourDetector(), [Shade()], _how(), note)
    assert steps == [("accuracy", number, 7) for number in range(1, 8)]


def test_predicted_class_in_bins_and_in_years() -> None:
    spec = EstimatorSpec("x", CropSpec(), "d", bins=ADIENCE, classes=ADIENCE)
    shares = np.array([0.0, 0.1, 0.0, 0.0, 0.7, 0.2, 0.0, 0.0])
    assert predicted_class(AgePrediction(30.0, shares), spec) == 4
    yearly = replace(spec, bins=AgeBins.single_years(1, 100))
    peaks = np.zeros(100)
    peaks[[25, 50, 51]] = 0.5, 0.26, 0.24  # 26 years, and 51 and 52 together as much
    assert predicted_class(AgePrediction(38.0, peaks), yearly) in (4, 6)
    assert predicted_class(AgePrediction(38.0), yearly) is None
    assert predicted_class(AgePrediction(38.0, peaks), replace(yearly, classes=None)) is None


def _compare(samples: list[Sample], *estimators: Any, **settings: Any) -> Any:
    dataset = SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))
    settings = {"latency_pictures": 0, **settings}
    return compare(
        list(estimators), dataset, detector=ColourDetector(), settings=CompareSettings(**settings)
    )


def test_compare_takes_objects(samples: list[Sample]) -> None:
    result = _compare(samples, Shade(), "constant years=30")
    assert [item.name for item in result.estimators] == ["shade", "constant years=30"]
    # |20-30|, |30-30|, |70-30|, |40-30|
    assert result.estimators[1].mae_years == pytest.approx(60 / 4)
    assert result.common == 4
    assert result.latency is None


def test_compare_scores_ranges(tmp_path: Path) -> None:
    in_range = replace(_picture(tmp_path, "a", 25, None), age_range=(20, 29))
    below = replace(_picture(tmp_path, "b", 25, None), age_range=(30, 39))
    score = _compare([in_range, below], Shade()).estimators[0].score
    assert (score.ranges.n, score.ranges.hit_rate, score.ranges.distance_years) == (2, 0.5, 2.5)
    assert score.errors.n == 0


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        ([], "no estimator was given"),
        ("constant", "expected a list of estimators"),
        ([3], "expected an estimator or its name, got int"),
        (["constant", "constant"], "given twice"),
        (["constant", " constant "], "given twice"),
    ],
)
def test_wrong_estimator_lists_are_usage_errors(
    samples: list[Sample], estimators: Any, message: str
) -> None:
    dataset = SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))
    with pytest.raises(UsageError, match=message):
        compare(estimators, dataset, detector=ColourDetector())


def test_what_is_no_data_set_or_detector_is_a_usage_error(samples: list[Sample]) -> None:
    anything: Any = 3
    dataset = SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))
    with pytest.raises(UsageError, match=r"data set.*got int"):
        compare(["constant"], anything, detector=ColourDetector())
    with pytest.raises(UsageError, match=r"detector.*got int"):
        compare(["constant"], dataset, detector=anything)


def test_an_unknown_region_is_refused_before_anything_runs(samples: list[Sample]) -> None:
    detector = ColourDetector()
    odd = Shade("odd", CropSpec({"face": ViewSpec("fase")}))
    dataset = SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))
    with pytest.raises(UsageError, match=r"unknown region 'fase'.*did you mean 'face'"):
        compare([odd], dataset, detector=detector)
    assert not detector.calls
