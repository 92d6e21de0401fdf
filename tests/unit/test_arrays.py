"""The checks on everything that comes into the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agebench.util.arrays import ages, finite_floats, same_length


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.0], [2.0]], r"ages: expected 1 dimension\(s\), got shape \(2, 1\)"),
        (3.0, r"got shape \(\)"),
        ([1.0, float("nan")], r"got nan at \[1\]"),
        ([float("-inf"), 1.0], r"got -inf at \[0\]"),
        (["3", "4"], "expected real numbers, got dtype <U1"),
        ([None, 1.0], "got dtype object"),
        ([True, False], "got dtype bool"),
        ([1j], "got dtype complex128"),
        ([[1], [1, 2]], "ragged"),
    ],
)
def test_what_is_no_vector_of_numbers_is_refused_by_name(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        finite_floats("ages", values)


def test_the_place_in_a_matrix_is_named() -> None:
    with pytest.raises(ValueError, match=r"got inf at \[1, 2\]"):
        finite_floats("p", [[1.0, 2.0, 3.0], [4.0, 5.0, np.inf]], ndim=2)


def test_small_types_and_empty_lists_become_float64() -> None:
    assert finite_floats("a", np.array([1, 2], np.uint8)).dtype == np.float64
    assert finite_floats("a", np.array([0.5], np.float16)).tolist() == [0.5]
    assert finite_floats("a", []).shape == (0,)


@pytest.mark.parametrize("wrong", [-0.001, 120.001])
def test_impossible_ages_are_refused(wrong: float) -> None:
    assert ages("a", [0, 120]).tolist() == [0.0, 120.0]
    with pytest.raises(ValueError, match=r"from 0 to 120 years, got .* at \[1\]"):
        ages("a", [5, wrong])


def test_unequal_lengths_are_told_apart_by_name() -> None:
    assert same_length(a=np.zeros(3), b=np.ones(3)) == 3
    with pytest.raises(ValueError, match="got a: 3, b: 2"):
        same_length(a=np.zeros(3), b=np.ones(2))
