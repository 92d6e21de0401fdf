"""From a picture to ages: inputs, answers, intervals, threads, defaults."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import agebench
from agebench.errors import (
    AgebenchError,
    ImageError,
    ModelError,
    UsageError,
    WeightsUnavailableError,
)
from agebench.prediction.predictor import (
    AgePredictor,
    ask,
    check_explainable,
    interval_of,
    moved_years,
)
from agebench.prediction.tiles import OVERLAP_PX, TILE_PX, detect_in_tiles, starts
from agebench.protocols import DetectorSpec, EstimatorSpec, FaceDetector
from agebench.registry import defaults
from agebench.types import (
    AgeBins,
    AgePrediction,
    Box,
    Crops,
    CropSpec,
    Face,
    Image,
    ViewSpec,
)
from agebench.util.foreign_code import found_faces
from agebench.vision.images import to_image

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
LEFT = Face((0.0, 0.0, 19.0, 19.0), 0.9)
RIGHT = Face((20.0, 0.0, 39.0, 19.0), 0.8)


@dataclass
class Fixed:
    """Finds the same faces everywhere, or raises."""

    faces: Sequence[Face] = (LEFT, RIGHT)
    error: Exception | None = None
    spec: DetectorSpec = field(default_factory=lambda: DetectorSpec("fixed"))

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        if self.error is not None:
            raise self.error
        return self.faces


@dataclass
class Blueness:
    """The age is the mean of the blue channel of the crop; 0 blue can't be told."""

    spec: EstimatorSpec = field(
        default_factory=lambda: EstimatorSpec(
            "blueness", CropSpec({"face": ViewSpec("face", (8, 8))}), "mean"
        )
    )

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        means = crops.views["face"][..., 0].mean(axis=(1, 2))
        if (means < 1).any():
            raise AgebenchError("no blue at all")
        return [AgePrediction(float(mean)) for mean in means]


def halves(left_blue: int, right_blue: int) -> Image:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, :20, 0], picture[:, 20:, 0] = left_blue, right_blue
    return picture


def test_each_face_gets_the_age_of_its_own_pixels() -> None:
    predictor = AgePredictor(Blueness(), detector=Fixed())
    answer = predictor.predict_one(halves(40, 80))
    assert [round(face.years or -1) for face in answer.faces] == [40, 80]
    assert [face.face for face in answer.faces] == [LEFT, RIGHT]
    assert answer.size_hw == (20, 40)
    assert answer.detector == "fixed"
    assert set(answer.stage_ms) == {"decode", "detect", "crop", "infer"}


def test_a_face_that_fails_does_not_touch_the_other() -> None:
    answer = AgePredictor(Blueness(), detector=Fixed()).predict_one(halves(0, 80))
    first, second = answer.faces
    assert (first.years, first.ages["blueness"].reason) == (None, "no blue at all")
    assert round(second.years or -1) == 80
    assert first.ages["blueness"].text == "?"
    line = json.loads(answer.to_line())
    assert line["faces"][0]["ages"]["blueness"]["years"] is None
    assert line["faces"][1]["box_xyxy"] == list(RIGHT.box_xyxy)


