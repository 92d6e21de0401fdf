"""Files from strangers: every one of them ends in one sentence, before any runtime sees it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench import load_estimator
from agebench.errors import AgebenchError, ModelError, WeightsError
from agebench.runtimes import onnx_reading
from agebench.runtimes.onnx_reading import read_age_file, read_onnx

MakeFile = Callable[..., Path]
Change = Callable[[onnx.ModelProto], object]


def test_a_sound_file_is_read(make_file: MakeFile) -> None:
    checked = read_age_file(make_file())
    assert checked.spec.name == "tiny"
    assert len(checked.sha256) == 64


def _external(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def _opset(version: int, domain: str = "") -> Change:
    def change(model: onnx.ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.append(helper.make_opsetid(domain, version))

    return change


def _input_shape(name: str, *sizes: int | str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        (item,) = [item for item in model.graph.input if item.name == name]
        item.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))

    return change


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["face"], ["z"]))


def _foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Anything", ["face"], ["z"], domain="com.evil"))


def _cut_weights(model: onnx.ModelProto) -> None:
    tensor = next(item for item in model.graph.initializer if item.name == "w")
    tensor.raw_data = tensor.raw_data[:-4]


def _huge_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]


def _uint8_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def _renamed_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "gender"


def _output_called(name: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = name

    return change


def _hidden_external(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=tensor))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_external("../../secret.bin"), r"'\.\./\.\./secret\.bin'\), which is never opened"),
        (_external("beside.bin"), "are in another file"),
        (_hidden_external, "/etc/passwd"),
        (_opset(99), "operators of version 99, expected 9 to 21"),
        (_opset(1), "operators of version 1, expected 9 to 21"),
        (_opset(1, "com.microsoft"), "operators of 'com.microsoft'"),
        (lambda model: model.opset_import.pop(), "does not state its version"),
        (_loop, "the operator Loop.*without control flow"),
        (_foreign, "com.evil:Anything"),
        (_cut_weights, "is damaged: 'w' of shape"),
        (_huge_weights, "is damaged"),
        (_input_shape("face", "n", 3, 8, 8), r"'face' must be of shape \(n, 3, 6, 4\).*8, 8"),
        (_input_shape("face", 1, 3, 6, 4), "takes 1 faces at a time"),
        (_uint8_input, "must be of float32"),
        (_renamed_output, "the outputs are age, probabilities, the graph has gender"),
        (_output_called("\x1b[31mage\n"), r"the graph has \\x1b\[31mage\\n"),
        (_input_shape("face", "n", "\x1b[31m", 6, 4), r"has \(n, \\x1b\[31m, 6, 4\)"),
        (lambda model: model.graph.ClearField("node"), "has no ONNX graph"),
        (lambda model: model.ClearField("metadata_props"), "without agebench's metadata"),
    ],
)
def test_hostile_files_are_refused_in_one_sentence(
    make_file: MakeFile, change: Change, message: str
) -> None:
    path = make_file(change)
    with pytest.raises(ModelError, match=message) as caught:
        read_age_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        load_estimator(f"onnx:{path}")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(make_file: MakeFile, share: float) -> None:
    path = make_file()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"truncated|has no ONNX graph|metadata"):
        read_age_file(path)


def test_every_damaged_byte_is_refused_or_harmless(make_file: MakeFile) -> None:
    path = make_file()
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for place in random.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(AgebenchError):  # nothing else may come out
            read_age_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!doctype html><html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\x80\x04\x95rest of a pickle", "is a pickle, which is never read"),
        (b"PK\x03\x04rest", "is an archive"),
        (b"", "is an empty file"),
        (os.urandom(8) * 100, "ONNX"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_onnx(path)


def test_files_that_can_not_be_read(tmp_path: Path, make_file: MakeFile) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_onnx(tmp_path)
    with pytest.raises(WeightsError, match="an ONNX file of at most 100"):
        read_onnx(make_file(), max_bytes=100)
    assert onnx_reading.MAX_FILE_BYTES == 1 << 30


def test_a_graph_that_contradicts_its_bins_is_refused(make_file: MakeFile) -> None:
    path = make_file(bin_years=(5.0, 40.0, 80.0))
    read_age_file(path)
    with pytest.raises(ModelError, match=r"metadata.*probabilities.*bins"):
        load_estimator(f"onnx:{path}")
