"""Caffe files of the age_net layout as ONNX: the same probabilities as under Caffe's importer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from agebench import load_estimator
from agebench.conversion.age_net_onnx import age_net_core, layout_of
from agebench.conversion.converted import converted_age_net
from agebench.duplicates.training_hashes import TrainingHashes, find_hashes, hashes_beside
from agebench.errors import ModelError, UsageError
from agebench.export.age_net_candidate import age_net_candidate
from agebench.export.random_age_net import random_age_net, random_age_net_layers
from agebench.export.writing import export, report_beside
from agebench.protocols import EstimatorSpec
from agebench.runtimes.age_file import generated
from agebench.runtimes.age_net_layout import MICRO, PUBLISHED, Widths, deploy_prototxt
from agebench.runtimes.base import ModelSource
from agebench.runtimes.caffe_model import CaffeLayer, read_caffemodel, write_caffemodel
from agebench.runtimes.opening import open_model
from agebench.types import AgePrediction, Crops


@pytest.mark.parametrize(("widths", "classes"), [(MICRO, 8), (Widths(5, 7, 6, 9, 11), 117)])
@pytest.mark.parametrize("encoding", ["v1", "v2"])
def test_core_equals_caffe(tmp_path: Path, widths: Widths, classes: int, encoding: str) -> None:
    caffe, onnx_path = tmp_path / "net.caffemodel", tmp_path / "net.onnx"
    layers = random_age_net_layers(seed=1, classes=classes, widths=widths)
    write_caffemodel(caffe, layers, encoding="v1" if encoding == "v1" else "v2")
    net = read_caffemodel(caffe)
    assert layout_of(net) == (classes, widths)
    onnx_path.write_bytes(age_net_core(net).SerializeToString())
    blob = np.random.default_rng(0).normal(0, 60, (7, 3, 227, 227)).astype(np.float32)
    source = ModelSource("caffe", caffe, config=deploy_prototxt(classes, widths))
    expected = open_model(source).run({"data": blob})["prob"]
    assert expected.std(axis=0).max() > 1e-4
    for runtime in ("onnxruntime", "cv2dnn"):
        model = open_model(ModelSource("onnx", onnx_path), runtime=runtime)
        for count in (1, 2, 7):
            got = model.run({"data": blob[:count]})["prob"]
            np.testing.assert_allclose(got, expected[:count], atol=2e-6)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    layers = list(random_age_net_layers(seed=1, widths=MICRO))
    fc7 = next(index for index, layer in enumerate(layers) if layer.name == "fc7")
    blobs = (np.ones((14, 99), np.float32), np.ones(14, np.float32))
    wrong = [*layers[:fc7], CaffeLayer("fc7", "InnerProduct", blobs), *layers[fc7 + 1 :]]
    write_caffemodel(tmp_path / "a.caffemodel", wrong, encoding="v2")
    with pytest.raises(ModelError, match=r"'fc7'.*shape"):
        age_net_core(read_caffemodel(tmp_path / "a.caffemodel"))
    write_caffemodel(tmp_path / "b.caffemodel", layers[:fc7], encoding="v2")
    with pytest.raises(ModelError, match="no layer 'fc7'"):
        age_net_core(read_caffemodel(tmp_path / "b.caffemodel"))


def test_the_estimator_under_onnxruntime_answers_as_under_caffe(tmp_path: Path) -> None:
    full_size = tmp_path / "random.caffemodel"
    random_age_net(full_size, seed=4)
    first = load_estimator(f"caffe-age-net:{full_size}")
    second = load_estimator(f"caffe-age-net:{full_size}@onnxruntime:cpu")
    assert second.spec.runtime.runtime == "onnxruntime"
    assert second.spec.runtime.detail == "CPUExecutionProvider"
    assert second.spec.weights == first.spec.weights
    crops = generated(first.spec.crop, 3)
    years = [[answer.years for answer in item.predict(crops)] for item in (first, second)]
    assert np.std(years[0]) > 0.5
    np.testing.assert_allclose(years[0], years[1], atol=0.001)


@pytest.mark.usefixtures("short_proof")
def test_the_exported_estimator_needs_no_other_file(narrow: Path, tmp_path: Path) -> None:
    source = narrow / "8.caffemodel"
    estimator = load_estimator(f"caffe-age-net:{source} years=midpoint margin=0.2")
    candidate = age_net_candidate(estimator, source)
    out = tmp_path / "age.onnx"
    export(candidate, out, crops=generated(candidate.spec.crop, 2), described="two")
    loaded = load_estimator(f"onnx:{out}")
    assert loaded.spec.crop == estimator.spec.crop
    assert loaded.spec.bins == estimator.spec.bins
    assert loaded.spec.classes == estimator.spec.classes
    assert loaded.spec.decode == "midpoint"
    assert loaded.spec.weights[1].sha256 == estimator.spec.weights[0].sha256
    crops = generated(candidate.spec.crop, 3, seed=3)
    for one, two in zip(estimator.predict(crops), loaded.predict(crops), strict=True):
        assert one.years == pytest.approx(two.years, abs=0.001)
        assert one.probabilities is not None
        assert two.probabilities is not None
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-5)


@pytest.mark.usefixtures("short_proof")
def test_a_class_for_every_age_is_exported_too(narrow: Path, tmp_path: Path) -> None:
    every_age = narrow / "117.caffemodel"
    estimator = load_estimator(f"caffe-age-net-utkface:{every_age}")
    seen = TrainingHashes.of("mine/train", ["ab" * 32])
    seen.write(hashes_beside(every_age))
    candidate = age_net_candidate(estimator, every_age)
    out = tmp_path / "age.onnx"
    export(candidate, out, crops=generated(candidate.spec.crop, 2), described="two")
    loaded = load_estimator(f"onnx:{out}")
    assert loaded.spec.name != "caffe-age-net"
    assert loaded.spec.crop == estimator.spec.crop
    assert loaded.spec.bins == estimator.spec.bins
    assert loaded.spec.decode == "median"
    assert find_hashes(out) == seen
    report = json.loads(report_beside(out).read_text())
    assert report["model_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    crops = generated(candidate.spec.crop, 3, seed=3)
    for one, two in zip(estimator.predict(crops), loaded.predict(crops), strict=True):
        assert one.years == pytest.approx(two.years, abs=0.001)


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_a_file_of_other_classes_is_sent_where_it_belongs(narrow: Path, runtime: str) -> None:
    for name, classes, said in (
        ("caffe-age-net", 117, "117 classes, expected 8: use caffe-age-net-utkface:"),
        ("caffe-age-net-utkface", 8, "8 classes, expected 117: use caffe-age-net:"),
    ):
        with pytest.raises(ModelError, match=said):
            load_estimator(f"{name}:{narrow}/{classes}.caffemodel@{runtime}")


@dataclass
class Spoken:
    """An estimator of which only the spec matters."""

    spec: EstimatorSpec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        return [AgePrediction(1.0) for _ in range(len(crops))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"crops": 10, "mean": "image"}}, "one crop and the channel mean"),
        ({"decode": "mode"}, "decoded by 'mode' can't be exported"),
        ({"bins": None}, "without bins"),
    ],
)
def test_options_that_no_graph_can_hold(
    narrow: Path, change: dict[str, object], message: str
) -> None:
    path = narrow / "8.caffemodel"
    spec = replace(load_estimator(f"caffe-age-net:{path}").spec, **change)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match=message):
        age_net_candidate(Spoken(spec), path)


def test_a_converted_file_is_made_once_and_anew_when_damaged(tmp_path: Path) -> None:
    caffe = tmp_path / "net.caffemodel"
    random_age_net(caffe, seed=2, micro=True)
    sha256 = hashlib.sha256(caffe.read_bytes()).hexdigest()
    path = converted_age_net(caffe, sha256)
    content, made = path.read_bytes(), path.stat().st_mtime_ns
    assert converted_age_net(caffe, sha256) == path
    assert path.stat().st_mtime_ns == made
    path.write_bytes(content[:-100])
    assert converted_age_net(caffe, sha256).read_bytes() == content
    random_age_net(caffe, seed=3, micro=True)
    assert converted_age_net(caffe, hashlib.sha256(caffe.read_bytes()).hexdigest()) != path
    assert PUBLISHED.conv1 == 96
