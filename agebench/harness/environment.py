"""The environment that figures depend on: versions, processor, memory, threads."""

from __future__ import annotations

import datetime as dt
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from agebench.util.private_paths import without_folders
from agebench.util.process_pool import usable_cores

_PACKAGES = (
    "agebench",
    "numpy",
    "onnxruntime-gpu",
    "onnxruntime",
    "opencv-contrib-python",
    "torch",
)


@cache  # what was imported stays what it is, and reading takes longer than a small comparison
def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def describe_machine() -> Mapping[str, Any]:
    """Return Python's version, the system and the machine as JSON-compatible values."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def describe_environment() -> Mapping[str, Any]:
    """Return versions, the system and the machine as JSON-compatible values.

    Raises:
        MissingDependencyError: OpenCV can't be imported.
    """
    from agebench.vision.opencv import cv2

    machine = describe_machine()
    return {**machine, "opencv_threads": cv2.getNumThreads(), "packages": {**_installed()}}


def describe_call() -> dict[str, Any]:
    """Return time, command and environment of a measurement as JSON-compatible values.

    Absolute paths in the command are reduced to their last part: see `agebench.util.private_paths`.

    Raises:
        MissingDependencyError: OpenCV can't be imported.
    """
    return {
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": [without_folders(argument) for argument in sys.argv],
        "environment": describe_environment(),
    }
