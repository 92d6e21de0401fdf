"""Models and files from strangers: no pickle is ever loaded, nothing outside the folder is read."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agebench.cli.main import main
from agebench.errors import AgebenchError
from agebench.harness import trial
from agebench.metrics.class_years import read_class_years
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.runtimes.base import MAX_MODEL_BYTES, ModelSource
from agebench.runtimes.caffe_model import read_mean
from agebench.runtimes.model_cost import _opencv_cost
from agebench.runtimes.opening import open_model
from agebench.timing.child import _TASKS

SPEC_FILE = """name = "stranger"
[files]
model = "{model}"
{config}
[runtime]
runtime = "{runtime}"
[crop]
size = [8, 8]
[input]
channel_order = "rgb"
mean = [0, 0, 0]
[output]
kind = "years"
"""


class Marks:
    """Makes a file appear as soon as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._marker, "w")


def _torch(marker: Path, *, archive: bool) -> bytes:
    torch = pytest.importorskip("torch", reason="making these files needs PyTorch")
    stream = io.BytesIO()
    torch.save({"w": Marks(marker)}, stream, _use_new_zipfile_serialization=archive)
    return stream.getvalue()


def _npy(marker: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Marks(marker)], object), allow_pickle=True)
    return stream.getvalue()


def _npz(marker: Path) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, w=np.array([Marks(marker)], object))
    return stream.getvalue()


KINDS: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda marker: pickle.dumps(Marks(marker)),
    "pickle-0": lambda marker: pickle.dumps(Marks(marker), protocol=0),
    "packed-pickle": lambda marker: gzip.compress(pickle.dumps(Marks(marker))),
    "torch-zip": lambda marker: _torch(marker, archive=True),
    "torch-legacy": lambda marker: _torch(marker, archive=False),
    "npy": _npy,
    "npz": _npz,
}


