"""Decoding inside the graph is that of `agebench.metrics.age_classes`, under both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

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


@pytest.mark.parametrize(
    ("rule", "nodes", "weights"),
    [
        ("expectation", ["Gemm p,years -> age"], {"years": [[10.0], [20.0], [40.0]]}),
        (
            "midpoint",
            ["ArgMax p -> best axis=1 keepdims=1", "Gather years,best -> age axis=0"],
            {"years": [10.0, 20.0, 40.0]},
        ),
        (
            "median",
            [
                "Gemm p,sums -> below",
                "Sub half,below -> short_of_half",
                "Mul short_of_half,steep -> steep_step",
                "Clip steep_step,bound,bound_2 -> step",
                "Gemm step,rises,first_years -> age",
            ],
            {
                "sums": [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]],
                "half": [0.5],
                "steep": [1000.0],
                "bound": 0.0,
                "bound_2": 1.0,
                "rises": [[10.0], [20.0], [0.0]],
                "first_years": [10.0],
            },
        ),
    ],
)
def test_the_nodes_and_names_in_a_file_stay_as_they_are(
    rule: str, nodes: list[str], weights: dict[str, object]
) -> None:
    graph = Graph()
    graph.reserve("p", AGE)
    assert add_age(graph, "p", [10, 20, 40], decode_rule(rule)) == AGE == "age"
    written = graph.model("d", {"p": (3,)}, {AGE: (1,)}).graph
    assert [
        " ".join(
            [node.op_type, ",".join(node.input), "->", *node.output]
            + [f"{attribute.name}={attribute.i}" for attribute in node.attribute]
        )
        for node in written.node
    ] == nodes
    assert {
        tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in written.initializer
    } == weights


def test_a_median_near_one_half_changes_as_slowly_as_the_projects(tmp_path: Path) -> None:
    graph, bins = Graph(), AgeBins.single_years(30, 32)
    graph.reserve("p", AGE)
    add_age(graph, "p", list(bins.midpoints), decode_rule("median"))
    path = tmp_path / "d.onnx"
    path.write_bytes(graph.model("d", {"p": (3,)}, {AGE: (1,)}).SerializeToString())
    loaded = open_model(ModelSource("onnx", path, outputs=(AGE,)), runtime="onnxruntime")
    below = np.array([0.6, 0.5, 0.49975, 0.4995, 0.499, 0.3])  # in the first year
    shares = np.stack([below, 0.9 - below, np.full(6, 0.1)], axis=1)
    ages = loaded.run({"p": shares.astype(np.float32)})[AGE].ravel()
    assert ages == pytest.approx([30.0, 30.0, 30.25, 30.5, 31.0, 31.0], abs=1e-3)
    assert ages == pytest.approx(median(shares, bins), abs=1e-3)


def test_a_rule_that_cannot_be_exported_is_answered_with_those_that_can() -> None:
    with pytest.raises(UsageError, match=r"'mode'.*use expectation, median, midpoint"):
        decode_rule("mode")
