"""Graph nodes that compute years from a head's probabilities.

The rules are those of `agebench.metrics.age_classes`, so that a file gives the same ages as the
model that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from agebench.conversion.graph import Graph
from agebench.errors import UsageError
from agebench.metrics.age_classes import MEDIAN_RAMP
from agebench.runtimes.onnx_metadata import AGE, Decode


def decode_rule(text: str) -> Decode:
    """Return the rule with that name.

    Raises:
        UsageError: it can't be exported.
    """
    rules: tuple[Decode, ...] = get_args(Decode)
    for rule in rules:
        if rule == text:
            return rule
    raise UsageError(f"ages decoded by {text!r} can't be exported: use {', '.join(rules)}")


def add_age(graph: Graph, probabilities: str, bin_years: Sequence[float], rule: Decode) -> str:
    """Add the output `AGE`, (n, 1), from probabilities (n, bins).

    Args:
        graph: the nodes are added to it.
        probabilities: name of the value.
        bin_years: age of each bin.
        rule: "expectation": the mean; "median": the first bin at which the cumulative probability
            reaches one half, as `agebench.metrics.age_classes.median`; "midpoint": the most
            probable bin.
    """
    years = np.asarray(bin_years, np.float64)
    if rule == "expectation":
        return graph.named("Gemm", [probabilities, graph.weight(years[:, None], "years")], AGE)
    if rule == "median":
        return _median(graph, probabilities, years)
    best = graph.node("ArgMax", [probabilities], "best", axis=1, keepdims=1)
    return graph.named("Gather", [graph.weight(years, "years"), best], AGE, axis=0)


def _median(
    graph: Graph, probabilities: str, years: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> str:
    """Start at the first bin and add the steps between bins while less than half is below."""
    count = len(years)
    below = graph.node(
        "Gemm", [probabilities, graph.weight(np.triu(np.ones((count, count))), "sums")], "below"
    )
    short = graph.node("Sub", [graph.weight([0.5], "half"), below], "short_of_half")
    steep = graph.node("Mul", [short, graph.weight([1 / MEDIAN_RAMP], "steep")], "steep_step")
    bounds = [graph.weight(np.array(value), "bound") for value in (0.0, 1.0)]
    step = graph.node("Clip", [steep, *bounds], "step")
    rises = np.append(np.diff(years), 0.0)[:, None]
    first = graph.weight([years[0]], "first_years")
    return graph.named("Gemm", [step, graph.weight(rises, "rises"), first], AGE)
