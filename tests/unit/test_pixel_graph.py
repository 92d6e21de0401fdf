"""The first operations of a graph, computed before it, against the graph as it is in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench.conversion.graph import Graph
from agebench.errors import ModelError
from agebench.estimators.multicrop_resnet import FILE, OPEN_FILE, SMALL_FILE
from agebench.modelfiles.manifest import bundled_dir
from agebench.runtimes.age_file import AgeFile, generated
from agebench.runtimes.base import ModelSource, watch_models
from agebench.runtimes.onnx_runtime import OnnxRuntimeModel
from agebench.runtimes.opening import open_model
from agebench.runtimes.pixel_graph import PixelModel, split_pixels
from agebench.types import Crops, CropSpec, FaceFrame, Floats
from agebench.vision.crops import cut_crops
from agebench.vision.images import decode_image

VIEWS = ("face", "eyes", "mouth")
MIRRORED = "mirrored.onnx"
FILES = (FILE, SMALL_FILE, MIRRORED)
Parts = Mapping[str, npt.NDArray[np.uint8]]


SOME = 6
"""Pictures: ages are medians in whole years, and those of fewer may be the same."""

_FOLDER: list[Path] = []
"""Where `MIRRORED` is written."""


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    _FOLDER[:] = [tmp_path_factory.mktemp("mirrored")]


@cache
def _path(file: str) -> Path:
    """Return a bundled file, or a random network with the views of the bundled ones, mirrored."""
    if file != MIRRORED:
        return bundled_dir() / file
    torch = pytest.importorskip("torch")
    from agebench.export.multi_crop import multi_crop_candidate
    from agebench.export.writing import serialise
    from agebench.train.losses import LOSSES
    from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings
    from agebench.train.networks import MultiCropResNet

    torch.manual_seed(0)
    backbone = BackboneSettings(depth=10, width=16)
    sides = {"face": (32, 32), "eyes": (16, 32), "mouth": (16, 24)}
    views = {name: ViewSettings(name, side, backbone=backbone) for name, side in sides.items()}
    network = MultiCropResNet(ModelSettings(views=views, dense=32), LOSSES["dldl"].head)
    with torch.no_grad():
        network.head.weight.mul_(20)  # type: ignore[operator]  # a Linear
    made = multi_crop_candidate(network.eval(), LOSSES["dldl"], "expectation", flip=True)
    path = _FOLDER[0] / file
    path.write_bytes(serialise(made.model, made.spec))
    return path


@cache
def _opened(file: str, *, as_stored: bool) -> AgeFile:
    return AgeFile(_path(file), as_stored=as_stored)


def _model(file: str) -> onnx.ModelProto:
    return onnx.load(str(_path(file)))


def _noise(spec: CropSpec, count: int) -> Crops:
    """Return crops in which every level is next to every other one."""
    crops, rng = generated(spec, count), np.random.default_rng(3)
    views = {
        name: rng.integers(0, 256, pixels.shape).astype(np.uint8)
        for name, pixels in crops.views.items()
    }
    return Crops(views, crops.present, crops.outside)


@cache
def _of_pictures(file: str, count: int) -> tuple[Crops, Floats]:
    """Return crops of the bundled faces, upright, tilted and beyond the border, and their ages."""
    spec = _opened(file, as_stored=True).spec.crop
    files = sorted((bundled_dir() / "sample").glob("*.jpg"))
    rng, crops = np.random.default_rng(4), list[Crops]()
    while len(crops) < count:
        path = files[len(crops) % len(files)]
        picture = decode_image(path.read_bytes(), path.name)
        height, width = picture.shape[:2]
        x, y = rng.uniform(0.3, 0.7, 2) * (width, height)
        frame = FaceFrame((float(x), float(y)), height * rng.uniform(0.4, 1.2), rng.uniform(-1, 1))
        cut = cut_crops(picture, [frame], spec)
        if any(flags[0] for flags in cut.present.values()):
            crops.append(cut)
    joined = Crops.join(crops)
    return joined, _same(file, joined)


def _same(file: str, crops: Crops) -> Floats:
    """Require equal ages and probabilities, to the last bit; return the ages."""
    years, shares = _opened(file, as_stored=True).answer(crops)
    found_years, found_shares = _opened(file, as_stored=False).answer(crops)
    assert np.array_equal(found_years, years)
    assert np.array_equal(found_shares, shares)
    return years


@pytest.mark.parametrize("file", [*FILES, OPEN_FILE])
@pytest.mark.parametrize("count", [1, SOME])
def test_ages_are_equal_to_the_bit(file: str, count: int) -> None:
    spec = _opened(file, as_stored=True).spec.crop
    for make in (generated, _noise):
        years = _same(file, make(spec, count))
        assert count == 1 or years.std() > 0
    crops, years = _of_pictures(file, count)
    assert count == 1 or years.std() > 0
    assert len(_same(file, crops.take(slice(0, 0)))) == 0


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("view", VIEWS)
def test_missing_views(file: str, view: str) -> None:
    crops, years = _of_pictures(file, SOME)
    without = crops.without(view)
    assert not np.array_equal(_same(file, without), years)
    _same(file, Crops.join([without.take(slice(0, 2)), crops.take(slice(2, None))]))
    others = [name for name in VIEWS if name != view]
    _same(file, without.without(others[0]))
    for as_stored in (True, False):
        with pytest.raises(ModelError, match="missing, but needed"):
            _opened(file, as_stored=as_stored).answer(without.without(others[0]).without(others[1]))


def test_more_faces_than_a_batch_and_any_memory_layout() -> None:
    crops = _of_pictures(FILE, SOME)[0].take(slice(0, 5))
    backwards = Crops(
        {name: np.asfortranarray(pixels) for name, pixels in crops.views.items()},
        crops.present,
        crops.outside,
    )
    expected, _ = _opened(FILE, as_stored=True).answer(crops)
    in_twos = AgeFile(bundled_dir() / FILE, batch=2)
    assert np.array_equal(in_twos.answer(crops)[0], expected)
    assert np.array_equal(in_twos.answer(backwards)[0], expected)


@pytest.mark.parametrize("file", [*FILES, OPEN_FILE])
def test_what_is_removed(file: str) -> None:
    views = ("face",) if file == OPEN_FILE else VIEWS
    model = _model(file)
    before = Counter(node.op_type for node in model.graph.node)
    inputs = split_pixels(model, views, Path(file))
    onnx.checker.check_model(model, full_check=True)
    assert [item.view for item in inputs] == list(views)
    # Nobody needs to tell whether the only view is there.
    told = {"present"} if len(views) > 1 else set()
    assert {item.name for item in inputs} | told == {i.name for i in model.graph.input}
    removed = before - Counter(node.op_type for node in model.graph.node)
    levels = (np.arange(256) - 127.5) / 64
    if file in (FILE, OPEN_FILE):
        assert removed == {"Mul": len(views), "Sub": len(views)}
        assert {item.mirrored for item in inputs} == {""}
    if file == MIRRORED:
        assert removed == {"Concat": 3, "Gather": 3, "Mul": 3, "Sub": 3}
        assert all(item.mirrored == item.view for item in inputs)
    if file != SMALL_FILE:
        for item in inputs:
            assert np.array_equal(item.table, np.tile(levels.astype(np.float32), (3, 1)))
    else:
        # Halves are rounded to even numbers.
        expected = np.clip(np.rint(levels * 64) + 128, 0, 255)
        for item in inputs:
            assert item.mirrored == ""
            assert np.array_equal(item.table, np.tile(expected.astype(np.uint8), (3, 1)))
        assert removed == {"Mul": 3, "QuantizeLinear": 3, "Sub": 3}


@pytest.mark.parametrize("runtime", ["cv2dnn", "torch"])
def test_other_runtimes_get_the_graph_of_the_file(runtime: str) -> None:
    if runtime == "torch":
        pytest.importorskip("torch")
    file = AgeFile(bundled_dir() / FILE, runtime)
    crops = _of_pictures(FILE, SOME)[0].take(slice(0, 2))
    feeds = file.feeds(crops)
    assert {value.dtype for value in feeds.values()} == {np.dtype(np.float32)}
    expected, _ = _opened(FILE, as_stored=True).answer(crops)
    np.testing.assert_allclose(file.answer(crops)[0], expected, atol=0.01)


def test_what_is_stated_is_that_of_the_file() -> None:
    stored, split = (_opened(SMALL_FILE, as_stored=flag) for flag in (True, False))
    assert split.runtime == stored.runtime
    assert (split.sha256, split.spec) == (stored.sha256, stored.spec)
    with watch_models() as models:
        file = AgeFile(bundled_dir() / FILE)
        models[0].runs.clear()
        file.answer(generated(file.spec.crop, 3))
    shapes = {"face": (3, 3, 160, 160), "eyes": (3, 3, 64, 128), "mouth": (3, 3, 64, 96)}
    assert models[0].runs == [{**shapes, "present": (3, 3, 1, 1)}]
    assert list(models[0].input_names) == [*VIEWS, "present"]


def _network(mirrored: Mapping[str, str], **changes: npt.ArrayLike) -> onnx.ModelProto:
    """Return a small graph of two views, each with the mirror image of another one behind it.

    Args:
        mirrored: for each view, the one that is mirrored.
        changes: other values of constants.
    """
    rng, graph = np.random.default_rng(5), Graph()
    graph.reserve("a", "b", "y")
    weights = graph.weight(changes.get("weights", rng.normal(size=(4, 3, 3, 3))), "weights")
    parts = []
    for view, other in mirrored.items():
        turned = graph.mirrored(other, 10)
        if "backwards" in changes:
            places = graph.weight(changes["backwards"], "places", whole=True)
            turned = graph.node("Gather", [other, places], axis=3)
        both = graph.node("Concat", [view, turned], f"{view}_both", axis=0)
        centre = graph.weight(changes.get("centre", rng.normal(size=(1, 3, 1, 1))), "centre")
        centred = graph.node("Sub", [both, centre], f"{view}_centred")
        scaled = graph.node("Div", [centred, graph.weight([3.0], "scale")], f"{view}_scaled")
        conv = graph.node("Conv", [scaled, weights], f"{view}_conv", kernel_shape=[3, 3])
        parts.append(graph.node("GlobalAveragePool", [conv], f"{view}_mean"))
    graph.named("Add", parts, "y")
    model = graph.model("g", dict.fromkeys(mirrored, (3, 8, 10)), {"y": (4, 1, 1)})
    assert isinstance(model, onnx.ModelProto)
    return model


OWN, PARTNERS = {"a": "a", "b": "b"}, {"a": "b", "b": "a"}


def _require_same(model: onnx.ModelProto, pixels: Parts, output: str) -> None:
    """Require one output, to the bit, of the graph as it is and of the one that is split."""
    names = tuple(pixels)
    source = ModelSource(
        "onnx", Path("m.onnx"), outputs=(output,), inputs=names, data=model.SerializeToString()
    )
    expected = OnnxRuntimeModel(source).run(
        {name: value.astype(np.float32) for name, value in pixels.items()}
    )
    split = open_model(replace(source, pixels=names), runtime="onnxruntime")
    assert isinstance(split, PixelModel)
    assert np.array_equal(split.run(pixels)[output], expected[output])


def _pixels(count: int = 3) -> Parts:
    rng = np.random.default_rng(6)
    return {name: rng.integers(0, 256, (count, 3, 8, 10)).astype(np.uint8) for name in "ab"}


@pytest.mark.parametrize("mirrored", [OWN, PARTNERS])
def test_a_view_may_be_mirrored_for_another_one(mirrored: Mapping[str, str]) -> None:
    inputs = split_pixels(_network(mirrored), ("a", "b"), Path("m.onnx"))
    assert {item.view: item.mirrored for item in inputs} == mirrored
    _require_same(_network(mirrored), _pixels(), "y")


@pytest.mark.parametrize(
    "changes",
    [
        {"centre": np.arange(240.0).reshape(1, 3, 8, 10)},
        {"centre": np.arange(10.0)},
        {"backwards": [9, 8, 7, 6, 5, 4, 3, 2, 0, 1]},
        {"backwards": list(range(10))},
        {"backwards": [9, 8, 7, 6, 5, 4, 3, 2, 1, -10]},
    ],
)
def test_a_graph_of_another_form_is_left_alone(changes: Mapping[str, npt.ArrayLike]) -> None:
    model = _network(OWN, **changes)
    before = model.SerializeToString(deterministic=True)
    assert split_pixels(model, ("a", "b"), Path("m.onnx")) == ()
    assert model.SerializeToString(deterministic=True) == before
    _require_same(model, _pixels(), "y")


def test_one_view_of_another_form_stays_as_it_is() -> None:
    model = _network(OWN)
    centre = numpy_helper.from_array(np.full((1, 3, 8, 10), 7.0, np.float32), "centres")
    model.graph.initializer.append(centre)
    next(node for node in model.graph.node if node.op_type == "Sub").input[1] = "centres"
    _require_same(model, _pixels(), "y")
    assert [item.view for item in split_pixels(model, ("a", "b"), Path("m.onnx"))] == ["b"]
    assert [item.name for item in model.graph.input] == ["a", "b_scaled"]


def test_values_that_are_used_twice_stay() -> None:
    model = _network(OWN)
    model.graph.node.insert(0, helper.make_node("GlobalAveragePool", ["a"], ["a_level"]))
    model.graph.output.append(helper.make_tensor_value_info("a_level", TensorProto.FLOAT, None))
    for output in ("y", "a_level"):
        _require_same(model, _pixels(), output)


def test_nodes_in_a_circle_end_the_search() -> None:
    model = _network(OWN)
    for node in model.graph.node:
        if node.op_type == "Div":
            node.output[0] = node.input[0]
    source = ModelSource("onnx", Path("m.onnx"), inputs=("a", "b"), pixels=("a", "b"))
    with pytest.raises(ModelError, match=r"m\.onnx"):
        PixelModel(replace(source, data=model.SerializeToString()))
