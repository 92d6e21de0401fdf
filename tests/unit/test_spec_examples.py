"""Whole spec files that readers start from: the page's, and those of models never tried here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench import load_estimator
from agebench.errors import ModelError
from agebench.testing import generated_crops

PAGE = Path(__file__).parents[2] / "docs" / "spec-file.md"
RUNTIMES = ("cv2dnn", "onnxruntime")


def save_net(path: Path, size: int, outputs: Mapping[str, tuple[list[int], list[float]]]) -> Path:
    """Write a network that answers with the same numbers whatever it is shown.

    Args:
        path: of the ONNX file.
        size: side of its input, pixels.
        outputs: by name the shape of each, without the batch, and its numbers.
    """
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
    ]
    stored, values = [], []
    for name, (shape, numbers) in outputs.items():
        nothing = np.zeros((3, len(numbers)), np.float32)
        stored += [
            numpy_helper.from_array(nothing, f"w_{name}"),
            numpy_helper.from_array(np.array(numbers, np.float32), f"b_{name}"),
            numpy_helper.from_array(np.array([-1, *shape], np.int64), f"s_{name}"),
        ]
        nodes += [
            helper.make_node("Gemm", ["flat", f"w_{name}", f"b_{name}"], [f"row_{name}"]),
            helper.make_node("Reshape", [f"row_{name}", f"s_{name}"], [name]),
        ]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, size, size])
    graph = helper.make_graph(nodes, "net", [image], values, stored)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def one_hot(length: int, index: int) -> list[float]:
    """Logits of which one is far above the others."""
    return [30.0 if at == index else 0.0 for at in range(length)]


UNTRIED = {
    # Two for the gender, then the age in hundreds of years.
    "insightface-genderage": (96, {"fc1": ([3], [0.9, 0.1, 0.37])}, 37.0),
    # Seven races, two genders, nine age groups: the fourth is 20 to 29.
    "fairface-resnet34": (224, {"output": ([18], one_hot(18, 9 + 3))}, 24.5),
    # Two for the gender, then the age about 48, in spans of 94 years.
    "mivolo-face": (224, {"output": ([3], [0.0, 0.0, 0.1])}, 57.4),
    "openvino-age-gender": (
        62,
        {"prob": ([2, 1, 1], [0.5, 0.5]), "age_conv3": ([1, 1, 1], [0.42])},
        42.0,
    ),
}


def years_of(reference: str) -> float:
    estimator = load_estimator(reference)
    return estimator.predict(generated_crops(estimator.spec.crop, 1))[0].years


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", UNTRIED)
def test_files_of_models_that_were_never_tried_read_the_outputs_they_describe(
    name: str, runtime: str, tmp_path: Path
) -> None:
    size, outputs, years = UNTRIED[name]
    path = save_net(tmp_path / "net.onnx", size, outputs)
    assert years_of(f"{name}:{path}@{runtime}") == pytest.approx(years, abs=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_pages_vision_transformer(runtime: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (text,) = (block for block in blocks if "vit-age-classifier" in block)
    (tmp_path / "vit.toml").write_text(text)
    save_net(tmp_path / "model.onnx", 224, {"logits": ([9], one_hot(9, 7))})
    assert years_of(f"spec:{tmp_path / 'vit.toml'}@{runtime}") == pytest.approx(64.5, abs=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", r"has 2 outputs \(gender, age\): choose one with name in \[output\]"),
        ('name = "years"\n', r"has no output 'years', it has gender, age"),
    ],
)
def test_outputs_are_named_before_anything_runs(
    named: str, message: str, runtime: str, tmp_path: Path
) -> None:
    outputs = {"gender": ([1], [0.5]), "age": ([1], [33.0])}
    save_net(tmp_path / "net.onnx", 8, outputs)
    head = (
        'name = "net"\n[files]\nmodel = "net.onnx"\n[crop]\nname = "chip"\nsize = [8, 8]\n'
        '[input]\nchannel_order = "rgb"\nmean = [0, 0, 0]\n[output]\nkind = "years"\n'
    )
    (tmp_path / "net.toml").write_text(head + named)
    with pytest.raises(ModelError, match=message):
        load_estimator(f"spec:{tmp_path / 'net.toml'}@{runtime}")
    (tmp_path / "net.toml").write_text(f'{head}name = "age"\n')
    assert years_of(f"spec:{tmp_path / 'net.toml'}@{runtime}") == pytest.approx(33)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ('kind = "logits"\nslice = [1, 3]', r"slice = \[1, 3\] takes 2 numbers, 3 bins need 3"),
        (
            'kind = "ordinal"\nordinal = "logits"\nslice = [1, 4]',
            r"3 bins need 2: write slice = \[1, 3\]",
        ),
        (
            'kind = "ordinal"\nordinal = "pairs"\nslice = [0, 3]',
            r"3 bins need 4: write slice = \[0, 4\]",
        ),
    ],
)
def test_a_part_of_the_wrong_length_ends_at_load(output: str, message: str, tmp_path: Path) -> None:
    save_net(tmp_path / "net.onnx", 8, {"y": ([5], [0.0, 1.0, 2.0, 3.0, 4.0])})
    (tmp_path / "net.toml").write_text(
        'name = "net"\n[files]\nmodel = "net.onnx"\n[crop]\nname = "chip"\nsize = [8, 8]\n'
        f'[input]\nchannel_order = "rgb"\nmean = [0, 0, 0]\n[output]\n{output}\n'
        '[bins]\nranges = ["0-17", "18-59", "60+"]\n'
    )
    with pytest.raises(ModelError, match=message):
        load_estimator(f"spec:{tmp_path / 'net.toml'}")
