"""What a comparison loads before it begins, and what it takes a process of its own for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench import compare
from agebench.errors import AgebenchError, MissingDependencyError, UsageError
from agebench.estimators.constant import Constant
from agebench.harness import compare as compare_module
from agebench.harness import loading, trial
from agebench.harness.settings import CompareSettings
from agebench.runtimes.base import wanted_threads
from agebench.vision.opencv import cv2


@pytest.mark.parametrize("reference", ["onnx:{}/none.onnx", "spec:{}/none.toml"])
def test_a_path_to_nothing_is_said_without_a_process(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started for a file that is not there")

    monkeypatch.setattr(trial, "ask_child", never)
    with pytest.raises(AgebenchError, match="none"):
        loading.load_contenders([reference.format(tmp_path)], skip_unavailable=False)


def test_a_model_whose_library_is_missing_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(item: str) -> None:
        raise MissingDependencyError(f"{item} needs h5py")

    monkeypatch.setattr(loading, "named_estimator", missing)
    with pytest.raises(MissingDependencyError, match=r"needs h5py .*skip-unavailable"):
        loading.load_contender("constant", skip_unavailable=False)
    left_out = loading.load_contender("constant", skip_unavailable=True)
    assert (left_out.estimator, left_out.reason) == (None, "constant needs h5py")


@pytest.mark.parametrize("single", [Constant(), 3])
def test_a_single_estimator_is_asked_for_in_a_list(single: Any) -> None:
    said = f"expected a list of estimators, got {type(single).__name__}: put even a single one in"
    with pytest.raises(UsageError, match=said):
        compare(single, "sample")


def test_a_root_that_is_no_path_is_said_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="expected a path, got 3"):
        compare(["constant"], "csv", root=3)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("setting", "value"), [("seed", "x"), ("limit", "5"), ("sample", 2.5), ("threads", "two")]
)
def test_numbers_of_settings_are_whole(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{setting} must be a whole number, got {value!r}"):
        CompareSettings(**{setting: value})
    assert CompareSettings(limit=np.int64(5)).limit == 5  # type: ignore[arg-type]  # as callers do


def test_models_of_a_comparison_are_opened_with_a_stated_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else ONNX Runtime's own would spin on after a run, while another one is timed."""
    seen: list[object] = []

    def load(*_: Any, **__: Any) -> None:
        seen.append((wanted_threads(), cv2.getNumThreads()))
        raise UsageError("enough")

    monkeypatch.setattr(compare_module, "load_contenders", load)
    before = cv2.getNumThreads()
    with pytest.raises(UsageError, match="enough"):
        compare(["constant"], "sample", settings=CompareSettings(threads=3))
    assert seen == [(3, 3)]
    assert (wanted_threads(), cv2.getNumThreads()) == (None, before)