def test_all_kinds_of_input_give_the_same_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bgr = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    pillow = PillowImage.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))
    file = tmp_path / "a.png"
    pillow.save(file)
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    for given in (bgr, pillow, file, str(file), file.read_bytes()):
        assert np.array_equal(to_image(given), bgr)
    assert np.array_equal(to_image(rgb, channels="rgb"), bgr)
    wide = PillowImage.fromarray(bgr[:, :, 0].astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    assert np.array_equal(to_image(wide), np.repeat(bgr[:, :, :1], 3, axis=2))
    for mode in ("I", "F"):
        with pytest.raises(ImageError, match="32 bits"):
            to_image(pillow.convert("L").convert(mode))
    gray = to_image(bgr[:, :, 0])
    assert np.array_equal(gray, np.repeat(bgr[:, :, :1], 3, axis=2))
    turned = PillowImage.open(file)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    upside_down = to_image(PillowImage.open(tmp_path / "turned.png"))
    assert np.array_equal(upside_down, bgr[::-1, ::-1])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((4, 4, 3), np.float32), UsageError),
        (np.zeros((4, 4, 4), np.uint8), UsageError),
        (np.zeros((0, 4, 3), np.uint8), ImageError),
        (b"", ImageError),
        (b"no picture", ImageError),
        (17, UsageError),
        (None, UsageError),
    ],
)
def test_what_is_no_picture_is_one_sentence(given: object, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        to_image(given)  # type: ignore[arg-type]  # wrong on purpose
    assert "\n" not in str(caught.value)


def test_a_bad_picture_does_not_end_a_batch(tmp_path: Path) -> None:
    missing, folder = tmp_path / "gone.jpg", tmp_path
    predictor = AgePredictor("constant years=30", detector=Fixed())
    answers = predictor.predict([missing, halves(1, 2), folder, b"x"])
    assert [answer.status for answer in answers] == ["unreadable", "ok", "unreadable", "unreadable"]
    assert [len(answer.faces) for answer in answers] == [0, 2, 0, 0]
    assert answers[0].reason == "can't be read: No such file or directory"
    odd = [halves(1, 2), None, np.zeros((4, 4, 3)), np.zeros((40, 40, 4), np.uint8)]
    answers = predictor.predict(odd)  # type: ignore[arg-type]  # wrong on purpose
    assert [answer.status for answer in answers] == ["ok", *["unreadable"] * 3]
    assert [answer.reason.rpartition("got ")[2] for answer in answers[1:]] == [
        "NoneType",
        "float64 (4, 4, 3)",
        "uint8 (40, 40, 4)",
    ]
    with pytest.raises(UsageError, match="expected a path"):
        predictor.predict_one(None)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="list of pictures, got str"):
        predictor.predict(str(missing))


def test_a_detector_that_raises_is_a_status() -> None:
    predictor = AgePredictor("constant", detector=Fixed(error=ZeroDivisionError("by zero")))
    answer = predictor.predict_one(halves(1, 2))
    said = "detector 'fixed': ZeroDivisionError: by zero"
    assert (answer.status, answer.reason) == ("detector_failed", said)


def test_the_interval_holds_four_fifths() -> None:
    bins = AgeBins.single_years(10, 19)
    spec = EstimatorSpec("even", CropSpec(), "expectation", bins=bins)

    class Even:
        def __init__(self) -> None:
            self.spec = spec

        def predict(self, crops: Crops, /) -> list[AgePrediction]:
            return [AgePrediction(14.5, np.full(10, 0.1)) for _ in range(len(crops))]

    # A tenth below and a tenth above, of an even distribution over 9.5 to 19.5.
    assert interval_of(Even(), AgePrediction(14.5, np.full(10, 0.1))) == pytest.approx((10.5, 18.5))
    answer = AgePredictor(Even(), detector=Fixed((LEFT,))).predict_one(halves(1, 2))
    assert answer.faces[0].ages["even"].text == "14 (10-18)"
    assert interval_of(Blueness(), AgePrediction(14.5)) is None


def test_several_estimators_answer_side_by_side() -> None:
    predictor = AgePredictor(["constant years=20", "constant years=50"], detector=Fixed())
    (first, _) = predictor.predict_one(halves(1, 2)).faces
    assert {name: answer.years for name, answer in first.ages.items()} == {
        "constant years=20": 20.0,
        "constant years=50": 50.0,
    }
    with pytest.raises(UsageError, match="twice"):
        AgePredictor(["constant", "constant"], detector=Fixed())
    with pytest.raises(UsageError, match="no estimator"):
        AgePredictor([], detector=Fixed())
    with pytest.raises(UsageError, match="did you mean 'constant'"):
        AgePredictor("constnt", detector=Fixed())


@pytest.mark.parametrize("given", [5, object(), [5], ["constant", object()]])
def test_what_is_no_estimator_is_one_sentence(given: Any) -> None:
    with pytest.raises(UsageError, match=r"expected an estimator or its name, got (int|object)"):
        AgePredictor(given, detector=Fixed())
    with pytest.raises(UsageError, match=r"expected the name of an estimator, got (int|object)"):
        agebench.predict(halves(1, 2), estimator=given)


def test_settings_out_of_range_are_refused_before_any_picture() -> None:
    with pytest.raises(UsageError, match="max_pixels must be at least 1, got -1"):
        AgePredictor("constant", detector=Fixed(), max_pixels=-1)
    with pytest.raises(UsageError, match="channels must be 'bgr' or 'rgb', got 'gbr'"):
        AgePredictor("constant", detector=Fixed(), channels="gbr")  # type: ignore[arg-type]  # wrong on purpose


