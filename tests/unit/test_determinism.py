"""The same command gives the same bytes; other numbers of threads and faces per call the same ages.

The commands run in processes of their own, with the weights and pictures that come with the
package.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agebench.modelfiles.manifest import bundled_dir

TOLERANCE_YEARS = 1e-3
"""Between numbers of threads and of faces per call, as docs/measuring.md has it."""

ESTIMATORS = (
    "multicrop-resnet",
    "caffe-age-net-utkface",
    "caffe-age-net-utkface@onnxruntime",
    "constant",
)
PICTURES = 8
AGE = "predicted_years"
"""The column that may differ within the tolerance; no other one may."""


def run(out: Path, *words: str) -> bytes:
    """Compare on a few pictures and return predictions.csv."""
    command = [sys.executable, "-m", "agebench", "compare", *ESTIMATORS]
    # A detector that looks for faces, so that it is put to the test too.
    command += ["--dataset", "sample", "--limit", str(PICTURES), "--detector", "haar"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    ended = subprocess.run(  # noqa: S603 - this interpreter
        [*command, "--latency-pictures", "0", "--out", str(out), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return (out / "predictions.csv").read_bytes()


def rows(table: bytes) -> list[dict[str, str]]:
    found = list(csv.DictReader(table.decode().splitlines()))
    assert len(found) == PICTURES * len(ESTIMATORS)
    assert sum(row["status"] == "ok" for row in found) > len(found) / 2
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of a run in one thread."""
    if not (bundled_dir() / "multicrop-resnet.onnx").is_file():
        pytest.skip("needs the weights that come with the package")
    return run(tmp_path_factory.mktemp("first"), "--threads", "1")


def test_the_same_command_gives_the_same_bytes(first: bytes, tmp_path: Path) -> None:
    assert run(tmp_path, "--threads", "1") == first
    assert rows(first)


def test_threads_and_batches_change_no_age(first: bytes, tmp_path: Path) -> None:
    words = ("--threads", "2", "--batch-size", "3", "--decode-threads", "0")
    for one, two in zip(rows(first), rows(run(tmp_path, *words)), strict=True):
        ages = one.pop(AGE), two.pop(AGE)
        assert two == one
        if one["status"] == "ok":
            assert float(ages[1]) == pytest.approx(float(ages[0]), abs=TOLERANCE_YEARS)
