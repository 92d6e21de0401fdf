from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench import load_estimator
from agebench.errors import (
    AgebenchError,
    DeviceError,
    ModelError,
    UsageError,
    WeightsError,
)
from agebench.estimators.spec_file import SpecFileEstimator
from agebench.estimators.spec_schema import file_beside
from agebench.export.random_age_net import random_age_net
from agebench.fitting.class_years import fit_years
from agebench.harness.settings import CompareSettings
from agebench.runtimes.age_net_layout import MICRO, deploy_prototxt
from agebench.testing import check_estimator
from agebench.types import AgeBins, Crops, FaceFrame, Image
from agebench.vision.crops import cut_crops

DOCS = Path(__file__).parents[2] / "docs" / "spec-file.md"

YEARS = """
name = "colour"
[files]
model = "net.onnx"
[crop]
size = [6, 4]
[input]
channel_order = "bgr"
mean = [0, 0, 0]
[output]
kind = "years"
"""

CLASSES = """
name = "classes"
[files]
model = "net.onnx"
[crop]
size = [6, 4]
[input]
channel_order = "bgr"
mean = [0, 0, 0]
scale = 0.01
[output]
kind = "logits"
[bins]
ranges = ["0-2", "10-20", "60-100"]
"""


def save_network(
    path: Path,
    weights: Sequence[Sequence[float]],
    *,
    softmax: bool = False,
    batch: int | str = "n",
    size_hw: tuple[int, int] = (6, 4),
    names: tuple[str, str] = ("x", "y"),
) -> None:
    """Write a network that answers with `weights` (outputs, 3) times the channels' means."""
    matrix = np.asarray(weights, np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", [names[0]], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w"], ["sums" if softmax else names[1]], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["sums"], [names[1]], axis=1))
    image = helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [batch, 3, *size_hw])
    answer = helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [batch, len(matrix)])
    graph = helper.make_graph(
        nodes, "net", [image], [answer], [numpy_helper.from_array(matrix, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(helper.make_model(graph, opset_imports=model.opset_import, ir_version=8), str(path))


def _spec(folder: Path, text: str, **replaced: str) -> Path:
    for old, new in replaced.items():
        assert re.search(rf"^{old} = .*$", text, re.MULTILINE)
        text = re.sub(rf"^{old} = .*$", lambda _: new, text, flags=re.MULTILINE)  # noqa: B023  # used at once
    path = folder / "model.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _years(path: Path, pixels_bgr: Image, runtime: str | None = None) -> list[float]:
    estimator = SpecFileEstimator(path, runtime=runtime)
    return [item.years for item in estimator.predict(_crops(pixels_bgr))]


def _crops(pixels_bgr: Image) -> Crops:
    count = len(pixels_bgr)
    return Crops({"face": pixels_bgr}, {"face": np.ones(count, bool)}, {"face": np.zeros(count)})


def _flat(*colours: tuple[int, int, int]) -> Image:
    """Crops of one colour each, given as (b, g, r)."""
    return np.stack([np.full((6, 4, 3), colour, np.uint8) for colour in colours])


RUNTIMES = ("cv2dnn", "onnxruntime")


# --- what goes in comes out ----------------------------------------------------------------------


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("order", "first_channel"), [("bgr", (40, 7)), ("rgb", (60, 9))], ids=["bgr", "rgb"]
)
def test_the_first_channel_is_the_named_one(
    tmp_path: Path, runtime: str, order: str, first_channel: tuple[float, float]
) -> None:
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    path = _spec(tmp_path, YEARS, channel_order=f'channel_order = "{order}"')
    assert _years(path, _flat((40, 50, 60), (7, 8, 9)), runtime) == pytest.approx(first_channel)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_mean_scale_and_std_act_in_that_order(tmp_path: Path, runtime: str) -> None:
    save_network(tmp_path / "net.onnx", [[1, 10, 100]])
    path = _spec(
        tmp_path,
        YEARS,
        channel_order='channel_order = "rgb"',
        mean="mean = [50, 40.5, 30]\nscale = 0.5\nstd = [10, 5, 2.5]",
    )
    # r: (60 - 50) / 2 / 10; g: (45.5 is no byte, so 46 - 40.5) / 2 / 5; b: (31 - 30) / 2 / 2.5
    expected = 1 * 0.5 + 10 * 0.55 + 100 * 0.2
    assert _years(path, _flat((31, 46, 60)), runtime) == pytest.approx([expected], abs=1e-4)
    spec = SpecFileEstimator(path).spec
    assert (spec.mean, spec.scale, spec.settings["std"]) == ((50, 40.5, 30), 0.5, "10, 5, 2.5")


def test_output_scale_and_offset(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[0.01, 0, 0]])
    path = _spec(tmp_path, YEARS, kind='kind = "years"\nscale = 100.0\noffset = -4')
    assert _years(path, _flat((30, 0, 0), (1, 0, 0))) == pytest.approx([26, 0], abs=1e-4)
    assert SpecFileEstimator(path).spec.decode == "regression"


def test_a_nonsense_age_is_an_error(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[100, 0, 0]])
    with pytest.raises(ModelError, match=r"net\.onnx.* for face 1, got 5000"):
        _years(_spec(tmp_path, YEARS), _flat((0, 0, 0), (50, 0, 0)))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("softmax", [False, True])