def test_threads_get_their_own_answers() -> None:
    predictor = AgePredictor(Blueness(), detector=Fixed())
    pictures = [halves(blue, blue + 1) for blue in range(1, 100)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(predictor.predict_one, pictures))
    assert [round(answer.faces[0].years or -1) for answer in answers] == list(range(1, 100))


def test_predict_is_public_and_raises_for_one_picture(tmp_path: Path) -> None:
    black = np.zeros((30, 30, 3), np.uint8)
    answer = agebench.predict(black, estimator="constant years=7", detector="aligned")
    assert [face.years for face in answer.faces] == [7.0]
    assert agebench.AgePredictor is AgePredictor
    with pytest.raises(ImageError, match=r"gone\.jpg: can't be read"):
        agebench.predict(tmp_path / "gone.jpg", estimator="constant", detector="aligned")
    with pytest.raises(ImageError, match="the file is empty"):
        agebench.predict(b"", estimator="constant", detector="aligned")


@pytest.mark.parametrize(
    ("missing", "chosen"),
    [
        ((), "yolov8-face@onnxruntime"),
        (("onnxruntime",), "yolov8-face"),
        (("yolov8-face",), "yunet"),
        (("onnxruntime", "yolov8-face"), "yunet"),
        (("yolov8-face", "yunet"), "haar"),
    ],
)
def test_the_best_detector_at_hand_is_taken_and_said(
    missing: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def load(reference: str) -> FaceDetector:
        name, _, runtime = reference.partition("@")
        tried.append(name)
        if runtime in missing:
            raise AgebenchError(f"{runtime} is not available. Install it")
        if name in missing:
            raise WeightsUnavailableError(f"{name} is not available (expected 1 byte):\n  x")
        return Fixed(spec=DetectorSpec(name))

    monkeypatch.setattr(defaults, "load_detector", load)
    name, detector, sentence = defaults.best_detector()
    assert (name, detector.spec.name) == (chosen, chosen.partition("@")[0])
    assert f"faces by {chosen}, the best" in sentence
    assert [sentence.count(f"{other} is not available") for other in missing] == [1] * len(missing)
    assert "\n" not in sentence
    # A file that is missing is not looked for again for another runtime.
    assert tried.count("yolov8-face") == 1 + ("onnxruntime" in missing)


def test_a_detector_that_is_there_and_broken_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "load_detector", _raising(ModelError("it is damaged")))
    with pytest.raises(ModelError, match="it is damaged"):
        defaults.best_detector()


def test_a_detector_asked_for_by_name_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "agebench.registry.plugins.load_detector",
        _raising(WeightsUnavailableError("yunet.onnx is not available")),
    )
    with pytest.raises(WeightsUnavailableError):
        AgePredictor("constant", detector="yunet")


def _raising(error: Exception) -> Callable[..., FaceDetector]:
    def load(name: str) -> FaceDetector:
        raise error

    return load


@dataclass
class TwoViews:
    """Sums ten years for each view that is there; `strict` accepts no missing one."""

    strict: bool = False

    @property
    def spec(self) -> EstimatorSpec:
        views = {"face": ViewSpec("face", (4, 4)), "eyes": ViewSpec("eyes", (2, 4))}
        return EstimatorSpec("two", CropSpec(views), "sum")

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        there = np.stack([crops.present["face"] * 10.0, crops.present["eyes"] * 3.0])
        if self.strict and not there.all():
            raise AgebenchError("a view is missing")
        return [AgePrediction(float(years)) for years in there.sum(axis=0)]


def test_leaving_a_view_out_says_what_it_moved() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    predictor = AgePredictor(TwoViews(), detector=Fixed((Face((20.0, 20.0, 80.0, 80.0), 1.0),)))
    face = predictor.predict_one(picture).faces[0].face
    crops = predictor.crops_of(picture, [face], TwoViews().spec.crop)
    assert moved_years(TwoViews(), crops) == [{"face": 10.0, "eyes": 3.0}]
    assert moved_years(TwoViews(strict=True), crops) == [{"face": None, "eyes": None}]
    check_explainable("two", TwoViews())
    with pytest.raises(UsageError, match="needs it"):
        check_explainable("two", TwoViews(strict=True))
    with pytest.raises(UsageError, match="uses only 'face'"):
        check_explainable("blueness", Blueness())


def test_no_faces_ask_nobody() -> None:
    empty = Crops(
        {"face": np.zeros((0, 8, 8, 3), np.uint8)},
        {"face": np.zeros(0, bool)},
        {"face": np.zeros(0)},
    )
    assert ask(Blueness(), empty) == []


