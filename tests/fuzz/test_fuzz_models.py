"""Damaged models and pictures, tried in a child process.

What the project parses itself must not crash at all.  The parsers of OpenCV and ONNX Runtime are
others' native code: crashes and hangs there are counted and shown, and cost no more than the child.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from agebench.modelfiles.manifest import bundled_dir
from agebench.runtimes.caffe_model import CaffeLayer, write_caffemodel
from agebench.types import Image
from tests.fuzz.model_child import Child
from tests.fuzz.mutations import TOKENS, mutated
from tests.fuzz.promises import counted

PROTOTXT = """name: "tiny"
input: "data"
input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm1" top: "fc"
  inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=18
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,7, 7,15, 13,25
classes=1
num=3
"""

LAYOUT_TOKENS = (*TOKENS[:30], b"2147483647", b"1000000000", b"65536", b"-1", b"0", b"0.5")


def _onnx(age_file: bool = False) -> bytes:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (2, 3, 3, 3)).astype(np.float32)
    dense = rng.normal(0, 0.1, (2, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["face", "w"], ["a"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"], axis=1),
        helper.make_node("Gemm", ["d", "dense"], ["e"]),
        helper.make_node("Softmax", ["e"], ["probabilities"], axis=1),
        helper.make_node("MatMul", ["probabilities", "years"], ["age"]),
    ]
    shape: list[int | str] = ["n", 3, 32, 32]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("age", 1), ("probabilities", 3))
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, shape)],
        outputs if age_file else outputs[1:],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(dense, "dense"),
            numpy_helper.from_array(np.array([[5.0], [20.5], [60.5]], np.float32), "years"),
        ],
    )
    if not age_file:
        del graph.node[-1]
        del graph.initializer[-1]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if age_file:
        from agebench.runtimes.onnx_metadata import FileSpec, FileView, to_properties

        spec = FileSpec(
            name="tiny",
            views=(FileView("face", "face", (32, 32)),),
            bins=((0, 10), (11, 30), (31, 90)),
            bin_years=(5.0, 20.5, 60.5),
            decode="expectation",
            licence="CC0",
            trained_on="nothing",
            label_kind="unknown",
            sources=(),
        )
        onnx.helper.set_model_props(model, to_properties(spec))
    return bytes(model.SerializeToString())


@cache
def _caffemodel(folder: Path) -> bytes:
    rng = np.random.default_rng(0)
    layers = [
        CaffeLayer("conv1", "Convolution", _blobs(rng, (2, 3, 3, 3)), ("data",), ("conv1",)),
        CaffeLayer("fc", "InnerProduct", _blobs(rng, (4, 98)), ("norm1",), ("fc",)),
    ]
    path = folder / "whole.caffemodel"
    write_caffemodel(path, layers, encoding="v2", name="tiny")
    return path.read_bytes()


def _blobs(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    weights = rng.normal(0, 0.1, shape).astype(np.float32)
    return weights, np.zeros(shape[0], np.float32)


def _weights() -> bytes:
    count = 4 * 4 + 4 * 27 + 18 + 18 * 4
    values = np.abs(np.random.default_rng(0).normal(0.5, 0.1, count)).astype("<f4")
    return struct.pack("<iiiq", 0, 2, 5, 0) + values.tobytes()


def judge(family: str, answer: str, *, native: bool = False) -> None:
    """Count an answer of the child; what is neither read nor refused fails the test."""
    kind = answer.split(":", maxsplit=1)[0]
    counted(family, {"ok": "read", "refused": "refused"}.get(kind, kind))
    if kind in ("crashed", "hung") and native:
        return
    assert kind in ("ok", "refused"), f"{family}: {answer}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def _ask(child: Child, folder: Path, name: str, content: bytes, **request: str) -> str:
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return child.ask(path=str(path), **request)


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
@given(content=mutated(_onnx()))
def test_onnx(runtime: str, child: Child, folder: Path, content: bytes) -> None:
    answer = _ask(child, folder, "x.onnx", content, family="model", kind="onnx", runtime=runtime)
    judge(f"ONNX under {runtime}", answer, native=True)


@given(content=mutated(_onnx()))
def test_onnx_checks(child: Child, folder: Path, content: bytes) -> None:
    judge("ONNX, own checks", _ask(child, folder, "x.onnx", content, family="check-onnx"))


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
@given(content=mutated(_onnx(age_file=True), most=3))
def test_exported_files(runtime: str, child: Child, folder: Path, content: bytes) -> None:
    answer = _ask(child, folder, "x.onnx", content, family="age-file", runtime=runtime)
    judge(f"onnx: under {runtime}", answer, native=True)


@given(data=st.data())
def test_caffe(child: Child, folder: Path, data: st.DataObject) -> None:
    content, layout = _caffemodel(folder), PROTOTXT.encode()
    if data.draw(st.booleans()):
        layout = data.draw(mutated(layout, LAYOUT_TOKENS))
    else:
        content = data.draw(mutated(content))
    _try_native(child, folder, "caffe", content, layout)


@given(data=st.data())
def test_darknet(child: Child, folder: Path, data: st.DataObject) -> None:
    content, layout = _weights(), CFG.encode()
    if data.draw(st.integers(0, 3)):
        layout = data.draw(mutated(layout, LAYOUT_TOKENS))
    else:
        content = data.draw(mutated(content))
    _try_native(child, folder, "darknet", content, layout)


def _try_native(child: Child, folder: Path, kind: str, content: bytes, layout: bytes) -> None:
    config = folder / "layout.txt"
    config.write_text(layout.decode(errors="replace"), encoding="utf-8")
    answer = _ask(
        child,
        folder,
        f"x.{kind}",
        content,
        family="model",
        kind=kind,
        runtime="cv2dnn",
        config=str(config),
    )
    judge(f"{kind} under cv2dnn", answer, native=True)


@given(data=st.data())
def test_own_readers(child: Child, folder: Path, data: st.DataObject) -> None:
    content = data.draw(mutated(_caffemodel(folder)))
    judge("caffemodel, own reader", _ask(child, folder, "x", content, family="caffemodel"))
    config = folder / "own.cfg"
    text = data.draw(mutated(CFG.encode(), LAYOUT_TOKENS)).decode(errors="replace")
    config.write_text(text, encoding="utf-8")
    weights = data.draw(st.just(_weights()) | mutated(_weights()))
    answer = _ask(child, folder, "w", weights, family="darknet", config=str(config))
    judge("darknet, own reader", answer)


def test_whole_models_are_read(child: Child, folder: Path) -> None:
    """The seeds run, so that damaged copies come as far as the parsers' depths."""
    assert _ask(child, folder, "a.onnx", _onnx(), family="check-onnx") == "ok"
    for runtime in ("cv2dnn", "onnxruntime"):
        request = {"kind": "onnx", "runtime": runtime}
        assert _ask(child, folder, "a.onnx", _onnx(), family="model", **request) == "ok"
        exported = _onnx(age_file=True)
        assert _ask(child, folder, "a.onnx", exported, family="age-file", runtime=runtime) == "ok"
    layouts = {"caffe": (PROTOTXT, _caffemodel(folder)), "darknet": (CFG, _weights())}
    for kind, (layout, content) in layouts.items():
        (folder / "a.txt").write_text(layout)
        request = {"kind": kind, "runtime": "cv2dnn", "config": str(folder / "a.txt")}
        assert _ask(child, folder, "a.bin", content, family="model", **request) == "ok"
    assert _ask(child, folder, "a", _caffemodel(folder), family="caffemodel") == "ok"
    request = {"config": str(folder / "a.txt")}
    assert _ask(child, folder, "a", _weights(), family="darknet", **request) == "ok"