def test_logits_and_probabilities(tmp_path: Path, runtime: str, softmax: bool) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist(), softmax=softmax)
    kind = 'kind = "probabilities"' if softmax else 'kind = "logits"'
    path = _spec(tmp_path, CLASSES, kind=kind)
    estimator = load_estimator(f"spec:{path}@{runtime}")
    (answer,) = estimator.predict(_crops(_flat((200, 100, 50))))
    powers = np.exp([2.0, 1.0, 0.5])
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities, powers / powers.sum(), atol=1e-6)
    assert answer.years == pytest.approx(float(powers @ [1, 15, 80] / powers.sum()), abs=1e-4)
    assert estimator.spec.bins == estimator.spec.classes == AgeBins((0, 10, 60), (2, 20, 100))
    check_estimator(estimator)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("expectation", 0.5 * 1 + 0.3 * 15 + 0.2 * 80),
        ("top2-expectation", (0.5 * 1 + 0.3 * 15) / 0.8),
        ("median", 1.0),
        ("midpoint", 1.0),
    ],
)
def test_decode_rules(tmp_path: Path, rule: str, expected: float) -> None:
    # Black pixels in, and (0 + 100) * log(p) / 100 out: the mean makes the logits.
    save_network(tmp_path / "net.onnx", np.diag(np.log([0.5001, 0.3, 0.1999])).tolist())
    text = CLASSES.replace("mean = [0, 0, 0]", "mean = [-100, -100, -100]")
    path = _spec(tmp_path, text + f'[decode]\nrule = "{rule}"\n')
    assert _years(path, _flat((0, 0, 0))) == pytest.approx([expected], abs=0.02)
    assert SpecFileEstimator(path).spec.decode == rule


def test_no_table_of_years_is_fitted_that_nothing_could_use(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist())
    path = _spec(tmp_path, CLASSES)
    settings = CompareSettings(protocol="holdout", part="train")
    with pytest.raises(UsageError, match="'spec' has no option 'table'"):
        # Before the data set is looked for.
        fit_years(f"spec:{path}", "csv", root=tmp_path / "none.csv", settings=settings)


def test_single_year_bins_have_no_classes(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist())
    path = _spec(tmp_path, CLASSES, ranges="first = 30\nlast = 32")
    spec = SpecFileEstimator(path).spec
    assert spec.bins == AgeBins.single_years(30, 32)
    assert spec.classes is None


def test_probabilities_without_softmax_are_refused_on_loading(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist())
    with pytest.raises(ModelError, match="softmax"):
        SpecFileEstimator(_spec(tmp_path, CLASSES, kind='kind = "probabilities"'))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_probabilities_that_are_called_logits_are_refused_on_loading(
    tmp_path: Path, runtime: str
) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist(), softmax=True)
    path = _spec(tmp_path, CLASSES, kind='kind = "logits"')
    with pytest.raises(ModelError, match='they are probabilities; write kind = "probabilities"'):
        load_estimator(f"spec:{path}@{runtime}")


def test_a_wrong_number_of_bins_is_refused_on_loading(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3)[:2].tolist())
    with pytest.raises(ModelError, match=r"expected an output of shape \(1, 3\), got \(1, 2\)"):
        SpecFileEstimator(_spec(tmp_path, CLASSES))


