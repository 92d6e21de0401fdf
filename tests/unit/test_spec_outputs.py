"""Spec files of networks whose numbers are not simply one distribution or one age."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agebench import load_estimator
from agebench.errors import ModelError, UsageError
from agebench.estimators.age_ranges import age_bins
from agebench.testing import generated_crops
from agebench.types import AgePrediction

RUNTIMES = ("cv2dnn", "onnxruntime")

HEAD = """
name = "net"
[files]
model = "net.onnx"
[crop]
size = [4, 4]
[input]
channel_order = "bgr"
mean = [0, 0, 0]
"""


def save_answers(path: Path, per_blue: float = 0.0, **outputs: list[float]) -> None:
    """Write a network that answers with the same numbers whatever it is shown.

    Where `per_blue` is given, so many times the first channel's mean is added.
    """
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
    ]
    weights, values = [], []
    for name, numbers in outputs.items():
        matrix = np.zeros((len(numbers), 3), np.float32)
        matrix[:, 0] = per_blue
        bias = np.asarray(numbers, np.float32)
        weights.append(onnx.numpy_helper.from_array(matrix, f"w_{name}"))
        weights.append(onnx.numpy_helper.from_array(bias, f"b_{name}"))
        inputs = ["flat", f"w_{name}", f"b_{name}"]
        nodes.append(helper.make_node("Gemm", inputs, [name], transB=1))
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(numbers)]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])
    graph = helper.make_graph(nodes, "net", [image], values, weights)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def answer(folder: Path, output: str, runtime: str = "onnxruntime") -> AgePrediction:
    """Return what the network says of a picture."""
    path = folder / "model.toml"
    path.write_text(HEAD + output)
    estimator = load_estimator(f"spec:{path}@{runtime}")
    crops = generated_crops(estimator.spec.crop, 1)
    return estimator.predict(crops)[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_number_of_a_vector(tmp_path: Path, runtime: str) -> None:
    """InsightFace's (1, 3): two for the gender, then the age in hundreds of years."""
    save_answers(tmp_path / "net.onnx", y=[3.5, -2.0, 0.41])
    text = '[output]\nkind = "years"\nindex = 2\nscale = 100.0\n'
    assert answer(tmp_path, text, runtime).years == pytest.approx(41, abs=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_part_of_a_vector_and_ranges_as_people_write_them(tmp_path: Path, runtime: str) -> None:
    """FairFace's (1, 18): seven races, two genders, nine age groups, none with a softmax."""
    logits = [0.0, 1.0, 0.0, 2.0, 5.0, 1.0, 0.0, 0.0, -3.0]
    save_answers(tmp_path / "net.onnx", y=[9.0] * 9 + logits)
    ranges = '["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]'
    text = f'[output]\nkind = "logits"\nslice = [9, 18]\n[bins]\nranges = {ranges}\n'
    got = answer(tmp_path, text, runtime)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert got.probabilities is not None
    np.testing.assert_allclose(got.probabilities, shares, atol=1e-6)
    middles = [1, 6, 14.5, 24.5, 34.5, 44.5, 54.5, 64.5, 74.5]
    assert got.years == pytest.approx(float(shares @ middles), abs=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_of_two_outputs(tmp_path: Path, runtime: str) -> None:
    """The two heads of OpenVINO's age-gender-recognition-retail-0013, and MiVOLO's scaled age."""
    save_answers(tmp_path / "net.onnx", prob=[0.1, 0.9], age_conv3=[0.305])
    text = '[output]\nname = "age_conv3"\nkind = "years"\nscale = 95.0\noffset = 2.0\n'
    assert answer(tmp_path, text, runtime).years == pytest.approx(30.975, abs=1e-4)
    with pytest.raises(ModelError, match=r"2 outputs \(prob, age_conv3\)"):
        answer(tmp_path, '[output]\nkind = "years"\n', runtime)


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", ["probabilities", "logits", "pairs"])
def test_ordinal_outputs(tmp_path: Path, form: str, runtime: str) -> None:
    older = [0.9, 0.8, 0.3, 0.6]  # of being above 10, 11, 12, 13: not in order, as in OR-CNN
    numbers = {
        "probabilities": older,
        "logits": [_logit(p) for p in older],
        "pairs": [x for p in older for x in (0.5, 0.5 + _logit(p))],
    }[form]
    save_answers(tmp_path / "net.onnx", y=[7.0, *numbers])
    text = (
        f'[output]\nkind = "ordinal"\nordinal = "{form}"\nslice = [1, {1 + len(numbers)}]\n'
        "[bins]\nfirst = 10\nlast = 14\n"
    )
    got = answer(tmp_path, text, runtime)
    assert got.years == pytest.approx(10 + sum(older), abs=1e-4)
    assert got.probabilities is None
    counted = answer(tmp_path, text + '[decode]\nrule = "count"\n', runtime)
    assert counted.years == 13


def test_ordinal_numbers_without_a_sigmoid_are_refused(tmp_path: Path) -> None:
    save_answers(tmp_path / "net.onnx", y=[4.0, -3.0])
    text = '[output]\nkind = "ordinal"\nordinal = "probabilities"\n[bins]\nfirst = 1\nlast = 3\n'
    with pytest.raises(ModelError, match=r"no sigmoid \(ordinal = .logits.\)"):
        answer(tmp_path, text)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_number_of_a_class(tmp_path: Path, runtime: str) -> None:
    save_answers(tmp_path / "net.onnx", y=[2.0])
    text = '[output]\nkind = "class"\n[bins]\nranges = ["under 10", "10 to 19", "20 or over"]\n'
    got = answer(tmp_path, text, runtime)
    assert got.years == pytest.approx(24.5)
    assert got.probabilities is None
    years = text + "years = [6, 15, 41]\n"
    assert answer(tmp_path, years, runtime).years == 41
    save_answers(tmp_path / "net.onnx", y=[3.0])
    with pytest.raises(ModelError, match=r"expected the number of a class, 0 to 2.*got 3"):
        answer(tmp_path, text, runtime)


def test_the_years_of_bins_decide_every_rule(tmp_path: Path) -> None:
    save_answers(tmp_path / "net.onnx", y=list(np.log([0.2, 0.5, 0.3])))
    text = (
        '[output]\nkind = "logits"\n[bins]\nranges = ["0-9", "10-19", "20+"]\nyears = [6, 16, 40]'
    )
    expected = {
        "expectation": 0.2 * 6 + 0.5 * 16 + 0.3 * 40,
        "top2-expectation": (0.5 * 16 + 0.3 * 40) / 0.8,
        "median": 16,
        "midpoint": 16,
    }
    for rule, years in expected.items():
        got = answer(tmp_path, f'{text}\n[decode]\nrule = "{rule}"\n')
        assert got.years == pytest.approx(years, abs=1e-3), rule


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('kind = "years"\nindex = -1', "output: index counts from 0"),
        ('kind = "years"\nslice = [0, 2]', "output: kind = 'years' takes one number: use index"),
        ('kind = "logits"\nindex = 1', "output: index selects one number"),
        ('kind = "logits"\nslice = [3, 3]', "output: slice must be"),
        ('kind = "ordinal"', "output: kind = 'ordinal' needs ordinal"),
        ('kind = "years"\nordinal = "pairs"', "output: kind = 'ordinal' needs"),
        ('kind = "logits"\n[bins]\nfirst=1\nlast=3\nyears=[1]', "years must be one age of 0 to"),
        ('kind = "logits"\n[bins]\nfirst=1\nlast=2\nyears=[2, 1]', "bins: years must be ascending"),
        ('kind = "class"\n[bins]\nfirst=1\nlast=2\n[decode]\nrule="median"', "must be one of mid"),
        ('kind = "logits"\n[bins]\nfirst=1\nlast=2\n[decode]\nrule="count"', "decode.rule must"),
    ],
)
def test_what_does_not_go_together_names_the_key(
    tmp_path: Path, written: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        answer(tmp_path, f"[output]\n{written}\n")


def test_a_part_that_the_output_lacks(tmp_path: Path) -> None:
    save_answers(tmp_path / "net.onnx", y=[0.1, 0.2])
    with pytest.raises(ModelError, match=r"2 numbers.*up to number 2"):
        answer(tmp_path, '[output]\nkind = "years"\nindex = 2\n')
    with pytest.raises(ModelError, match=r"\(1, 1\), got \(1, 2\): choose one.* index = 0, 1"):
        answer(tmp_path, '[output]\nkind = "years"\n')
    with pytest.raises(ModelError, match=r"3 bins need 3 numbers; choose .*slice = \[first"):
        answer(tmp_path, '[output]\nkind = "logits"\n[bins]\nfirst = 1\nlast = 3\n')


def test_ranges_as_people_write_them() -> None:
    spellings = ("0 - 2", "(4, 6)", "8 to 12", "aged 15-20", "25\u201332 years", "38", "60+")
    bins, years = age_bins(spellings)
    assert bins.labels == ("0-2", "4-6", "8-12", "15-20", "25-32", "38", "60-120")
    assert list(years) == [1, 5, 10, 17.5, 28.5, 38, 60]
    for last in ("70+", "more than 70", "70 and over", "over 70", ">70", ">=70", "70 or older"):
        bins, years = age_bins(("60-69", last))
        assert [bins.lows[1], years[1]] == [70, 74.5], last
    assert age_bins(("<3", "3-9"))[0].labels == ("0-2", "3-9")
    for wrong in ("3-", "-3", "70++", "9-3", "03-Sep", "more than", "<0", "1e3", ""):
        with pytest.raises(ValueError, match="expected ranges such as"):
            age_bins((wrong,))


def test_the_golden_answer_is_checked_on_loading(tmp_path: Path) -> None:
    save_answers(tmp_path / "net.onnx", per_blue=0.2, y=[0.0])
    text = '[output]\nkind = "years"\n[golden]\nyears = {}\n'
    # Blue of the 4x4 card: 0, 85, 170, 255 in four rows, but half and 127 more in the middle.
    card = [0, 85, 170, 255] * 4
    for middle in (5, 6, 9, 10):
        card[middle] = card[middle] // 2 + 127
    right = 0.2 * sum(card) / 16
    answer(tmp_path, text.format(right))
    for runtime in RUNTIMES:
        with pytest.raises(ModelError, match=r"for the test card.*got 2\d\.\d+ under " + runtime):
            answer(tmp_path, text.format(right + 0.2), runtime)


def save_class(path: Path, operator: str, keep: int) -> None:
    """Write a network that answers with the third of four classes."""
    high_low = [0.0, 0.0, 1.0, 0.0] if operator == "ArgMax" else [1.0, 1.0, 0.0, 1.0]
    weights = [
        onnx.numpy_helper.from_array(np.zeros((4, 3), np.float32), "w"),
        onnx.numpy_helper.from_array(np.asarray(high_low, np.float32), "b"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
        helper.make_node(operator, ["logits"], ["y"], axis=1, keepdims=keep),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])
    number = helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 1] if keep else ["n"])
    graph = helper.make_graph(nodes, "net", [image], [number], weights)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_the_class_of_an_argmax(
    tmp_path: Path, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keepdims=0, as torch exports it, cv2.dnn 4.12 and 4.14 leave the output unwritten."""
    text = '[output]\nkind = "class"\n[bins]\nranges = ["0-17", "18-59", "60-69", "more than 69"]\n'
    save_class(tmp_path / "net.onnx", operator, keep=1)
    for runtime in RUNTIMES:
        assert answer(tmp_path, text, runtime).years == 64.5
    save_class(tmp_path / "net.onnx", operator, keep=0)
    assert answer(tmp_path, text, "onnxruntime").years == 64.5
    monkeypatch.setattr("cv2.__version__", "4.14.0")
    with pytest.raises(ModelError, match=rf"does not compute {operator}.*ask for '@onnxruntime'"):
        answer(tmp_path, text, "cv2dnn")
