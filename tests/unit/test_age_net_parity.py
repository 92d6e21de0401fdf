"""The script that holds one network's answers under several runtimes against each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agebench.runtimes.age_net_layout import CHANNEL_MEAN
from agebench.types import CropSpec, ViewSpec
from agebench.vision.opencv import cv2
from tests.unit.scripts import load_script


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    return load_script("benchmarks.age_net_parity")


def test_differences_are_those_from_the_first(parity: ModuleType) -> None:
    first = np.array([[0.5, 0.5, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0.25, 0.75]])
    other = first.copy()
    other[0, :2] = 0.25, 0.75  # 0-2 and 4-6: from 3 years to 4
    found = parity.differences({"one": first, "same": first * 1.0000001, "other": other})
    assert found["one"] == {"probability": 0, "years": 0, "other_class": 0}
    assert found["same"]["years"] == pytest.approx(0, abs=1e-6)
    assert found["other"]["probability"] == 0.25
    assert found["other"]["years"] == pytest.approx(1)
    assert found["other"]["other_class"] == 1


def test_the_table_has_a_line_for_each_runtime(parity: ModuleType) -> None:
    each = {"probability": 6.7e-6, "years": 9.5e-5, "other_class": 0}
    text = parity.markdown({"crops": 42, "against": "A", "differences": {"A": each, "B": each}})
    assert "42 crops" in text
    assert "| B | 6.7e-06 | 9.5e-05 | 0 |" in text
    assert text.endswith("    python benchmarks/age_net_parity.py --mirror WEIGHTS\n")


def test_crops_are_composites_and_noise_less_the_mean(parity: ModuleType) -> None:
    view = ViewSpec("face", (227, 227), margin_px=20, border="clip")
    blob = parity.inputs(CropSpec({"face": view}))
    assert blob.shape[1:] == (3, 227, 227)
    assert blob.dtype == np.float32
    pixels = blob + np.array(CHANNEL_MEAN, np.float32)[:, None, None]
    assert (pixels.min(), pixels.max()) == (pytest.approx(0, abs=1e-4), pytest.approx(255))
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)  # nothing is swapped or scaled
    assert len({one.tobytes() for one in blob}) == len(blob) > parity.NOISE


def test_an_opencv_of_its_own_is_installed_once_and_asked(
    parity: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[list[str], dict[str, Any]]] = []

    def run(words: list[str], **options: Any) -> Any:
        called.append((words, options))
        if "pip" in words:
            (tmp_path / "9.9").mkdir()
            return None
        answer = {"version": "9.9.0", "rows": [[0.125] * 8]}
        text = f"a line of its own\n{json.dumps(answer)}\n".encode()
        return subprocess.CompletedProcess(words, 0, text)

    monkeypatch.setattr(subprocess, "run", run)
    order = {"kind": "onnx", "path": "net.onnx", "blob": "blob.npy"}
    for _ in range(2):
        version, rows = parity.ask_opencv("9.9", order, tmp_path)
        assert version == "9.9.0"
        assert rows.tolist() == [[0.125] * 8]
    assert [words[2] for words, _ in called] == ["pip", parity.ASK_OPENCV, parity.ASK_OPENCV]
    assert called[0][0][-1] == "opencv-python-headless==9.9"
    assert str(tmp_path / "9.9") in called[0][0]
    assert called[1][1]["env"]["PYTHONPATH"] == str(tmp_path / "9.9")
    assert json.loads(called[1][0][3]) == order


PROTOTXT = """
name: "tiny"
input: "data"
input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { pool: AVE kernel_size: 2 } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""


def test_what_a_child_is_told_to_run_gives_a_row_for_each_crop(
    parity: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The child's own lines, in this process, on a network of two layers and eight channels."""
    blob = np.random.default_rng(0).normal(size=(3, 8, 2, 2)).astype(np.float32)
    np.save(tmp_path / "blob.npy", blob)
    (tmp_path / "net.caffemodel").write_bytes(b"")
    order = {
        "blob": str(tmp_path / "blob.npy"),
        "kind": "caffe",
        "path": str(tmp_path / "net.caffemodel"),
        "prototxt": PROTOTXT.replace("dim: 3", "dim: 8"),
    }
    monkeypatch.setattr(sys, "argv", ["child", json.dumps(order)])
    threads = cv2.getNumThreads()
    try:
        exec(compile(parity.ASK_OPENCV, "child", "exec"), {})  # noqa: S102 - as the child does
    finally:
        cv2.setNumThreads(threads)
    answer = json.loads(capsys.readouterr().out)
    assert answer["version"] == cv2.__version__
    means = np.exp(blob.mean(axis=(2, 3)))
    np.testing.assert_allclose(answer["rows"], means / means.sum(axis=1, keepdims=True), rtol=1e-5)
