"""The age network between PyTorch and Caffe: the same probabilities in both."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

from agebench import load_estimator
from agebench.cli import main
from agebench.conversion.age_net_onnx import age_net_core
from agebench.errors import ModelError, UsageError
from agebench.export import caffe_weights
from agebench.export.caffe_weights import convert, difference, read_tensors
from agebench.export.random_age_net import random_age_net, random_age_net_layers
from agebench.runtimes.age_net_layout import MICRO, deploy_prototxt
from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.caffe_model import CaffeLayer, read_caffemodel, write_caffemodel
from agebench.runtimes.opening import open_model

Change: TypeAlias = dict[str, npt.NDArray[np.float32] | None]

safetensors = pytest.importorskip("safetensors.numpy")

BUNDLED = Path(__file__).parents[3] / "pretrained" / "caffe-age-net-utkface.caffemodel"


def test_a_network_of_pytorch_answers_the_same_under_caffe(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(1)

    class Net(nn.Module):  # type: ignore[misc, name-defined]  # torch is imported on use
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 7, 4), nn.Conv2d(6, 8, 5, padding=2)
            self.conv3 = nn.Conv2d(8, 9, 3, padding=1)
            self.fc6, self.fc7, self.fc8 = nn.Linear(441, 12), nn.Linear(12, 10), nn.Linear(10, 117)
            self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)

        def forward(self, x: Any) -> Any:
            x = self.norm(self.pool(self.conv1(x).relu()))
            x = self.norm(self.pool(self.conv2(x).relu()))
            x = self.pool(self.conv3(x).relu()).flatten(1)
            return self.fc8(self.fc7(self.fc6(x).relu()).relu()).softmax(1)

    net = Net().eval()
    source = tmp_path / "mine.safetensors"
    tensors = {f"module.{name}": value.numpy() for name, value in net.state_dict().items()}
    source.write_bytes(safetensors.save(tensors))
    done = convert(source, tmp_path / "mine.caffemodel", encoding=None, half=False)
    assert done.classes == 117
    blob = np.random.default_rng(0).normal(0, 60, (3, 3, 227, 227)).astype(np.float32)
    layout = (tmp_path / "mine.prototxt").read_text()
    caffe = open_model(ModelSource("caffe", tmp_path / "mine.caffemodel", config=layout))
    with torch.no_grad():
        expected = net(torch.from_numpy(blob)).numpy()
    assert expected.std(axis=0).max() > 1e-5
    np.testing.assert_allclose(caffe.run({"data": blob})["prob"], expected, atol=1e-6)


def test_there_and_back_gives_the_same_numbers(tmp_path: Path) -> None:
    first, middle = tmp_path / "a.caffemodel", tmp_path / "b.safetensors"
    random_age_net(first, seed=3, micro=True)
    convert(first, middle, encoding=None, half=False)
    convert(middle, tmp_path / "c.caffemodel", encoding="v2", half=False)
    before, after = read_caffemodel(first), read_caffemodel(tmp_path / "c.caffemodel")
    assert after.encoding == "v2"
    for layer in before.layers:
        for one, two in zip(layer.blobs, after.layer(layer.name).blobs, strict=True):
            np.testing.assert_array_equal(one, two)


def test_half_precision_halves_the_file(narrow: Path, tmp_path: Path) -> None:
    whole = narrow / "8.caffemodel"
    convert(whole, tmp_path / "b.safetensors", encoding=None, half=False)
    convert(tmp_path / "b.safetensors", tmp_path / "h.caffemodel", encoding=None, half=True)
    sizes = [path.stat().st_size for path in (whole, tmp_path / "h.caffemodel")]
    assert sizes[1] < 0.51 * sizes[0]
    assert load_estimator(f"caffe-age-net:{tmp_path / 'h.caffemodel'}").spec.bins is not None


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('ran')",))

    bad = tmp_path / "bad.pt"
    bad.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match="may be a pickle"):
        convert(bad, tmp_path / "x.caffemodel", encoding=None, half=False)
    disguised = bad.rename(tmp_path / "bad.safetensors")
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        convert(disguised, tmp_path / "x.caffemodel", encoding=None, half=False)


def _saved(tmp_path: Path, change: Change) -> Path:
    path = tmp_path / "a.safetensors"
    tensors: Change = {
        f"{layer.name}.{part}": blob
        for layer in random_age_net_layers(seed=3, widths=MICRO)
        for part, blob in zip(("weight", "bias"), layer.blobs, strict=False)
    }
    kept = {name: value for name, value in {**tensors, **change}.items() if value is not None}
    path.write_bytes(safetensors.save(kept))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc7.bias": None}, "lacks the tensor 'fc7.bias'"),
        ({"conv1.weight": None}, "must hold one tensor 'conv1.weight'.* got 0 among 11 tensors"),
        ({"fc7.bias": np.full(14, np.nan, np.float32)}, "not all of its numbers are finite"),
        ({"bn1.running_var": np.ones(8, np.float32)}, r"got 1 more \(bn1.running_var\)"),
        (
            {f"conv4.{part}": np.ones(3, np.float32) for part in ("weight", "bias")},
            r"the 12 .*got 2 more \(conv4.bias, conv4.weight\)",
        ),
        (
            {f"bn{at}.bias": np.ones(3, np.float32) for at in range(8)},
            r"got 8 more \(bn0.bias, bn1.bias, bn2.bias, \.\.\.\): without",
        ),
        ({"fc7.weight": np.ones((14, 5), np.float32)}, "'fc7' of the Caffe model has blobs"),
    ],
)
def test_tensors_of_another_network_are_refused(
    tmp_path: Path,
    change: Change,
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message):
        convert(_saved(tmp_path, change), tmp_path / "x.caffemodel", encoding=None, half=False)
    assert not (tmp_path / "x.caffemodel").exists()


def test_what_a_checkpoint_stores_beside_the_weights_is_passed_over(tmp_path: Path) -> None:
    tensors = read_tensors(_saved(tmp_path, {}))
    source = tmp_path / "checkpoint.safetensors"
    optimiser = {"optimiser/0.exp_avg": np.ones(3, np.float32)}
    for group in ("averaged/", "model/"):
        named = {f"{group}{name}": value for name, value in tensors.items()}
        source.write_bytes(safetensors.save({**named, **optimiser}))
        done = convert(source, tmp_path / "x.caffemodel", encoding=None, half=False)
        assert done.classes == 8


def test_a_layout_of_another_file_is_not_overwritten(tmp_path: Path) -> None:
    source, out = _saved(tmp_path, {}), tmp_path / "x.caffemodel"
    layout = tmp_path / "x.prototxt"
    layout.write_text("my own")
    with pytest.raises(UsageError, match=r"x.prototxt exists without x.caffemodel, so it may"):
        convert(source, out, encoding=None, half=False)
    assert layout.read_text() == "my own"
    out.write_bytes(b"whose layout it is")
    convert(source, out, encoding=None, half=False)
    out.unlink()
    assert convert(source, out, encoding=None, half=False).paths == (out, layout)


def test_differing_probabilities_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _saved(tmp_path, {})
    monkeypatch.setattr(caffe_weights, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="nothing was written"):
        convert(source, tmp_path / "x.caffemodel", encoding=None, half=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


def test_the_layout_of_the_bundled_weights_is_right() -> None:
    assert difference(BUNDLED, BUNDLED.with_suffix(".prototxt").read_text()) < 1e-6


@pytest.fixture(scope="module")
def kept() -> Model:
    """The bundled weights under onnxruntime, which no layout changes."""
    converted = age_net_core(read_caffemodel(BUNDLED)).SerializeToString()
    source = ModelSource("onnx", BUNDLED, outputs=("prob",), data=converted)
    return open_model(source, runtime="onnxruntime")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("pool: MAX", "pool: AVE"),
        ("kernel_size: 3\n    stride: 2", "kernel_size: 2\n    stride: 2"),
        ("beta: 0.75", "beta: 0.1"),
    ],
)
def test_a_wrong_layout_is_noticed_for_trained_weights(
    right: str, wrong: str, kept: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Mock(side_effect=lambda source, runtime="": kept if runtime else open_model(source))
    monkeypatch.setattr(caffe_weights, "open_model", opened)
    monkeypatch.setattr(caffe_weights, "age_net_core", Mock())
    # Trained weights, unlike random ones, answer the same for any white noise.
    layout = BUNDLED.with_suffix(".prototxt").read_text()
    assert right in layout
    with pytest.raises(ModelError, match=r"differ by .*nothing was written"):
        difference(BUNDLED, layout.replace(right, wrong))


def test_a_network_of_one_answer_proves_nothing(tmp_path: Path) -> None:
    flat = tmp_path / "flat.caffemodel"
    layers = [
        CaffeLayer(
            layer.name,
            layer.type,
            tuple(blob * np.float32(layer.name != "fc8") for blob in layer.blobs),
            layer.bottoms,
            layer.tops,
        )
        for layer in random_age_net_layers(seed=3, widths=MICRO)
    ]
    write_caffemodel(flat, layers, encoding="v1", half=False, name="flat")
    with pytest.raises(ModelError, match=r"same probabilities.*8 "):
        difference(flat, deploy_prototxt(widths=MICRO))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _saved(tmp_path, {})
    with pytest.raises(SystemExit) as ended:
        main(["convert-caffe", str(source), "-o", str(tmp_path / "x.caffemodel")])
    assert ended.value.code == 0
    assert "8 classes" in capsys.readouterr().out
    assert (tmp_path / "x.prototxt").is_file()
    with pytest.raises(SystemExit) as ended:
        main(["convert-caffe", str(source), "-o", str(tmp_path / "x.onnx")])
    assert ended.value.code == 2
