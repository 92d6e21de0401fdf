"""The example of a package that adds to agebench: installed as it stands, found, and whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "example_plugin"

CHECK = """
from agebench import load_detector, load_estimator
from agebench.testing import check_detector, check_estimator

check_estimator(load_estimator("example-contrast spread=4"))
check_detector(load_detector("example-middle share=0.5"))
print(load_estimator("example-contrast spread=4").spec.settings["spread"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into; no network is needed."""
    pytest.importorskip("setuptools")  # the build must find it here: nothing is downloaded
    source = tmp_path_factory.mktemp("source") / "example_plugin"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__py*"))
    target = tmp_path_factory.mktemp("target")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(  # noqa: S603 - our own package
        [sys.executable, "-m", "pip", *words, "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def _python(installed: Path, *words: str, folder: Path | None = None) -> str:
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder or installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "name"), [("estimators", "example-contrast"), ("detectors", "example-middle")]
)
def test_it_is_listed(installed: Path, kind: str, name: str) -> None:
    listed = json.loads(_python(installed, "-m", "agebench", "ls", kind, "--json"))[kind]
    (row,) = [row for row in listed if row["name"] == name]
    assert (row["package"], row["version"]) == ("agebench-example-plugin", "1.0.0")


def test_it_keeps_the_promises_of_the_interface(installed: Path) -> None:
    assert _python(installed, "-c", CHECK).strip() == "4.0"


def test_it_can_be_compared(installed: Path, tmp_path: Path) -> None:
    words = ["compare", "example-contrast", "constant", "--detector", "example-middle"]
    out = _python(installed, "-m", "agebench", *words, "--limit", "6", "--json", folder=tmp_path)
    first, second = json.loads(out)["estimators"]
    assert (first["name"], second["name"]) == ("example-contrast", "constant")
    assert first["spec"]["settings"] == {"spread": 8.0}
    assert first["scored"] == 6


def test_its_options_come_from_its_signature(installed: Path) -> None:
    code = (
        "from agebench import load_estimator\n"
        "from agebench.errors import UsageError\n"
        "for wrong in ('spread=99', 'spraed=3'):\n"
        "    try: load_estimator('example-contrast ' + wrong)\n"
        "    except UsageError as error: print(error)\n"
    )
    first, second = _python(installed, "-c", code).splitlines()
    assert "spread must be 0.5..30 years, got 99" in first
    assert "did you mean 'spread'?" in second
