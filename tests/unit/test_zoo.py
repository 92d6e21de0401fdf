"""Other public models: their spec files, and files of other libraries as ONNX."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from agebench import load_estimator
from agebench.cli.ls import rows
from agebench.conversion.face_api import face_api_model, read_tfjs
from agebench.conversion.keras_file import keras_model, read_keras
from agebench.conversion.mxnet_model import mxnet_model, read_params
from agebench.errors import ModelError, UsageError
from agebench.estimators.spec_schema import read_spec
from agebench.estimators.zoo import zoo_file
from agebench.modelfiles.manifest import bundled_dir, load_manifest
from agebench.modelfiles.weights import is_here
from agebench.runtimes.base import ModelSource
from agebench.runtimes.opening import open_model

NAMES = sorted(path.stem for path in (bundled_dir() / "zoo").glob("*.toml"))
RUNTIMES = ("onnxruntime", "cv2dnn")


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_file_says_what_readers_must_know(name: str) -> None:
    written = read_spec(zoo_file(name))
    about = written.about
    assert written.name == name
    assert about.what
    assert about.licence
    assert about.source.startswith("https://github.com/")
    manifest = load_manifest()
    named = [written.files.model, *filter(None, [written.files.config])]
    if about.tried:
        for file in named:
            entry = manifest[file]
            assert [need.plugin for need in entry.needs] == [f"estimator:{name}"]
            assert entry.sources or entry.wheel
    else:
        assert not set(named) & set(manifest)


def test_what_was_never_tried_is_listed_as_such_and_needs_a_file() -> None:
    listed = {row.name: row for row in rows("estimators")}
    untried = {name for name in NAMES if not read_spec(zoo_file(name)).about.tried}
    assert untried
    assert {name for name, row in listed.items() if not row.tried} == untried
    for name in untried:
        with pytest.raises(UsageError, match=f"without a model file: .*{name}:FILE"):
            load_estimator(name)


@pytest.mark.shared
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NAMES)
def test_golden_answers_of_the_files_that_are_here(
    shared_weights: Path, name: str, runtime: str
) -> None:
    """Files that lie in the folder of weights under the manifest's names."""
    written = read_spec(zoo_file(name))
    files = [written.files.model, *filter(None, [written.files.config])]
    if not written.about.tried or not all(map(is_here, files)):
        pytest.skip(f"{', '.join(files)} is not in {shared_weights}")
    if written.files.converter in ("keras", "ssr-net"):
        pytest.importorskip("h5py", reason="Keras's files need h5py")
    assert written.golden is not None
    spec = load_estimator(f"{name}@{runtime}").spec  # which holds the answer against it
    assert spec.weights[0].published
    assert spec.trained_sets == written.about.trained_sets


# --- Keras ----------------------------------------------------------------------------


