"""Small models that the export's tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from agebench.conversion.graph import Graph
from agebench.export.candidate import Candidate
from agebench.export.decoding import add_age
from agebench.export.random_age_net import random_age_net_layers
from agebench.export.writing import serialise
from agebench.runtimes.age_net_layout import Widths, deploy_prototxt
from agebench.runtimes.caffe_model import write_caffemodel
from agebench.runtimes.onnx_metadata import PRESENT, PROBABILITIES, FileSpec, FileView, SourceFile
from agebench.types import Crops, Floats

BIN_YEARS = (5.0, 20.0, 60.0)
WEIGHTS = np.array([[0.02, -0.01, 0.0], [0.0, 0.01, -0.02], [-0.01, 0.0, 0.03]])

SPEC = FileSpec(
    name="tiny",
    views=(FileView("face", "face", (6, 4), margin=0.1), FileView("mouth", "mouth", (4, 8))),
    bins=((0, 10), (11, 30), (31, 90)),
    bin_years=BIN_YEARS,
    decode="expectation",
    licence="CC0",
    trained_on="nothing",
    label_kind="unknown",
    sources=(SourceFile("a.bin", "0" * 64),),
    missing="learned",
)


NARROW = Widths(12, 20, 28, 36, 44)  # 260 kB, of which nearly all are numbers


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random age networks of 8 and 117 classes, and estimators that expect them so narrow.

    The export reads widths from the file; test_trial.py has the trial in another process.
    """
    expected = partial(deploy_prototxt, widths=NARROW)
    monkeypatch.setattr("agebench.estimators.caffe_age_net.deploy_prototxt", expected)
    monkeypatch.setattr("agebench.api.export.try_models", lambda *_given, **_named: None)
    folder = tmp_path_factory.mktemp("narrow")
    for classes in (8, 117):
        layers = random_age_net_layers(seed=4, classes=classes, widths=NARROW)
        write_caffemodel(folder / f"{classes}.caffemodel", layers, encoding="v1")
    return folder


def _shares(logits: Floats) -> Floats:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = grown / grown.sum(axis=1, keepdims=True)
    return shares


def tiny_years(crops: Crops) -> Floats:
    """The tiny model's ages in numpy: channel means of the views there are, weighed and decoded."""
    total = np.zeros((len(crops), 3))
    for name in SPEC.crop.views:
        means = crops.views[name].astype(np.float64).mean(axis=(1, 2))
        total += means * crops.present[name][:, None]
    years: Floats = _shares(total @ WEIGHTS.T) @ np.array(BIN_YEARS)
    return years


def _tiny_graph() -> onnx.ModelProto:
    graph = Graph()
    graph.reserve(*SPEC.input_shapes, *SPEC.output_shapes)
    parts = []
    for index, name in enumerate(SPEC.crop.views):
        mean = graph.node("GlobalAveragePool", [name], f"{name}_mean")
        flag = graph.slice(PRESENT, 1, index, index + 1)
        parts.append(graph.node("Mul", [mean, flag], f"{name}_seen"))
    flat = graph.node("Flatten", [graph.node("Add", parts, "both")], "flat", axis=1)
    logits = graph.node("Gemm", [flat, graph.weight(WEIGHTS, "w")], "logits", transB=1)
    shares = graph.named("Softmax", [logits], PROBABILITIES, axis=1)
    add_age(graph, shares, BIN_YEARS, "expectation")
    return graph.model("tiny", SPEC.input_shapes, SPEC.output_shapes)


@pytest.fixture(scope="session")
def tiny() -> Candidate:
    """A model of two views, one of which may be missing, with its source in numpy."""
    return Candidate(_tiny_graph(), SPEC, tiny_years, "tiny in numpy")


MakeFile = Callable[..., Path]


@pytest.fixture
def make_file(tiny: Candidate, tmp_path: Path) -> MakeFile:
    """Write the tiny model's file after a change of the graph, or with other fields in its spec."""

    def make(change: Callable[[onnx.ModelProto], object] | None = None, **fields: object) -> Path:
        spec = replace(tiny.spec, **fields)  # type: ignore[arg-type]  # checked by FileSpec
        model = onnx.ModelProto.FromString(serialise(tiny.model, spec))
        if change is not None:
            change(model)
        path = tmp_path / "tiny.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make
