"""Errors of public models through their spec files, on a few faces, under both runtimes.

A small part of benchmarks/zoo.py, which measures whole sets: a crop, a channel order, a part of an
output or a converter that is not the model's any more moves these figures by years.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from agebench import load_dataset, load_estimator
from agebench.datasets.base import SampleList, sample
from agebench.modelfiles.manifest import Need, load_manifest
from agebench.modelfiles.weights import is_here
from benchmarks.zoo import Faces, find_faces, measure

PICTURES = 24

MAE_YEARS = {
    "dlib-age-v1": (2.028, 4.557),
    "ssr-net-wiki": (7.451, 10.912),
    "ssr-net-imdb": (7.955, 13.03),
    "ssr-net-morph2": (13.326, 15.637),
    "insightface-2018": (10.958, 5.958),
    "face-api-js": (5.328, 5.602),
    "hse-mobilenet": (7.196, 5.147),
    "caffe-age-net": (10.639, 12.728),
    "yu4u-wide-resnet": (7.44, 10.117),
    "multicrop-resnet": (6.333, 3.542),
}
"""On 24 pictures of FG-NET's subjects 1 to 20 and on 24 chips of UTKFace, drawn by seed 0."""


@cache
def on_fgnet(root: Path) -> Faces:
    return find_faces(sample(load_dataset("fgnet", root), PICTURES, 0), "yolov8-face@onnxruntime")


def files_of(name: str) -> list[str]:
    needed = Need(f"estimator:{name}")
    return [entry.file for entry in load_manifest().values() if needed in entry.needs]


@pytest.mark.shared
@pytest.mark.parametrize("name", MAE_YEARS)
def test_errors_on_a_few_faces(name: str, shared_weights: Path, utkface_chips: SampleList) -> None:
    lacking = [file for file in files_of(name) if not is_here(file)]
    if lacking:  # which loading it would fetch
        pytest.skip(f"{', '.join(lacking)} is not in {shared_weights}")
    found = (
        on_fgnet(shared_weights.parent / "data" / "fgnet"),
        find_faces(sample(utkface_chips, PICTURES, 0), "aligned"),
    )
    # hse-mobilenet is a TensorFlow graph, which ONNX Runtime does not read.
    for runtime in ("cv2dnn",) if name == "hse-mobilenet" else ("cv2dnn", "onnxruntime"):
        estimator = load_estimator(f"{name}@{runtime}")
        got = [measure(estimator, faces)["mae_years"] for faces in found]
        assert got == pytest.approx(MAE_YEARS[name], abs=0.02), runtime