def _encoded(image_bgr: Image, kind: str) -> bytes:
    small = PillowImage.fromarray(np.ascontiguousarray(image_bgr[:240, 100:340, ::-1]))
    small = small.resize((120, 120))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    small.save(stream, kind, exif=exif)
    return stream.getvalue()


def _with_sound_sums(data: bytes) -> bytes:
    """Put the check sums of a PNG's chunks right, so that damage gets past them."""
    place, out = 8, bytearray(data[:8])
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(data):
            break
        out += data[place:end] + struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(out) + data[place:]


MENDERS: dict[str, Callable[[bytes], bytes]] = {"PNG": _with_sound_sums}
ESTIMATORS = ["constant years=30"]
if (bundled_dir() / "multicrop-resnet.onnx").is_file():
    ESTIMATORS.append("multicrop-resnet")


@pytest.mark.parametrize("detector", ["haar", "aligned"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@given(data=st.data())
def test_pictures(
    kind: str,
    detector: str,
    child: Child,
    folder: Path,
    astronaut_bgr: Image,
    data: st.DataObject,
) -> None:
    """Decode, detect, crop, predict: an answer for every file, with a status that says which."""
    content = data.draw(mutated(_encoded(astronaut_bgr, kind), most=4))
    if kind in MENDERS and data.draw(st.booleans()):
        content = MENDERS[kind](content)
    path = folder / "picture"
    path.write_bytes(content)
    answer = child.ask(family="picture", path=str(path), detector=detector, estimators=ESTIMATORS)
    judge(f"pictures, {kind}", answer)


def test_whole_pictures_are_read(child: Child, folder: Path, astronaut_bgr: Image) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        (folder / "whole").write_bytes(
            _with_sound_sums(_encoded(astronaut_bgr, kind))
            if kind == "PNG"
            else _encoded(astronaut_bgr, kind)
        )
        request = {"path": str(folder / "whole"), "estimators": ESTIMATORS}
        assert child.ask(family="picture", detector="haar", **request) == "ok"