def _keras_file(folder: Path, layers: list[dict[str, Any]], weights: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py", reason="Keras's files need h5py")
    path = folder / "net.h5"
    config = {"config": {"layers": layers, "output_layers": [[layers[-1]["name"], 0, 0]]}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        for layer, arrays in weights.items():
            for name, values in arrays.items():
                file[f"model_weights/{layer}/{layer}/{name}:0"] = np.asarray(values, np.float32)
    return path


def _layer(kind: str, name: str, *inputs: str, **config: Any) -> dict[str, Any]:
    return {
        "class_name": kind,
        "name": name,
        "config": config,
        "inbound_nodes": [[[item, 0, 0, {}] for item in inputs]] if inputs else [],
    }


def _answers(model: onnx.ModelProto, folder: Path, image: Any, output: str) -> list[Any]:
    path = folder / "converted.onnx"
    path.write_bytes(model.SerializeToString())
    return [
        open_model(ModelSource("onnx", path), runtime=runtime).run({"image": image})[output]
        for runtime in RUNTIMES
    ]


def _same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    lacking = max((-(-size // stride) - 1) * stride + window - size, 0)
    return lacking // 2, lacking - lacking // 2


@pytest.mark.extra
def test_a_functional_model_of_keras_equals_its_formula(tmp_path: Path) -> None:
    """Strided "same" convolutions pad more at the end; padded means count what lies inside."""
    random = np.random.default_rng(5)
    kernel, bias = random.normal(size=(3, 3, 3, 4)), random.normal(size=4)
    dense = random.normal(size=(4 * 4 * 4, 2))
    norm = {
        name: random.uniform(0.5, 2, 4)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    layers = [
        _layer("InputLayer", "in", batch_input_shape=[None, 8, 8, 3]),
        _layer("Conv2D", "conv", "in", strides=[2, 2], padding="same", activation="linear"),
        _layer("BatchNormalization", "norm", "conv", epsilon=0.001),
        _layer("Activation", "act", "norm", activation="relu"),
        _layer("AveragePooling2D", "pool", "act", pool_size=[4, 4], strides=[1, 1], padding="same"),
        _layer("Add", "add", "pool", "act"),
        _layer("Flatten", "flat", "add"),
        _layer("Dense", "out", "flat", activation="softmax"),
    ]
    weights = {"conv": {"kernel": kernel, "bias": bias}, "norm": norm, "out": {"kernel": dense}}
    path = _keras_file(tmp_path, layers, weights)
    shown = random.uniform(-1, 1, (2, 8, 8, 3))
    value = np.zeros((2, 4, 4, 4))
    padded = np.pad(shown, ((0, 0), _same_pads(8, 3, 2), _same_pads(8, 3, 2), (0, 0)))
    for y in range(4):
        for x in range(4):
            window = padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            value[:, y, x] = np.einsum("nhwi,hwio->no", window, kernel) + bias
    root = np.sqrt(norm["moving_variance"] + 0.001)
    value = np.maximum((value - norm["moving_mean"]) / root * norm["gamma"] + norm["beta"], 0)
    pooled = np.zeros_like(value)
    before, _ = _same_pads(4, 4, 1)
    for y in range(4):
        for x in range(4):
            rows = slice(max(y - before, 0), y - before + 4)
            pooled[:, y, x] = value[:, rows, max(x - before, 0) : x - before + 4].mean(axis=(1, 2))
    flat = (pooled + value).reshape(2, -1) @ dense
    expected = np.exp(flat) / np.exp(flat).sum(axis=1, keepdims=True)
    model = keras_model(read_keras(path, path.read_bytes()))
    for got in _answers(model, tmp_path, shown.transpose(0, 3, 1, 2).astype(np.float32), "out"):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.extra
def test_a_spec_file_takes_a_keras_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    layers = [
        _layer("InputLayer", "in", batch_input_shape=[None, 4, 4, 3]),
        _layer("Flatten", "flat", "in"),
        _layer("Dense", "age", "flat", activation="linear"),
    ]
    _keras_file(tmp_path, layers, {"age": {"kernel": np.full((48, 1), 1 / 48)}})
    spec = tmp_path / "net.toml"
    spec.write_text(
        'name = "net"\n[files]\nmodel = "net.h5"\nconverter = "keras"\n'
        '[crop]\nname = "chip"\nsize = [4, 4]\n[input]\nchannel_order = "bgr"\nmean = [0, 0, 0]\n'
        '[output]\nname = "age"\nkind = "years"\n[golden]\nyears = 133\ntolerance_years = 20\n'
    )
    for runtime in RUNTIMES:
        weights = load_estimator(f"spec:{spec}@{runtime}").spec.weights
        assert [item.file for item in weights] == ["net.h5"]


@pytest.mark.extra
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (_layer("Lambda", "out", "in"), "of the kind 'Lambda', which can't be converted"),
        (_layer("Conv2D", "out", "in"), "lacks required settings: 'kernel'"),
        (_layer("Activation", "out", "in", activation="elu"), "the activation 'elu'"),
    ],
)
def test_what_is_not_converted_is_named(
    tmp_path: Path, layer: dict[str, Any], message: str
) -> None:
    start = _layer("InputLayer", "in", batch_input_shape=[None, 4, 4, 3])
    path = _keras_file(tmp_path, [start, layer], {"x": {"kernel": np.zeros(1)}})
    with pytest.raises(ModelError, match=message):
        keras_model(read_keras(path, path.read_bytes()))


@pytest.mark.extra
def test_what_is_no_keras_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="Keras's files need h5py")
    for content in (b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, b"junk" * 99):
        with pytest.raises(ModelError, match=r"net\.h5.*HDF5"):
            read_keras(tmp_path / "net.h5", content)


@pytest.mark.extra
def test_arrays_that_are_not_there(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (40_000, 40_000), "f4", chunks=True)
    with pytest.raises(ModelError, match="more numbers than the file can hold"):
        read_keras(path, path.read_bytes())
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("a/kernel", h5py.VirtualLayout((4,), "f4"))
    assert read_keras(path, path.read_bytes()).weights == {"a": {}}


# --- MXNet ----------------------------------------------------------------------------


def _params(arrays: dict[str, Any]) -> bytes:
    content = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for values in arrays.values():
        array = np.asarray(values, "<f4")
        content += struct.pack("<IiI", 0xF993FAC9, 0, array.ndim)
        content += struct.pack(f"<{array.ndim}q", *array.shape)
        content += struct.pack("<iii", 1, 0, 0) + array.tobytes()
    content += struct.pack("<Q", len(arrays))
    for name in arrays:
        content += struct.pack("<Q", len(name)) + name.encode()
    return content


def test_a_model_of_mxnet_equals_its_formula(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    weight, fc = random.normal(size=(2, 3, 1, 1)), random.normal(size=(3, 2))
    slope, mean = np.array([0.2, 0.5]), random.normal(size=3)
    params = _params(
        {
            "arg:w": weight,
            "arg:slope": slope,
            "arg:fw": fc,
            "arg:gamma": np.full(3, 9.0),  # fixed to 1: must not count
            "arg:beta": np.ones(3),
            "aux:mean": mean,
            "aux:var": np.full(3, 4.0),
        }
    )
    names = ["data", "w", "slope", "fw", "gamma", "beta", "mean", "var"]
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in names]
    for op, name, attrs, inputs in (
        ("_minus_scalar", "minus", {"scalar": "0.5"}, [0]),
        ("Convolution", "conv", {"kernel": "(1, 1)", "no_bias": "True"}, [8, 1]),
        ("LeakyReLU", "prelu", {"act_type": "prelu"}, [9, 2]),
        ("Pooling", "pool", {"global_pool": "True", "pool_type": "avg"}, [10]),
        ("Flatten", "flat", {}, [11]),
        ("FullyConnected", "fc", {"no_bias": "True"}, [12, 3]),
        ("BatchNorm", "fc1", {"fix_gamma": "True", "eps": "0.0"}, [13, 4, 5, 6, 7]),
    ):
        node = {"op": op, "name": name, "attrs": attrs, "inputs": [[i, 0, 0] for i in inputs]}
        nodes.append(node)
    symbol = json.dumps({"nodes": nodes})
    model = mxnet_model(tmp_path / "net.params", params, symbol, (4, 4), "fc1")
    image = random.uniform(-1, 1, (2, 3, 4, 4)).astype(np.float32)
    value = np.einsum("nchw,oc->nohw", image - 0.5, weight[:, :, 0, 0])
    value = np.where(value < 0, value * slope[None, :, None, None], value).mean(axis=(2, 3))
    expected = (value @ fc.T - mean) / 2 + 1
    for got in _answers(model, tmp_path, image, "fc1"):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    with pytest.raises(ModelError, match="has no layer 'fc9'"):
        mxnet_model(tmp_path / "net.params", params, symbol, (4, 4), "fc9")
    for wrong in (b"", params[:40], params[:-3], b"\0" * 99):
        with pytest.raises(ModelError, match=r"net\.params.*MXNet"):
            read_params(tmp_path / "net.params", wrong)


# --- face-api.js ----------------------------------------------------------------------------


def test_packed_weights_of_tensorflow_js(tmp_path: Path) -> None:
    listed = json.dumps(
        [
            {
                "weights": [
                    {
                        "name": "a",
                        "shape": [2],
                        "dtype": "float32",
                        "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
                    },
                    {"name": "b", "shape": [1], "dtype": "float32"},
                ]
            }
        ]
    )
    path = tmp_path / "model.bin"
    content = bytes([0, 255]) + struct.pack("<f", 2.5)
    found = read_tfjs(path, content, listed)
    assert found["a"].tolist() == [-1.0, 126.5]
    assert found["b"].tolist() == [2.5]
    for wrong in (content[:-1], content + b"x"):
        with pytest.raises(ModelError, match=r"model\.bin"):
            read_tfjs(path, wrong, listed)
    with pytest.raises(ModelError, match=r"model\.bin"):
        read_tfjs(path, content, listed.replace("[2]", "[1e999]"))
    with pytest.raises(ModelError, match="lacks the weights 'entry_flow"):
        face_api_model(path, content, listed)
