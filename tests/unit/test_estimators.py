from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from agebench import load_estimator
from agebench.errors import (
    AgebenchError,
    DatasetError,
    ModelError,
    UsageError,
    WeightsError,
)
from agebench.estimators.caffe_age_net import CaffeAgeNet, centre_window, ten_windows
from agebench.estimators.common import (
    InputFormat,
    SingleOutputNetwork,
    checked_probabilities,
    in_batches,
    predictions,
    view_pixels,
)
from agebench.estimators.constant import Constant
from agebench.estimators.hse_mobilenet import HseMobileNet
from agebench.export.random_age_net import random_age_net, random_age_net_layers
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.protocols import RuntimeInfo
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, MICRO
from agebench.runtimes.base import Tensor
from agebench.runtimes.caffe_model import write_caffemodel
from agebench.testing import check_estimator, generated_crops
from agebench.types import Crops, CropSpec, FaceFrame, Floats, Image, ViewSpec
from agebench.vision.crops import cut_crops
from tests.unit.caffe_files import write_mean

Order = npt.NDArray[np.int_]


def _pixels(n: int = 2, height: int = 5, width: int = 7) -> Image:
    return np.random.default_rng(3).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.fixture
def random_net(tmp_path: Path, micro_age_net: None) -> Path:
    """A caffemodel of random weights."""
    path = tmp_path / "random.caffemodel"
    random_age_net(path, seed=11, micro=True)
    return path


@pytest.fixture(scope="module")
def mean_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
    write_mean(path, np.random.default_rng(5).uniform(60, 130, (3, 256, 256)))
    return path


# --- blobs -------------------------------------------------------------------------------------


def test_blob_is_pixel_less_mean_times_scale_by_std() -> None:
    pixels = _pixels()
    for order, channels in (("bgr", [0, 1, 2]), ("rgb", [2, 1, 0])):
        form = InputFormat(order, (10.0, 20.0, 30.0), 0.5, (2.0, 3.0, 4.0))  # type: ignore[arg-type]  # mypy sees str
        expected = (pixels[..., channels].astype(float) - [10, 20, 30]) * 0.5 / [2, 3, 4]
        got = form.blob(pixels)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2), atol=1e-4)
        nhwc = dataclasses.replace(form, layout="nhwc")
        np.testing.assert_allclose(nhwc.blob(pixels), expected, atol=1e-4)


def test_gray_blob_weighs_the_channels() -> None:
    pixels = _pixels()
    got = InputFormat("gray", (100.0,), 2.0).blob(pixels)
    expected = (np.rint(pixels @ [0.114, 0.587, 0.299]) - 100.0) * 2.0
    assert got.shape == (2, 1, 5, 7)
    np.testing.assert_allclose(got[:, 0], expected, atol=2.001)  # fixed-point rounding by 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (1.0,)},
        {"channel_order": "gray"},
        {"std": (1.0, 0.0, 1.0)},
        {"std": (1.0, 1.0)},
        {"scale": 0.0},
    ],
)
def test_wrong_input_formats_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|must not"):
        InputFormat(**wrong)  # type: ignore[arg-type]  # wrong on purpose


# --- views, rows and predictions -----------------------------------------------------------------


def test_view_pixels_refuses_what_was_cut_otherwise() -> None:
    view = ViewSpec("face", (4, 6))
    crops = generated_crops(CropSpec({"face": view}), 3)
    assert view_pixels(crops, "face", view) is crops.views["face"]
    with pytest.raises(UsageError, match="no view 'eyes'"):
        view_pixels(crops, "eyes", view)
    with pytest.raises(UsageError, match=r"\(6, 4\).*got \(4, 6\)"):
        view_pixels(crops, "face", ViewSpec("face", (6, 4)))


def test_a_missing_view_names_the_face(random_net: Path) -> None:
    estimator = CaffeAgeNet(random_net)
    frames = [FaceFrame((50.0, 50.0), 60.0), FaceFrame((5000.0, 50.0), 60.0)]
    crops = cut_crops(_pixels(1, 100, 100)[0], frames, estimator.spec.crop)
    with pytest.raises(ModelError, match="face 1: view 'face' is missing"):
        estimator.predict(crops)


@dataclasses.dataclass
class FakeModel:
    """Answers with fixed outputs."""

    outputs: dict[str, Tensor]
    info: RuntimeInfo = dataclasses.field(default_factory=RuntimeInfo)
    input_names: tuple[str, ...] = ()

    def run(self, inputs: object) -> dict[str, Tensor]:
        return self.outputs


