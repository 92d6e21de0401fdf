"""What a spec file declares against what the model's files hold, before anything runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agebench import load_dataset, load_detector, load_estimator
from agebench.errors import AgebenchError, DatasetError, ModelError, UsageError, WeightsError
from agebench.runtimes.base import ModelSource
from agebench.runtimes.graph_inputs import GraphInput, graph_inputs
from agebench.runtimes.opening import data_file, read_model
from agebench.types import Crops

RUNTIMES = ("cv2dnn", "onnxruntime")

SPEC = """
name = "net"
[files]
model = "net.onnx"
{files}
[crop]
size = [{size}, {size}]
[input]
channel_order = "{order}"
mean = [{mean}]
{input}
[output]
kind = "years"
"""


def _spec(
    folder: Path, size: int = 6, order: str = "bgr", files: str = "", extra: str = ""
) -> Path:
    mean = "0" if order == "gray" else "0, 0, 0"
    path = folder / "model.toml"
    text = SPEC.format(size=size, order=order, mean=mean, files=files, input=extra)
    path.write_text(text)
    return path


def save_pooled(
    path: Path,
    shape: tuple[int | str, ...] = ("n", 3, 6, 6),
    weight: float = 1.0,
    kind: int = TensorProto.FLOAT,
) -> None:
    """Write a network that answers with `weight` times the first channel's mean.

    It ends in a global pooling, so cv2.dnn runs it on pictures of any size.
    """
    nodes, start = [], "x"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT))
        start = "floats"
    channels = shape[1] if isinstance(shape[1], int) and shape[1] in (1, 3) else 3
    if shape[-1] == 3:
        nodes.append(helper.make_node("Transpose", [start], ["turned"], perm=[0, 3, 1, 2]))
        start = "turned"
    matrix = np.zeros((1, channels), np.float32)
    matrix[0, 0] = weight
    nodes += [
        helper.make_node("GlobalAveragePool", [start], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    image = helper.make_tensor_value_info("x", kind, shape)
    years = helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 1])
    weights = [onnx.numpy_helper.from_array(matrix, "w")]
    graph = helper.make_graph(nodes, "net", [image], [years], weights)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def years(path: Path, runtime: str, blue: int = 40) -> float:
    estimator = load_estimator(f"spec:{path}@{runtime}")
    pixels = np.full((1, *estimator.spec.crop.views["face"].size_hw, 3), (blue, 0, 0), np.uint8)
    crops = Crops({"face": pixels}, {"face": np.ones(1, np.bool_)}, {"face": np.zeros(1)})
    return estimator.predict(crops)[0].years


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("shape", "spec", "message"),
    [
        (
            ("n", 3, 6, 6),
            {"size": 24},
            r"\(n, 3, 6, 6\), height 6 .*gives height 24.*size = \[6, 6\]",
        ),
        (("n", 3, "h", 6), {"size": 24}, r"height any and width 6.*write size = \[24, 6\]"),
        (("n", 1, 6, 6), {}, '"bgr" gives 3: write channel_order = "gray"'),
        (("n", 3, 6, 6), {"order": "gray"}, 'gives 1: write channel_order = "bgr" or "rgb"'),
        (("n", 6, 6, 3), {}, 'another order of axes: write layout = "nhwc"'),
        (("n", 3, 6, 6), {"extra": 'layout = "nhwc"'}, 'write layout = "nchw"'),
        (("n", 3, 36), {}, r"\(n, 3, 36\), expected four axes"),
        ((8, 3, 6, 6), {}, "takes 8 faces at a time, expected one or any number"),
    ],
)
def test_size_channels_and_layout_are_compared(
    tmp_path: Path, runtime: str, shape: tuple[int | str, ...], spec: dict[str, str], message: str
) -> None:
    if len(shape) == 3:
        onnx_input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])], "g", [onnx_input], [onnx_input]
        )
        onnx.save(helper.make_model(graph), str(tmp_path / "net.onnx"))
    else:
        save_pooled(tmp_path / "net.onnx", shape)
    with pytest.raises(ModelError, match=message):
        load_estimator(f"spec:{_spec(tmp_path, **spec)}@{runtime}")  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_type_of_the_input_is_compared(tmp_path: Path, runtime: str) -> None:
    save_pooled(tmp_path / "net.onnx", kind=TensorProto.FLOAT16)
    with pytest.raises(ModelError, match=r'takes float16 numbers.* write type = "float16"'):
        load_estimator(f"spec:{_spec(tmp_path)}@{runtime}")
    save_pooled(tmp_path / "net.onnx", kind=TensorProto.INT32)
    with pytest.raises(ModelError, match=r"int32.*float32, float16.*uint8"):
        load_estimator(f"spec:{_spec(tmp_path)}@{runtime}")


@pytest.mark.parametrize("kind", ["float16", "uint8"])
def test_inputs_of_other_types(tmp_path: Path, kind: str) -> None:
    number = {"float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}[kind]
    save_pooled(tmp_path / "net.onnx", kind=number)
    path = _spec(tmp_path, extra=f'type = "{kind}"')
    assert years(path, "onnxruntime", 37) == pytest.approx(37)
    if kind == "uint8":
        with pytest.raises(UsageError, match="takes pixels as they are"):
            load_estimator(
                f"spec:{_spec(tmp_path, extra='scale = 0.5' + chr(10) + 'type = ' + repr('uint8'))}"
            )


def test_what_other_formats_say_of_their_input() -> None:
    def caffe(text: str) -> list[GraphInput]:
        return list(graph_inputs(ModelSource("caffe", Path("x"), config=text)))

    expected = [GraphInput("data", (None, 3, 224, 112), "float32")]
    dims = "dim: 1 dim: 3\n dim: 224 dim: 112"
    assert caffe(f'input: "data"\ninput_shape {{ {dims} }}\nlayer {{ top: "a" }}') == expected
    assert caffe(f'input: "data"\n{dims.replace("dim", "input_dim")}') == expected
    layer = (
        f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape: {{ {dims} }} }} }}'
    )
    assert caffe(f'name: "net" # input: "no"\n{layer}') == expected
    assert caffe('layer { name: "x" }') == []
    darknet = "[net]\nwidth=320\nheight = 256\nchannels=1\n[convolutional]\nwidth=9\n"
    source = ModelSource("darknet", Path("x"), config=darknet)
    assert list(graph_inputs(source)) == [GraphInput("", (None, 1, 256, 320), "float32")]


@pytest.mark.shared
def test_a_tensorflow_graph_says_its_size(shared_weights: Path) -> None:
    file = shared_weights / "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
    found = graph_inputs(ModelSource("tensorflow", file))
    assert list(found) == [GraphInput("input_1", (None, 224, 224, 3), "float32")]


# --- messages of the libraries -------------------------------------------------------------------


def test_all_lines_of_a_message_are_kept(tmp_path: Path) -> None:
    """ONNX Runtime says in its second line which number was wrong."""
    save_pooled(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    path = _spec(tmp_path)
    model = onnx.load(str(tmp_path / "net.onnx"))
    model.graph.node.insert(0, helper.make_node("Slice", ["x", "a", "b"], ["cut"]))
    model.graph.node[1].input[0] = "cut"
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(ModelError) as caught:
        load_estimator(f"spec:{path}@cv2dnn")
    assert "ask for '@onnxruntime'" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- every file that is loaded counts ------------------------------------------------------------


def _split(folder: Path, weight: float) -> Path:
    """Write a model whose numbers lie in net.onnx.data."""
    save_pooled(folder / "net.onnx", weight=weight)
    model = onnx.load(str(folder / "net.onnx"))
    (folder / "net.onnx.data").unlink(missing_ok=True)
    onnx.save_model(
        model,
        str(folder / "net.onnx"),
        save_as_external_data=True,
        location="net.onnx.data",
        size_threshold=0,
    )
    return folder / "net.onnx"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_data_beside_an_onnx_file_is_hashed_recorded_and_pinned(
    tmp_path: Path, runtime: str
) -> None:
    model, data = _split(tmp_path, 1.0), tmp_path / "net.onnx.data"
    first = _hash(model)
    assert years(_spec(tmp_path), runtime, 36) == pytest.approx(36)
    recorded = load_estimator(f"spec:{_spec(tmp_path)}@{runtime}").spec.weights
    assert [(item.file, item.sha256) for item in recorded] == [
        ("net.onnx", first),
        ("net.onnx.data", _hash(data)),
    ]
    alone = _spec(tmp_path, files=f'sha256 = "{first}"')
    with pytest.raises(
        UsageError, match=r"only covers net.onnx.*\n.*net.onnx.data. = .[0-9a-f]{64}"
    ):
        load_estimator(f"spec:{alone}@{runtime}")
    both = f'sha256 = "{first}"\ndata_sha256 = {{ "net.onnx.data" = "{_hash(data)}" }}'
    assert years(_spec(tmp_path, files=both), runtime, 36) == pytest.approx(36)
    data.write_bytes(np.float32(2.0).tobytes() + data.read_bytes()[4:])
    assert _hash(model) == first
    with pytest.raises(WeightsError, match=r"net\.onnx\.data: expected sha256"):
        load_estimator(f"spec:{_spec(tmp_path, files=both)}@{runtime}")


def test_data_files_that_are_wrong(tmp_path: Path) -> None:
    model, data = _split(tmp_path, 1.0), tmp_path / "net.onnx.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:2])
    with pytest.raises(ModelError, match=r"'net\.onnx\.data'.* 2.*truncated"):
        read_model(model, "onnx")
    data.unlink()
    with pytest.raises(WeightsError, match=r"does not exist: put it next to the model"):
        read_model(model, "onnx")
    outside = tmp_path / "outside"
    outside.write_bytes(whole)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "net.onnx.data").symlink_to(outside)
    with pytest.raises(ModelError, match="a link to a file elsewhere"):
        data_file(inner / "net.onnx", "net.onnx.data")
    for name in ("../outside", "/etc/passwd", "", "a\\b", "C:x"):
        with pytest.raises(ModelError, match="only files in its own folder are read"):
            data_file(inner / "net.onnx", name)


def test_a_pin_of_a_file_that_is_not_loaded(tmp_path: Path) -> None:
    save_pooled(tmp_path / "net.onnx")
    pins = f'data_sha256 = {{ "other.data" = "{"0" * 64}" }}'
    with pytest.raises(UsageError, match="does not load"):
        load_estimator(f"spec:{_spec(tmp_path, files=pins)}")


# --- what is not a model -------------------------------------------------------------------------

PAGES = {
    b"<!DOCTYPE html><html><body>404</body></html>": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "a Git LFS pointer",
    b"": "an empty file",
}


@pytest.mark.parametrize("content", PAGES, ids=PAGES.values())
@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("spec:model.toml", "net.onnx"),
        ("spec:model.toml@onnxruntime", "net.onnx"),
        ("onnx:net.onnx", "net.onnx"),
        ("hse-mobilenet:net.pb", "net.pb"),
        ("caffe-age-net:net.caffemodel", "net.caffemodel"),
        ("multicrop-resnet:net.onnx", "net.onnx"),
        ("torch:net.safetensors", "net.safetensors"),
    ],
)
def test_a_page_or_a_pointer_is_called_so_wherever_a_model_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, file: str, content: bytes
) -> None:
    (tmp_path / file).write_bytes(content)
    _spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AgebenchError, match=PAGES[content]):
        load_estimator(reference)
    if reference.startswith("onnx"):
        with pytest.raises(AgebenchError, match=PAGES[content]):
            load_detector(f"yolov8-face:{file}")


@pytest.mark.parametrize("content", list(PAGES)[:2], ids=list(PAGES.values())[:2])
def test_so_it_is_of_what_lies_beside_a_model_and_of_lists(tmp_path: Path, content: bytes) -> None:
    page = content + b" " * 4096
    said = PAGES[content]
    _split(tmp_path, 1.0)
    data = tmp_path / "net.onnx.data"
    data.write_bytes(page)  # long enough for every number: its letters were taken for weights
    with pytest.raises(ModelError, match=rf"net\.onnx\.data is {said}"):
        load_estimator(f"spec:{_spec(tmp_path)}")
    (tmp_path / "net.caffemodel").write_bytes(b"\n\3net")
    (tmp_path / "net.prototxt").write_bytes(page)
    spec = _spec(tmp_path, files='config = "net.prototxt"')
    spec.write_text(spec.read_text().replace("net.onnx", "net.caffemodel"))
    with pytest.raises(UsageError, match=rf"net\.prototxt is {said} of .* in place of a layout"):
        load_estimator(f"spec:{spec}")
    spec.write_bytes(page)
    for load in (load_estimator, load_detector):
        with pytest.raises(UsageError, match=f"is {said} of .* in place of a TOML file"):
            load(f"spec:{spec}")
    (tmp_path / "list.csv").write_bytes(page)
    with pytest.raises(DatasetError, match=f"is {said} of .* in place of a CSV file"):
        load_estimator(f"answers:{tmp_path / 'list.csv'}")
    with pytest.raises(DatasetError, match=f"is {said} of .* in place of a CSV file"):
        load_dataset("csv", tmp_path / "list.csv")


@pytest.mark.parametrize(
    "content", [b"404: Not Found", b'{"message": "Not Found"}', b"<?xml?><a/>"]
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_servers_refusal_in_place_of_a_model(
    tmp_path: Path, runtime: str, content: bytes
) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=rf"net\.onnx is a text of {len(content)} bytes \("):
        load_estimator(f"spec:{_spec(tmp_path)}@{runtime}")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_cut_off_is_called_so(tmp_path: Path, runtime: str) -> None:
    save_pooled(tmp_path / "net.onnx")
    whole = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[:-10])
    with pytest.raises(ModelError, match=r"is truncated.* needs \d+ more"):
        load_estimator(f"spec:{_spec(tmp_path)}@{runtime}")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("start", "said"), [(b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b\x08", "packed by gzip")]
)
def test_a_packed_model_is_called_so(tmp_path: Path, runtime: str, start: bytes, said: str) -> None:
    (tmp_path / "net.onnx").write_bytes(start + b"\0" * 200)
    with pytest.raises(ModelError, match=rf"net\.onnx is {said}: unpack it"):
        load_estimator(f"spec:{_spec(tmp_path)}@{runtime}")


def test_a_tflite_file_that_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 8)
    path = _spec(tmp_path)
    golden = "\n[golden]\nyears = 30.0\n"
    path.write_text(path.read_text().replace("net.onnx", "net.tflite") + golden)
    with pytest.raises(ModelError, match=r"net\.tflite: .*The file may be truncated"):
        load_estimator(f"spec:{path}")


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("net.h5", "converter = .keras."),
        ("net.keras", "converted to ONNX"),
        ("net.pt", "programs that run when they are loaded.*torch.onnx.export"),
        ("net.xml", "OpenVINO's files are not read"),
        ("net.tflite", "some TFLite models wrongly"),
    ],
)
def test_formats_that_are_not_read_say_what_to_do(tmp_path: Path, file: str, advice: str) -> None:
    (tmp_path / file).write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    path = _spec(tmp_path)
    path.write_text(path.read_text().replace("net.onnx", file))
    with pytest.raises(UsageError, match=advice):
        load_estimator(f"spec:{path}")
