"""ONNX files under PyTorch answer as under onnxruntime, or say why they can't."""

from __future__ import annotations

from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench.errors import DeviceError, ModelError, UsageError
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.runtimes.age_file import AgeFile, generated
from agebench.runtimes.base import ModelSource, use_threads, use_threads_for_good
from agebench.runtimes.opening import open_model
from agebench.types import Crops
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS

torch = pytest.importorskip("torch")
torch_graph: Any = pytest.importorskip("agebench.runtimes.torch_graph")

Values = dict[str, Any]


def _file(folder: Path, nodes: list[Any], stored: Values, shape: tuple[int, ...]) -> ModelSource:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    sides: list[str | int | None] = ["n", *shape]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    path = folder / "g.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return ModelSource("onnx", path)


def _rng(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


CASES: dict[str, tuple[list[Any], Values]] = {
    "uneven padding": (
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[0, 0, 1, 1], strides=[2, 2])],
        {"w": _rng(5, 4, 3, 3)},
    ),
    "groups and dilation": (
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], group=2, dilations=[2, 2])],
        {"w": _rng(6, 2, 3, 3), "b": _rng(6)},
    ),
    "pooling up to the edge": (
        [
            helper.make_node(
                "MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
            )
        ],
        {},
    ),
    "averages without the padding": (
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        {},
    ),
    "averages without uneven padding": (
        [
            helper.make_node(
                "AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]
            )
        ],
        {},
    ),
    "averages with uneven padding": (
        [
            helper.make_node(
                "AveragePool",
                ["x"],
                ["y"],
                kernel_shape=[3, 2],
                pads=[1, 0, 0, 1],
                count_include_pad=1,
            )
        ],
        {},
    ),
    "response normalisation": (
        [helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.3, beta=0.75, bias=1.0)],
        {},
    ),
    "products": (
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0),
        ],
        {"w": _rng(4 * 11 * 9, 3), "b": _rng(3)},
    ),
    "slices": (
        [helper.make_node("Slice", ["x", "from", "to", "axes"], ["y"])],
        {"from": np.array([1, -4]), "to": np.array([3, 1 << 40]), "axes": np.array([1, 3])},
    ),
    "shapes": (
        [
            helper.make_node("Reshape", ["x", "shape"], ["r"]),
            helper.make_node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0),
        ],
        {"shape": np.array([0, 2, 2, -1])},
    ),
    "places": (
        [helper.make_node("Gather", ["x", "at"], ["y"], axis=2)],
        {"at": np.array([[3, 1], [0, 0]])},
    ),
    "the most probable": (
        [
            helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            helper.make_node("ArgMax", ["p"], ["a"], axis=1, keepdims=0),
            helper.make_node("Gather", ["years", "a"], ["y"], axis=0),
        ],
        {"years": np.array([3.0, 40.0, 50.0, 60.0], np.float32)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_are_those_of_onnxruntime(case: str, tmp_path: Path) -> None:
    source = _file(tmp_path, *CASES[case], (4, 11, 9))
    given = {"": _rng(3, 4, 11, 9)}
    expected = open_model(source, runtime="onnxruntime").run(given)["y"]
    found = open_model(source, runtime="torch").run(given)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["multicrop-resnet", "caffe-age-net-utkface"])
def test_bundled_networks_answer_as_under_onnxruntime(name: str) -> None:
    here, there = (load_estimator(f"{name}@{runtime}") for runtime in ("torch", "onnxruntime"))
    crops = generated(here.spec.crop, 3)
    for one, other in zip(here.predict(crops), there.predict(crops), strict=True):
        assert one.years == pytest.approx(other.years, abs=1e-3)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert here.spec.runtime.runtime == "torch"


def test_half_precision_leaves_the_decoding_exact() -> None:
    path = Path(__file__).resolve().parents[2] / "pretrained" / "multicrop-resnet.onnx"
    exact = torch_graph.read_graph(path)
    half = torch_graph.read_graph(path).computed_in("bfloat16", channels_last=True)
    crop, detector = load_estimator("multicrop-resnet").spec.crop, load_detector("aligned")
    pictures = face_pictures(
        load_dataset("sample").samples[::18], detector, [crop], workers=0, max_pixels=MAX_PIXELS
    )
    faces = Crops.join([picture.crops[0] for picture in pictures])
    given = [
        torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
        for pixels in faces.views.values()
    ]
    given.append(torch.ones(4, *exact.shapes["present"]))  # all views are there
    with torch.inference_mode():
        years, shares = exact(*given)
        near_years, near = half(*(value.bfloat16() for value in given))
    assert near.dtype == near_years.dtype == torch.float32
    torch.testing.assert_close(near.sum(1), torch.ones(4), atol=1e-4, rtol=0)
    assert float((near - shares).abs().max()) < 0.03
    assert float((near_years - years).abs().max()) < 3
    with pytest.raises(UsageError, match=r"'int4'.*float32"):
        exact.computed_in("int4")


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    source = _file(tmp_path, [helper.make_node("Erf", ["x"], ["y"])], {}, (4, 3, 3))
    with pytest.raises(ModelError, match=r"operator Erf.*@onnxruntime"):
        open_model(source, runtime="torch")


def test_numbers_of_other_kinds_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    source = _file(tmp_path, [node], {"w": np.ones(1, np.float16)}, (4, 3, 3))
    with pytest.raises(ModelError, match="float16"):
        open_model(source, runtime="torch")


def test_wrong_input_is_a_sentence(tmp_path: Path) -> None:
    source = _file(tmp_path, *CASES["groups and dilation"], (4, 11, 9))
    with pytest.raises(ModelError, match="torch failed"):
        open_model(source, runtime="torch").run({"": _rng(1, 3, 11, 9)})


def test_a_gpu_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = _file(tmp_path, *CASES["places"], (4, 11, 9))
    with pytest.raises(DeviceError, match=r"finds no GPU.*@torch:cpu"):
        open_model(source, runtime="torch", device="cuda")
    with pytest.raises(UsageError, match="'tpu'"):
        open_model(source, runtime="torch", device="tpu")


def test_memory_that_does_not_suffice_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _file(tmp_path, *CASES["places"], (4, 11, 9))
    model = open_model(source, runtime="torch")

    def full(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB\nmore")

    monkeypatch.setattr(torch_graph.TorchGraph, "forward", full)
    with pytest.raises(DeviceError, match=r"does not fit.*smaller batches"):
        model.run({"": _rng(1, 4, 11, 9)})


def test_the_number_of_threads_is_set_once_and_not_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting it begins PyTorch's pool anew, which takes longer than many a run."""
    now, asked = [1], list[int]()

    def set_number(count: int) -> None:
        asked.append(count)
        now[0] = count

    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", set_number)
    source = _file(tmp_path, *CASES["groups and dilation"], (4, 9, 9))
    faces = {"x": _rng(1, 4, 9, 9)}
    with use_threads(3):
        models = [open_model(source, runtime="torch") for _ in range(2)]
        for _ in range(5):
            for model in models:
                model.run(faces)
        with use_threads(2):
            open_model(source, runtime="torch").run(faces)
        models[0].run(faces)
        assert asked == [3, 2, 3]
    assert (asked, now) == ([3, 2, 3, 1], [1]), "as it was, outside"
    models[0].run(faces)
    assert asked[4:] == [3, 1], "one that outlives its measurement keeps to its number"

    def child() -> None:
        use_threads_for_good(4)
        model = open_model(source, runtime="torch")
        for _ in range(3):
            model.run(faces)

    copy_context().run(child)
    assert asked[6:] == [4]


def test_eight_bit_files_are_refused() -> None:
    small = load_estimator("multicrop-resnet-small").spec.weights[0].file
    path = Path(__file__).resolve().parents[2] / "pretrained" / small
    with pytest.raises(UsageError, match="8-bit"):
        AgeFile(path, "torch")
