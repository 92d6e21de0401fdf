"""Decoding inside the graph is that of `agebench.metrics.age_classes`, under both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agebench.conversion.graph import Graph
from agebench.errors import UsageError
from agebench.export.decoding import add_age, decode_rule
from agebench.export.half import halve
from agebench.metrics.age_classes import expectation, median, years_from_classes
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_metadata import AGE, PROBABILITIES
from agebench.runtimes.opening import open_model
from agebench.types import AgeBins, Floats

BINS = AgeBins.single_years(3, 60)


def _logits() -> Floats:
    rows = np.random.default_rng(4).normal(0, 3, (33, len(BINS)))
    rows[0] = 0.0
    rows[0, 57] = 50.0  # all in the last bin
    rows[1] = 0.0
    rows[1, 0] = 50.0  # all in the first
    return rows


@pytest.mark.parametrize("runtime", ["onnxruntime", "cv2dnn"])
@pytest.mark.parametrize("rule", ["expectation", "median", "midpoint"])
def test_a_graph_decodes_as_the_project_does(tmp_path: Path, rule: str, runtime: str) -> None:
    graph = Graph()
    graph.reserve("x", AGE, PROBABILITIES)
    flat = graph.node("Flatten", ["x"], "flat", axis=1)
    softmax = graph.named("Softmax", [flat], PROBABILITIES, axis=1)
    add_age(graph, softmax, list(BINS.midpoints), decode_rule(rule))
    width = len(BINS)
    model = graph.model("d", {"x": (width, 1, 1)}, {AGE: (1,), PROBABILITIES: (width,)})
    path = tmp_path / "d.onnx"
    path.write_bytes(model.SerializeToString())
    blob = _logits().astype(np.float32)[:, :, None, None]
    loaded = open_model(ModelSource("onnx", path, outputs=(AGE, PROBABILITIES)), runtime=runtime)
    answer = loaded.run({"x": blob})
    shares = answer[PROBABILITIES].astype(np.float64)
    expected = {
        "expectation": lambda: expectation(shares, BINS.midpoints),
        "median": lambda: median(shares, BINS),
        "midpoint": lambda: years_from_classes(shares, BINS, "midpoint"),
    }[rule]()
    np.testing.assert_allclose(answer[AGE].ravel(), expected, atol=1e-4)


def test_a_rule_that_no_graph_has_is_refused() -> None:
    with pytest.raises(UsageError, match="'top2-expectation' can't be exported"):
        decode_rule("top2-expectation")


def test_names_are_given_once() -> None:
    graph = Graph()
    graph.reserve("x")
    first, second = graph.weight([1.0], "x"), graph.weight([2.0], "x")
    assert len({"x", first, second}) == 3


def test_halving_casts_at_the_borders_alone() -> None:
    graph = Graph()
    graph.reserve("x", "y")
    weight = graph.weight([1.0, 2.0], "w")
    before = graph.node("Mul", ["x", weight], "before")
    middle = graph.node("Add", [before, weight], "middle")
    graph.named("Mul", [graph.node("Add", [middle, middle], "twice"), weight], "y")
    model = graph.model("h", {"x": (2,)}, {"y": (2,)})
    halved = halve(model, {"before", "y"})
    casts = [node.output[0] for node in halved.graph.node if node.op_type == "Cast"]
    assert casts == ["before_half", "twice_full"]
    assert {tensor.name for tensor in halved.graph.initializer} == {"w", "w_half"}
