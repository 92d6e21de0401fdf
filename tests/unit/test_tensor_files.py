"""safetensors files in a fixed order: the same tensors, sorted metadata."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load, save

from agebench.util.tensor_files import in_fixed_order

TENSORS: dict[str, npt.NDArray[Any]] = {
    'ä/☃ "quoted"\\': np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 4), np.float64),
    "one": np.array(7, np.int64),
}
METADATA = {"b": "zwei", "a": 'é "1" {}', "ü": "3"}


def test_tensors_are_kept_and_metadata_are_sorted() -> None:
    contents = {
        in_fixed_order(save(TENSORS, dict(order)))
        for order in (METADATA.items(), reversed(METADATA.items()))
    }
    (content,) = contents
    found = load(content)
    assert found.keys() == TENSORS.keys()
    for name, values in TENSORS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    assert header.keys() == {"__metadata__", *TENSORS}
    assert list(header["__metadata__"].items()) == sorted(METADATA.items())


def test_a_file_without_metadata_is_refused() -> None:
    with pytest.raises(ValueError, match="metadata first"):
        in_fixed_order(save(TENSORS))
