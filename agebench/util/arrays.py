"""Checks of arrays, used by all metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController, threadpool_limits

from agebench.types import MAX_AGE_YEARS, Floats

Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run matrix products within the context on one thread.

    Those of the statistics are small: several threads gain nothing on an idle machine, and on a
    busy one they wait for each other, which has taken 35 times the processor time.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Do as `one_blas_thread`, of numpy's library alone: for what is done for each picture.

    To look for the libraries that were loaded since takes 20 times as long as to limit one.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `values` as an array of numbers; text, None and booleans are not numbers."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected an array of numbers, got a ragged one") from error
    if array.size and array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def finite_floats(name: str, values: npt.ArrayLike, ndim: int = 1) -> Floats:
    """Return `values` as float64 of `ndim` dimensions, all finite.

    Args:
        name: of the array, for the message.
        values: numbers; an empty sequence is an array of length 0.
        ndim: expected number of dimensions.

    Raises:
        ValueError: other dimensions, not numbers, or NaN or infinity, with the position.

    >>> finite_floats("ages", [3, 4.5])
    array([3. , 4.5])
    """
    array = _numbers(name, values)
    if array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    floats = np.asarray(array, dtype=np.float64)
    wrong = np.argwhere(~np.isfinite(floats))
    if len(wrong):
        place = ", ".join(map(str, wrong[0]))
        bad = floats[tuple(wrong[0])]
        raise ValueError(f"{name}: expected finite numbers, got {bad} at [{place}]")
    return floats


def ages(name: str, values: npt.ArrayLike) -> Floats:
    """Return ages in years as float64 of shape (n,), 0 to `MAX_AGE_YEARS`.

    Raises:
        ValueError: as `finite_floats`, or an age is out of that range, with the position.

    >>> ages("true_years", [3, 200])
    Traceback (most recent call last):
    ValueError: true_years: expected ages from 0 to 120 years, got 200.0 at [1]
    """
    years = finite_floats(name, values)
    wrong = (years < 0) | (years > MAX_AGE_YEARS)
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: expected ages from 0 to {MAX_AGE_YEARS:g} years, "
            f"got {years[index]} at [{index}]"
        )
    return years


def same_length(**arrays: npt.NDArray[Any]) -> int:
    """Return the common length of `arrays`.

    Raises:
        ValueError: the lengths differ; the message gives each one by name.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        got = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(f"expected equal lengths, got {got}")
    return next(iter(lengths.values()))