def _rows(value: npt.ArrayLike, faces: int, width: int, output: str = "") -> Floats:
    outputs = {"out": np.asarray(value, np.float32)}
    return SingleOutputNetwork(FakeModel(outputs), "net", width, "", output).rows(
        np.zeros((faces, 1))
    )


def test_rows_takes_trailing_axes_of_one() -> None:
    assert _rows([[[[1.0]]], [[[2.0]]]], 2, 1).tolist() == [[1.0], [2.0]]
    assert _rows([1.0, 2.0, 3.0], 1, 3).tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("value", "faces", "width", "message"),
    [
        ([[1.0, 2.0]], 1, 3, r"shape \(1, 3\), got \(1, 2\)"),
        ([[1.0, 2.0]], 2, 1, r"shape \(2, 1\), got \(1, 2\)"),  # batch and width swapped
        ([[1.0], [np.nan]], 2, 1, "face 1 of a batch of 2 is not finite"),
    ],
)
def test_rows_refuses_wrong_outputs(
    value: npt.ArrayLike, faces: int, width: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        _rows(value, faces, width)


def test_rows_picks_the_output_by_name() -> None:
    model = FakeModel({"age": np.array([[4.0]]), "gender": np.array([[1.0]])})
    assert SingleOutputNetwork(model, "net", 1, "", "age").rows(np.zeros((1, 1))).tolist() == [
        [4.0]
    ]
    with pytest.raises(ModelError, match=r"expected one output, the model has .*age.*gender"):
        SingleOutputNetwork(model, "net", 1).rows(np.zeros((1, 1)))
    with pytest.raises(ModelError, match="expected output 'years'"):
        SingleOutputNetwork(model, "net", 1, "", "years").rows(np.zeros((1, 1)))


def test_in_batches_keeps_order_and_limits() -> None:
    sizes = []

    def infer(part: Image) -> Floats:
        sizes.append(len(part))
        return part.reshape(len(part), -1)[:, :1].astype(float)

    pixels = _pixels(7)
    assert np.array_equal(in_batches(pixels, infer, 3)[:, 0], pixels[:, 0, 0, 0])
    assert sizes == [3, 3, 1]


def test_shares_are_checked_and_rescaled() -> None:
    got = checked_probabilities(np.array([[0.5, 0.4995]]), "net")
    assert got.sum() == pytest.approx(1.0, abs=1e-12)
    for wrong in ([[1.2, -0.2]], [[0.4, 0.4]], [[3.0, 5.0]]):
        with pytest.raises(ModelError, match=r"face 0.*softmax"):
            checked_probabilities(np.array(wrong), "net")


def test_years_are_limited_a_little_and_refused_far_off() -> None:
    years = np.array([-3.0, 41.5, 139.0])
    assert [item.years for item in predictions(years)] == [0.0, 41.5, 120.0]
    for wrong in (-20.5, 141.0, np.nan, np.inf):
        with pytest.raises(ModelError, match=r"net: .*face 1"):
            predictions(np.array([30.0, wrong]), label="net")


# --- constant ------------------------------------------------------------------------------------


def test_constant_says_the_given_age_and_its_default() -> None:
    check_estimator(Constant())
    estimator = load_estimator("constant years=41.5")
    crops = generated_crops(estimator.spec.crop, 3)
    assert [item.years for item in estimator.predict(crops)] == [41.5] * 3
    assert Constant().spec.settings == {"years": 30.0}
    assert "not fitted to data" in Constant().spec.notes[0]


def test_constant_takes_the_median_of_a_training_part(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b'\xef\xbb\xbfpath,age\r\na.jpg,10\r\nb.jpg,20\r\n"c,d.jpg",90.5\r\ne,21\r\n')
    estimator = load_estimator(f"constant median_of={path}")
    crops = generated_crops(estimator.spec.crop, 1)
    assert estimator.predict(crops)[0].years == 20.5
    assert estimator.spec.settings == {
        "years": 20.5,
        "median_of": "train.csv",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "count": 4,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,years\na,1\n", "column 'age', got"),
        (b"", "column 'age', got None"),
        (b"path,age\n", "at least one row"),
        (b"path,age\na,10\nb,old\n", "line 3: .*'old'"),
        (b"path,age\na\n", "line 2: .*None"),
        (b"age\n-1\n", "line 2"),
        (b"age\nnan\n", "line 2"),
        (b"age\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_constant_refuses_bad_lists(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        Constant(median_of=path)


def test_constant_refuses_impossible_calls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either years or median_of"):
        Constant(years=3, median_of=tmp_path)
    for wrong in (-1.0, 121.0, float("nan")):
        with pytest.raises(UsageError, match=r"0\.\.120"):
            Constant(years=wrong)
    with pytest.raises(DatasetError, match="found no file"):
        Constant(median_of=tmp_path)


# --- caffe-age-net -------------------------------------------------------------------------------


def test_caffe_age_net_with_ten_crops_keeps_the_contract(random_net: Path, mean_file: Path) -> None:
    # It computes 4 faces at once, of ten crops each.
    check_estimator(CaffeAgeNet(random_net, crops=10, mean_file=mean_file), large_batch=6)


def test_caffe_age_net_spec_says_what_decides(random_net: Path, mean_file: Path) -> None:
    usual = CaffeAgeNet(random_net).spec
    assert usual.mean == CHANNEL_MEAN
    assert usual.channel_order == "bgr"
    assert usual.bins == usual.classes == ADIENCE_CLASSES
    assert usual.settings == {"crops": 1, "years": "expectation", "mean": "channel"}
    view = usual.crop.views["face"]
    assert (view.size_hw, view.margin, view.margin_px, view.border) == ((227, 227), 0, 20, "clip")
    assert "not the published weights: random.caffemodel has another hash" in usual.notes
    assert (usual.trained_on, usual.label_kind) == ("", "unknown")
    assert usual.trained_sets == ()

    ten = CaffeAgeNet(random_net, crops=10, mean_file=mean_file, margin=0.2).spec
    assert ten.settings["mean"] == "image"
    assert [item.file for item in ten.weights] == ["random.caffemodel", "mean.binaryproto"]
    view = ten.crop.views["face"]
    assert (view.size_hw, view.margin, view.margin_px) == ((256, 256), 0.2, 0)


def test_expectation_and_midpoint_follow_from_the_probabilities(random_net: Path) -> None:
    crops = generated_crops(CaffeAgeNet(random_net).spec.crop, 3)
    middles = [1, 5, 10, 17.5, 28.5, 40.5, 50.5, 80]
    for rule in ("expectation", "midpoint"):
        for item in load_estimator(f"caffe-age-net:{random_net}", years=rule).predict(crops):
            assert item.probabilities is not None
            likeliest = middles[int(np.argmax(item.probabilities))]
            mean = float(np.dot(item.probabilities, middles))
            assert item.years == pytest.approx(mean if rule == "expectation" else likeliest)


def test_windows_are_where_they_should_be() -> None:
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    blob = np.stack([np.stack([rows, columns, rows * 0 + face]) for face in range(2)])
    windows = ten_windows(blob)
    assert windows.shape == (20, 3, 227, 227)
    assert windows[:, 2, 0, 0].tolist() == [0.0] * 10 + [1.0] * 10
    corners = [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]
    assert [(w[0, 0, 0], w[1, 0, 0]) for w in windows[:5]] == corners
    assert [(w[0, -1, -1], w[1, -1, -1]) for w in windows[:5]] == [
        (y + 226, x + 226) for y, x in corners
    ]
    for plain, mirrored in zip(windows[:5], windows[5:10], strict=True):
        assert np.array_equal(plain[:, :, ::-1], mirrored)
    assert np.array_equal(centre_window(blob), windows[[4, 14]])
    assert np.array_equal(centre_window(windows), windows)


def _write(path: Path, what: str) -> None:
    classes = 2 if what == "gender" else 8
    layers = random_age_net_layers(seed=2, classes=classes, widths=MICRO)
    if what == "no conv2":
        layers = tuple(layer for layer in layers if layer.name != "conv2")
    if what == "renamed":
        layers = tuple(dataclasses.replace(layer, name=f"x{layer.name}") for layer in layers)
    if what == "not finite":
        layers = tuple(
            dataclasses.replace(layer, blobs=tuple(blob * np.nan for blob in layer.blobs))
            for layer in layers
        )
    write_caffemodel(path, layers, encoding="v1")


@pytest.mark.parametrize("what", ["gender", "no conv2", "renamed", "not finite"])
@pytest.mark.usefixtures("micro_age_net")
def test_another_layout_is_refused_on_loading(tmp_path: Path, what: str) -> None:
    path = tmp_path / "other.caffemodel"
    _write(path, what)
    with pytest.raises(ModelError, match=r"caffemodel.*layout"):
        CaffeAgeNet(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01junk" * 1000, b"<!DOCTYPE html><html>" * 2000, b"text\n"]
)
def test_files_that_are_no_model_give_one_sentence(tmp_path: Path, content: bytes) -> None:
    for reference in ("caffe-age-net", "hse-mobilenet"):
        path = tmp_path / "model.bin"
        path.write_bytes(content)
        with pytest.raises((ModelError, WeightsError)) as caught:
            load_estimator(f"{reference}:{path}")
        assert "model.bin" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 3}, "unknown number of crops"),
        ({"crops": "3"}, "expected one of 1, 10"),
        ({"years": "mean"}, "expected one of"),
        ({"mean": "none"}, "expected one of"),
        ({"margin": -0.5}, "margin must be above"),
        ({"margin": float("inf")}, "margin must be above"),
        ({"mean_file": "x"}, "only with mean=image"),
        ({"runtime": "python"}, "unknown runtime|can't run under"),
    ],
)
def test_wrong_options_are_refused(
    random_net: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_estimator(f"caffe-age-net:{random_net}", **options)


def test_a_missing_file_gives_one_sentence(tmp_path: Path, random_net: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        CaffeAgeNet(tmp_path / "nowhere.caffemodel")
    with pytest.raises(WeightsError, match="nowhere"):
        CaffeAgeNet(random_net, crops=10, mean_file=tmp_path / "nowhere.binaryproto")


def test_a_mean_image_of_another_shape_is_refused(tmp_path: Path, random_net: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(b"\x08\x01\x10\x03\x18\x02\x20\x02" + b"\x2a\x30" + bytes(48))
    with pytest.raises(ModelError, match="256"):
        CaffeAgeNet(random_net, mean="image", mean_file=path)


# --- hse-mobilenet -------------------------------------------------------------------------------


def test_hse_mobilenet_refuses_unknown_rules() -> None:
    with pytest.raises(UsageError, match="top2-expectation"):
        HseMobileNet(years="top2")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.shared
def test_hse_mobilenet_says_what_it_is(shared_weights: Path) -> None:
    # test_contracts.py has the contract.
    spec = HseMobileNet().spec
    assert spec.weights[0].published
    assert spec.bins is not None
    assert (spec.bins.labels[0], spec.bins.labels[-1], len(spec.bins)) == ("1", "100", 100)
    assert (spec.trained_on, spec.licence) == ("IMDB-WIKI", "Apache-2.0")
    assert spec.trained_sets == ("imdb-wiki",)


@pytest.mark.shared
def test_hse_mobilenet_rules_follow_from_the_distribution(
    shared_weights: Path, astronaut_bgr: Image
) -> None:
    frames = [FaceFrame((223.0, 118.0), 119.0), FaceFrame((230.0, 120.0), 150.0)]
    years: dict[str, Order] = {}
    for rule in ("top2-expectation", "expectation", "median"):
        estimator = load_estimator("hse-mobilenet", years=rule)
        for item in estimator.predict(cut_crops(astronaut_bgr, frames, estimator.spec.crop)):
            assert item.probabilities is not None
            shares = item.probabilities
            second, first = np.argsort(shares)[-2:]
            expected = {
                "top2-expectation": (
                    (shares[first] * (first + 1) + shares[second] * (second + 1))
                    / (shares[first] + shares[second])
                ),
                "expectation": float(np.sum(shares * np.arange(1, 101))),
                "median": float(np.flatnonzero(np.cumsum(shares) >= 0.5)[0] + 1),
            }
            assert item.years == pytest.approx(expected[rule], abs=1e-6)
            years[rule] = np.append(years.get(rule, []), item.years)
    assert len({tuple(values) for values in years.values()}) == 3


@pytest.mark.shared
def test_another_tensorflow_graph_is_refused(shared_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pb"
    whole = (shared_weights / "age_gender_tf2_new-01-0.14-0.92_quantized.pb").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AgebenchError, match=r"half\.pb"):
        HseMobileNet(path)


def test_zero_faces_give_an_empty_answer(random_net: Path) -> None:
    estimator = CaffeAgeNet(random_net)
    nothing = generated_crops(estimator.spec.crop, 0)
    assert estimator.predict(nothing) == []
    assert isinstance(nothing, Crops)