def test_a_model_for_one_picture_at_a_time_gets_one(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[1, 0, 0]], batch=1)
    path = _spec(tmp_path, YEARS)
    assert SpecFileEstimator(path, runtime="onnxruntime").spec.settings["batch"] == 1
    answers = _years(path, _flat((10, 0, 0), (20, 0, 0), (30, 0, 0)), "onnxruntime")
    assert answers == pytest.approx([10, 20, 30])
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    assert SpecFileEstimator(path, runtime="onnxruntime").spec.settings["batch"] == 32


def test_names_of_input_and_output(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[1, 0, 0]], names=("picture", "years"))
    named = YEARS.replace("[output]", 'name = "picture"\n[output]\nname = "years"')
    for runtime in RUNTIMES:
        answers = _years(_spec(tmp_path, named), _flat((12, 0, 0)), runtime)
        assert answers == pytest.approx([12])
    wrong_input = _spec(tmp_path, named.replace('"picture"', '"image"'))
    with pytest.raises(ModelError, match=r"no input 'image', it has picture"):
        SpecFileEstimator(wrong_input, runtime="onnxruntime")
    wrong_output = _spec(tmp_path, named.replace('"years"\nkind', '"age"\nkind'))
    for runtime in RUNTIMES:
        with pytest.raises(ModelError):
            SpecFileEstimator(wrong_output, runtime=runtime)


def test_a_caffe_model_with_its_prototxt(tmp_path: Path) -> None:
    random_age_net(tmp_path / "net.caffemodel", seed=4, micro=True)
    (tmp_path / "deploy.prototxt").write_text(deploy_prototxt(widths=MICRO))
    ranges = '["0-2", "4-6", "8-12", "15-20", "25-32", "38-43", "48-53", "60-100"]'
    text = _spec(
        tmp_path,
        CLASSES,
        model='model = "net.caffemodel"\nconfig = "deploy.prototxt"',
        size="size = [227, 227]",
        scale="",
        kind='kind = "probabilities"',
        ranges=f"ranges = {ranges}",
    )
    check_estimator(load_estimator(f"spec:{text}"))
    without = _spec(tmp_path, text.read_text().replace('config = "deploy.prototxt"', ""))
    with pytest.raises(UsageError, match=r"kind caffe need files\.config"):
        SpecFileEstimator(without)


def test_the_example_in_the_docs_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    path = _spec(tmp_path, blocks[0])
    save_network(
        tmp_path / "my_model.onnx",
        np.random.default_rng(1).normal(size=(8, 3)).tolist(),
        softmax=True,
        size_hw=(64, 64),
        names=("pixels", "shares"),
    )
    estimator = load_estimator(f"spec:{path}")
    check_estimator(estimator)
    spec = estimator.spec
    assert (spec.name, spec.runtime.runtime, spec.decode) == (
        "my-model",
        "onnxruntime",
        "expectation",
    )
    assert spec.trained_sets == ("utkface",)
    assert (spec.label_kind, spec.notes) == ("birth-age", ("trained on faces of adults only",))
    assert load_estimator(f"spec:{path}@cv2dnn").spec.runtime.runtime == "cv2dnn"


# --- the hse network without its class -----------------------------------------------------------


@pytest.mark.shared
def test_hse_mobilenet_by_spec_file_gives_the_same_ages(
    shared_weights: Path, tmp_path: Path, astronaut_bgr: Image
) -> None:
    file = "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
    shutil.copy(shared_weights / file, tmp_path / file)
    path = _spec(
        tmp_path,
        YEARS.replace('kind = "years"', 'kind = "probabilities"\nname = "age_pred/Softmax"')
        + '[bins]\nfirst = 1\nlast = 100\n[decode]\nrule = "top2-expectation"\n',
        model=f'model = "{file}"',
        size="size = [224, 224]\nmargin = 0.1",
        mean="mean = [103.939, 116.779, 123.68]",
    )
    frames = [FaceFrame((223.0, 118.0), 119.0 + 10 * step) for step in range(3)]
    answers = []
    for reference in ("hse-mobilenet", f"spec:{path}"):
        estimator = load_estimator(reference)
        crops = cut_crops(astronaut_bgr, frames, estimator.spec.crop)
        answers.append([item.years for item in estimator.predict(crops)])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 3