@pytest.mark.shared
def test_the_astronaut_has_one_face_with_an_interval(
    shared_weights: Path, astronaut_bgr: Image
) -> None:
    answer = agebench.predict(astronaut_bgr)
    (face,) = answer.faces
    assert (answer.detector, *answer.estimators) == (
        "yolov8-face@onnxruntime + tiles",
        defaults.PREDICT_ESTIMATOR,
    )
    assert face.years is not None
    assert face.interval_80 is not None
    assert face.interval_80[0] < face.years < face.interval_80[1]
    assert len(face.face.landmarks_xy) == 5
    low, high = face.interval_80
    # The page shows what the present weights say.
    assert f"1  {face.years:.0f} ({low:.0f}-{high:.0f})  " in PAGE.read_text("utf-8")


def test_the_documents_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, *_ = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102 - our own example
    assert capsys.readouterr().out.splitlines()[0] == "0"
    assert f"`{defaults.PREDICT_ESTIMATOR}`" in PAGE.read_text("utf-8")


@dataclass
class Bright:
    """Finds squares by their own colour, but only such as are no smaller than 1/64 of the side."""

    spec: DetectorSpec = field(default_factory=lambda: DetectorSpec("bright"))

    def detect(self, image_bgr: Image, /) -> list[Face]:
        found = []
        for value in np.unique(image_bgr[..., 0]):
            rows, columns = np.nonzero(image_bgr[..., 0] == value)
            box = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
            if value and (box[2] - box[0]) * 64 >= max(image_bgr.shape[:2]):
                found.append(Face(tuple(map(float, box)), 0.5 + value / 1000))  # type: ignore[arg-type]  # four of them
        return found


def test_small_faces_of_large_pictures_are_found_once_in_tiles() -> None:
    picture = np.zeros((2000, 3000, 3), np.uint8)
    small = [(0, 0), (1270, 20), (1900, 1270), (2979, 1979), (860, 640)]
    for value, (x, y) in enumerate(small, start=1):
        picture[y : y + 21, x : x + 21] = value
    picture[300:1500, 100:800] = 200  # larger than a tile lets through
    whole = found_faces(Bright(), picture)
    assert [face.box_xyxy for face in whole] == [(99.5, 299.5, 799.5, 1499.5)]
    found = {face.box_xyxy: face.score for face in detect_in_tiles(Bright(), picture)}
    wanted = {(x - 0.5, y - 0.5, x + 20.5, y + 20.5) for x, y in small}
    assert set(found) == wanted | {(99.5, 299.5, 799.5, 1499.5)}
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(
    ("policy", "box"),
    [("largest", (1899.5, 1269.5, 1923.5, 1293.5)), ("best", (-0.5, -0.5, 21.5, 21.5))],
)
def test_tiles_keep_to_the_one_face_that_is_asked_for(policy: str, box: Box) -> None:
    picture = np.zeros((2000, 3000, 3), np.uint8)
    for size, (x, y) in enumerate([(0, 0), (1270, 20), (1900, 1270)], start=22):
        picture[y : y + size, x : x + size] = 25 - size  # its score
    detector = Bright(DetectorSpec("bright", settings={"faces": policy}))
    (face,) = detect_in_tiles(detector, picture)
    assert face.box_xyxy == box


@pytest.mark.parametrize("length", [1, 1280, 1281, 2160, 2161, 4472, 6708, 20_000])
def test_tiles_cover_a_side_and_overlap_enough(length: int) -> None:
    places = starts(length)
    assert places[0] == 0
    assert places[-1] + TILE_PX >= length
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert all(0 < gap <= TILE_PX - OVERLAP_PX for gap in gaps)


def test_the_faces_of_a_crowd_are_cut_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agebench.prediction.predictor.FACES_AT_ONCE", 3)
    seen: list[int] = []

    class Counting(Blueness):
        def predict(self, crops: Crops, /) -> list[AgePrediction]:
            seen.append(len(crops))
            return super().predict(crops)

    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, :20, 0], picture[:, 20:, 0] = 30, 60
    faces = [LEFT, RIGHT] * 4
    answer = AgePredictor(Counting(), detector=Fixed(faces)).predict_image(picture)
    assert seen == [3, 3, 2]
    assert [face.years for face in answer.faces] == [30, 60] * 4
