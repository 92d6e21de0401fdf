"""Caffe's files that the tests need and agebench itself never writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from agebench.runtimes.caffe_schema import BlobProto


def write_mean(path: Path, mean_bgr: npt.ArrayLike) -> None:
    """Write a mean.binaryproto of shape (3, 256, 256), laid out as the published one."""
    mean = np.asarray(mean_bgr, "<f4")
    channels, height, width = mean.shape
    blob = BlobProto(num=1, channels=channels, height=height, width=width, data=[mean.tobytes()])
    path.write_bytes(blob.SerializeToString())