# --- spec files that are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name", 'name = "a b"', "name must be of letters"),
        ("name", "name = 3", "name: expected text, got 3"),
        ("name", "", "name is missing: expected text"),
        ("name", 'name = "a"\ncolour = 1', "colour: unknown key: known: about"),
        ("model", 'modell = "net.onnx"', "files.modell: unknown key: did you mean 'model'?"),
        ("model", 'model = ["net.onnx"]', "files.model: expected text"),
        ("model", 'model = "net.onnx"\nsha256 = "12"', "files: sha256 must be 64"),
        ("size", "", "crop.size is missing: expected a list of 2, each a whole number"),
        ("size", "size = 6", "crop.size: expected a list of 2"),
        (
            "size",
            "size = [6]",
            "size: expected a list of 2, each a whole number, got a list of 1",
        ),
        ("size", "size = [6, 4.0]", r"crop.size\[1\]: expected a whole number, got 4.0"),
        ("size", "size = [6, true]", r"crop.size\[1\]: expected a whole number, got True"),
        ("size", "size = [0, 4]", "crop: size must be at least 1x1"),
        ("size", "size = [100000, 4]", "crop: size must be at most 4096"),
        ("size", 'size = [6, 4]\nregion = "nostril"', "crop: unknown region 'nostril'"),
        ("size", "size = [6, 4]\nmargin = nan", "crop.margin: expected a finite number, got nan"),
        ("size", "size = [6, 4]\nmargin = -1", "crop: margin must be above -0.5"),
        ("size", 'size = [6, 4]\nborder = "clip"\nalign = true', "crop: an aligned crop"),
        ("size", 'size = [6, 4]\nalign = "yes"', "crop.align: expected true or false, got 'yes'"),
        ("channel_order", "", "input.channel_order is missing: expected one of bgr"),
        (
            "channel_order",
            'channel_order = "bgrr"',
            "order: unknown value: got .bgrr., did you mean",
        ),
        ("mean", "", "input.mean is missing: expected a list, each a finite number"),
        ("mean", "mean = [1, 2]", "input: expected 3 mean values, got 2"),
        ("mean", 'mean = ["1", 2, 3]', r"input.mean\[0\]: expected a finite number, got '1'"),
        ("mean", f"mean = [1, 2, 1{'0' * 400}]", r"input.mean\[2\]: expected a finite number"),
        ("scale", "scale = 0", "input: scale must not be 0"),
        ("scale", "scale = inf", "input.scale: expected a finite number"),
        ("scale", "scale = 1\nstd = [1, 1, 0]", "input: expected 3 std values above 0"),
        ("kind", 'kind = "age"', "output.kind: unknown value"),
        ("kind", 'kind = "years"', r"\[bins\] and \[decode\] must be omitted with"),
        ("kind", 'kind = "logits"\nscale = 2', "output: scale and offset are for kind = 'years'"),
        ("ranges", 'ranges = ["0-2", "sixty"]', "bins: expected ranges such as .*'sixty'"),
        ("ranges", 'ranges = ["0+", "60-70"]', "bins: only the last range may be open-ended"),
        ("ranges", 'ranges = ["0-2", "2-4"]', "bins: ranges must be ascending"),
        ("ranges", 'ranges = ["4-6", "0-2"]', "bins: ranges must be ascending"),
        ("ranges", 'ranges = ["6-4"]', "bins: expected ranges"),
        ("ranges", 'ranges = ["0-121"]', "bins: expected ranges .*120 years"),
        ("ranges", "ranges = []", "bins: give either ranges, or first and last"),
        ("ranges", "first = 1", "bins: give both first and last"),
        ("ranges", "first = 1\nlast = 999999999999", "bins: first and last must be ascending"),
        ("ranges", "first = 9\nlast = 1", "bins: first and last must be ascending"),
        ("ranges", 'ranges = ["1-2"]\n[decode]\nrule = "argmax"', "decode.rule: unknown value"),
        (
            "ranges",
            'ranges = ["1-2"]\n[about]\nlabel_kind = "real"',
            "label_kind: unknown value",
        ),
        (
            "ranges",
            'ranges = ["1-2"]\n[about]\ntrained_sets = ["UTKFace"]',
            "about: trained_sets takes names of data sets in lower case.*got 'UTKFace'",
        ),
        (
            "ranges",
            'ranges = ["1-2"]\n[runtime]\nruntime = "torch"',
            "runtime: unknown value",
        ),
        ("name", "name = ", "expected a TOML file"),
        ("name", "name = 'a'\nabout = 'me'", "about: expected a table, got 'me'"),
    ],
)
def test_wrong_spec_files_name_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    save_network(tmp_path / "net.onnx", np.eye(3).tolist())
    path = _spec(tmp_path, CLASSES, **{old: new})
    with pytest.raises(UsageError, match=message) as caught:
        load_estimator(f"spec:{path}")
    assert "model.toml" in str(caught.value)