@pytest.fixture(params=KINDS)
def malicious(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Write a file of this kind under any name; at the end its code must not have run."""
    marker = tmp_path / "marker"
    content = KINDS[request.param](marker)

    def write(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    request.addfinalizer(lambda: _absent(marker))  # noqa: PT021 - the factory is what is given
    return write


def _absent(marker: Path) -> None:
    assert not marker.exists(), "a pickle was loaded"


def test_the_files_would_run_code(tmp_path: Path) -> None:
    """The bait works: whoever unpickles it finds the marker."""
    pickle.loads(KINDS["pickle"](tmp_path / "a")).close()  # noqa: S301 - our own bait
    np.load(io.BytesIO(_npy(tmp_path / "b")), allow_pickle=True)
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def _refused(load: Callable[[], object]) -> None:
    with pytest.raises(AgebenchError) as caught:
        load()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.onnx", "x.caffemodel", "x.pkl"])
@pytest.mark.parametrize(
    "estimator", ["torch", "onnx", "caffe-age-net", "multicrop-resnet", "hse-mobilenet"]
)
def test_estimators(estimator: str, name: str, malicious: Callable[[str], Path]) -> None:
    path = malicious(name)
    _refused(lambda: load_estimator(f"{estimator}:{path}"))


def test_files_that_options_name(malicious: Callable[[str], Path]) -> None:
    _refused(lambda: read_mean(malicious("mean.binaryproto")))
    _refused(lambda: read_class_years(malicious("years.json")))


@pytest.mark.parametrize("detector", ["yunet", "yolov8-face", "yoloface-500k"])
def test_detectors(detector: str, malicious: Callable[[str], Path]) -> None:
    path = malicious("x.weights" if detector == "yoloface-500k" else "x.onnx")
    _refused(lambda: load_detector(f"{detector}:{path}"))


@pytest.mark.parametrize("model", ["x.onnx", "x.caffemodel", "x.pb", "x.weights"])
@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_spec_files(
    model: str, runtime: str, malicious: Callable[[str], Path], tmp_path: Path
) -> None:
    malicious(model)
    (tmp_path / "layout.txt").write_text("")
    config = 'config = "layout.txt"' if model.endswith(("model", "weights")) else ""
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC_FILE.format(model=model, config=config, runtime=runtime))
    _refused(lambda: load_estimator(f"spec:{spec}"))
    _refused(lambda: load_estimator(f"spec:{malicious('itself.toml')}"))


def test_lists_and_data_sets(malicious: Callable[[str], Path]) -> None:
    path = malicious("list.csv")
    _refused(lambda: load_dataset("csv", path))
    malicious("manifest.csv")
    malicious("prepare.json")
    _refused(lambda: load_dataset("prepared", path.parent))


@pytest.mark.parametrize(
    "words",
    [
        ["export-onnx", "{x.safetensors}", "-o", "{out.onnx}"],
        ["export-onnx", "{x.pt}", "-o", "{out.onnx}"],
        ["export-onnx", "caffe-age-net:{x.caffemodel}", "-o", "{out.onnx}"],
        ["convert-caffe", "{x.safetensors}", "-o", "{out.caffemodel}"],
        ["convert-caffe", "{x.caffemodel}", "-o", "{out.safetensors}"],
        ["convert-caffe", "{x.pkl}", "-o", "{out.caffemodel}"],
        ["train", "{x.toml}", "--out", "{out}"],
        ["report", "{result.json}", "-o", "{out}"],
        ["compare", "constant", "--baseline", "{result.json}"],
        ["compare", "constant", "--protocol", "{split.json}"],
        ["compare", "constant", "--protocol", "{split.csv}"],
    ],
    ids=" ".join,
)
def test_verbs(
    words: list[str],
    malicious: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Try the model in this process.
    monkeypatch.setattr(trial, "ask_child", lambda task, order, **_limits: _TASKS[task](order, {}))
    before = {"out", "out.onnx", "out.caffemodel", "out.safetensors"}
    given = [_filled(word, malicious, tmp_path, before) for word in words]
    code, err = _run(given, capfd)
    assert code in (1, 2), err
    assert len(err.strip().splitlines()) == 1, err
    assert not before & {item.name for item in tmp_path.iterdir() if item.is_file()}


def _filled(word: str, malicious: Callable[[str], Path], folder: Path, out: set[str]) -> str:
    """Put a path where a name stands in braces; what is to be written does not exist yet."""
    if "{" not in word:
        return word
    start, _, rest = word.partition("{")
    name = rest.removesuffix("}")
    return start + str(folder / name if name in out else malicious(name))


def _run(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return int(ended.value.code or 0), err


def test_a_start_to_train_from(
    malicious: Callable[[str], Path],
    age_list: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
    path = malicious("start.safetensors")
    settings = str(age_list / "settings.toml")
    words = ["train", settings, "--out", str(tmp_path / "run"), "--set", f"start={path}"]
    code, err = _run(words, capfd)
    assert code in (1, 2)
    assert "not a checkpoint" in err


def test_training_hashes_beside_a_model(malicious: Callable[[str], Path], tmp_path: Path) -> None:
    from agebench.duplicates.training_hashes import find_hashes

    malicious("model.training-hashes.bin")
    _refused(lambda: find_hashes(tmp_path / "model.onnx"))


def _with_external_data(location: str) -> onnx.ModelProto:
    """A model whose one tensor lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"], axis=1),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with numbers in it and, as "secret", beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    numbers = np.full(3, 0.01, np.float32).tobytes()
    (folder / "inside").write_bytes(numbers)
    (tmp_path / "secret").write_bytes(numbers)
    try:
        (folder / "link").symlink_to(tmp_path / "secret")
        (folder / "up").symlink_to(tmp_path)
    except OSError:
        pytest.skip("links can't be made here")
    return folder


OUTSIDE = ["../secret", "sub/../../secret", "link", "up/secret", "ABSOLUTE", "/dev/zero"]


def _spec_of(folder: Path, location: str, runtime: str) -> str:
    named = str(folder.parent / "secret") if location == "ABSOLUTE" else location
    (folder / "x.onnx").write_bytes(_with_external_data(named).SerializeToString())
    spec = folder / "spec.toml"
    spec.write_text(SPEC_FILE.format(model="x.onnx", config="", runtime=runtime))
    return f"spec:{spec}"


@pytest.mark.parametrize("location", OUTSIDE)
@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_external_data_outside_of_the_folder(folder: Path, location: str, runtime: str) -> None:
    _refused(lambda: load_estimator(_spec_of(folder, location, runtime)))


@pytest.mark.parametrize("location", [*OUTSIDE, "inside"])
def test_exported_files_have_no_external_data(folder: Path, location: str) -> None:
    _spec_of(folder, location, "onnxruntime")
    _refused(lambda: load_estimator(f"onnx:{folder / 'x.onnx'}"))
    _refused(lambda: load_estimator(f"multicrop-resnet:{folder / 'x.onnx'}"))


def test_external_data_inside_of_the_folder(folder: Path) -> None:
    """Under ONNX Runtime a spec file's model may be in two files: the refusals are of the place."""
    assert load_estimator(_spec_of(folder, "inside", "onnxruntime")).spec.name == "stranger"


@pytest.mark.parametrize("name", ["link", "up/secret", "../secret"])
def test_models_outside_of_a_spec_files_folder(folder: Path, name: str) -> None:
    spec = folder / "spec.toml"
    spec.write_text(SPEC_FILE.format(model=name, config="", runtime="onnxruntime"))
    with pytest.raises(AgebenchError, match="must be a file in the folder"):
        load_estimator(f"spec:{spec}")


def test_few_bytes_that_ask_for_a_hundred_gigabytes(tmp_path: Path) -> None:
    """Settings may describe any network: it is made only where its weights are there."""
    pytest.importorskip("torch", reason="checkpoints need PyTorch (pip install agebench[train])")
    from agebench.train.checkpoint import Checkpoint
    from agebench.train.settings import settings_from

    backbone = {"depth": 101, "width": 1024}
    views = {f"v{index}": {"region": "face", "backbone": backbone} for index in range(4)}
    settings = settings_from({"model": {"views": views}}, "made")
    path = tmp_path / "x.safetensors"
    Checkpoint(settings, {}, {}, {}, {}, {}).write(path)
    assert path.stat().st_size < 10_000
    with pytest.raises(AgebenchError, match="a different network"):
        load_estimator(f"torch:{path}")


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_names_in_a_model_do_nothing_to_a_terminal(runtime: str, folder: Path) -> None:
    spec = _spec_of(folder, "inside", runtime)
    model = onnx.ModelProto.FromString((folder / "x.onnx").read_bytes())
    model.graph.node[0].op_type = "\x1b[31mPool\x07"
    (folder / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(AgebenchError, match="Pool") as caught:
        load_estimator(spec)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "refused_by"),
    [
        (b"x_in", {"onnxruntime"}),
        (b"inner", {"cost"}),
        (b"y_out", {"onnxruntime", "cv2dnn", "cost"}),
    ],
)
def test_names_in_a_model_that_are_no_text(
    name: bytes, refused_by: set[str], tmp_path: Path
) -> None:
    """The libraries load them, and stumble when they are asked for the names."""
    nodes = [
        helper.make_node("Relu", ["x_in"], ["inner"], "inner"),
        helper.make_node("Sigmoid", ["inner"], ["y_out"], "y_out"),
    ]
    first, last = (
        helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 3, 8, 8])
        for end in ("x_in", "y_out")
    )
    graph = helper.make_graph(nodes, "g", [first], [last])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content = model.SerializeToString()
    path = tmp_path / "x.onnx"
    path.write_bytes(content.replace(name, b"\xf0" + name[1:]))
    assert path.read_bytes() != content
    source, shape = ModelSource("onnx", path), (1, 3, 8, 8)
    blob = {"": np.zeros(shape, np.float32)}
    uses: dict[str, Callable[[], object]] = {
        "cv2dnn": lambda: open_model(source, runtime="cv2dnn").run(blob),
        "onnxruntime": lambda: open_model(source, runtime="onnxruntime").run(blob),
        "cost": lambda: _opencv_cost(source, {"": shape}),
    }
    for what, use in uses.items():
        if what in refused_by:
            _refused(use)
        else:
            use()


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_models_above_the_limit_are_not_read(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)  # sparse: no disk is filled
    with pytest.raises(AgebenchError, match="expected a model of at most"):
        open_model(ModelSource("onnx", path), runtime=runtime)