def test_bins_are_needed_for_logits(tmp_path: Path) -> None:
    path = _spec(tmp_path, YEARS, kind='kind = "logits"')
    with pytest.raises(UsageError, match=r"\[bins\] is missing"):
        SpecFileEstimator(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"a = " + b"[" * 100_000,
        b"#" * 2_000_000,
        b"x = 1" + b"0" * 5000,
        b".".join([b"a"] * 30_000) + b" = 1",
        b"",
        b"\0",
    ],
)
def test_no_toml_gives_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.toml") as caught:
        SpecFileEstimator(path)
    assert "codec" not in str(caught.value)


def test_no_path_and_no_file_give_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"spec:my_model\.toml"):
        load_estimator("spec")
    for path in (tmp_path, tmp_path / "nowhere.toml", Path("nul\0.toml")):
        with pytest.raises(UsageError):
            SpecFileEstimator(path)


@pytest.mark.parametrize(
    "name",
    [
        "../net.onnx",
        "sub/../../net.onnx",
        "/etc/hostname",
        "C:/net.onnx",
        "C:net.onnx",
        r"..\net.onnx",
        r"\\server\share\net.onnx",
        "",
        "net\0.onnx",
    ],
)
def test_files_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    with pytest.raises(UsageError, match=r"files\.model.*in the folder"):
        file_beside(folder / "model.toml", name, "files.model")


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    (folder / "net.onnx").symlink_to(tmp_path / "net.onnx")
    (folder / "loop.onnx").symlink_to(folder / "loop.onnx")
    with pytest.raises(UsageError, match="a link to a file outside"):
        file_beside(folder / "model.toml", "net.onnx", "files.model")
    with pytest.raises(AgebenchError, match=r"loop\.onnx"):
        file_beside(folder / "model.toml", "loop.onnx", "files.model")


def test_files_below_the_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets").mkdir()
    save_network(tmp_path / "nets" / "net.onnx", [[1, 0, 0]])
    path = _spec(tmp_path, YEARS, model='model = "nets/net.onnx"')
    monkeypatch.chdir(tmp_path)
    for spelled in (path, Path("model.toml")):
        assert _years(spelled, _flat((9, 0, 0))) == pytest.approx([9])


def test_a_missing_model_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"files\.model names 'net\.onnx'"):
        SpecFileEstimator(_spec(tmp_path, YEARS))


def test_the_hash_is_checked(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    sha256 = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    right = _spec(tmp_path, YEARS, model=f'model = "net.onnx"\nsha256 = "{sha256}"')
    assert SpecFileEstimator(right).spec.weights[0].sha256 == sha256
    wrong = _spec(tmp_path, YEARS, model=f'model = "net.onnx"\nsha256 = "{"0" * 64}"')
    with pytest.raises(WeightsError, match=f"expected sha256 0000.*got {sha256}"):
        SpecFileEstimator(wrong)


@pytest.mark.parametrize("content", [b"", b"<html>" * 100, b"\x08\x07junk" * 50])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_models_that_are_none_give_one_sentence(
    tmp_path: Path, content: bytes, runtime: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx"):
        SpecFileEstimator(_spec(tmp_path, YEARS), runtime=runtime)


def test_suffix_and_device_are_checked(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [[1, 0, 0]])
    (tmp_path / "net.bin").write_bytes(b"1")
    with pytest.raises(UsageError, match="suffix"):
        SpecFileEstimator(_spec(tmp_path, YEARS, model='model = "net.bin"'))
    with pytest.raises(UsageError, match=r"no files\.config"):
        SpecFileEstimator(_spec(tmp_path, YEARS, model='model = "net.onnx"\nconfig = "net.bin"'))
    cuda = _spec(tmp_path, YEARS + '[runtime]\ndevice = "cuda"\n')
    with pytest.raises(DeviceError, match="CUDA"):
        SpecFileEstimator(cuda)
    assert SpecFileEstimator(cuda, device="cpu").spec.runtime.device == "cpu"
