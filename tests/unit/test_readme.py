"""What README.md shows is run."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, astronaut_bgr: np.ndarray) -> None:
    PillowImage.fromarray(astronaut_bgr[:, :, ::-1]).save(tmp_path / "a.png")
    (tmp_path / "my.csv").write_text("path,age\na.png,36\n")
    (code,) = _blocks("python")
    done = subprocess.run(  # noqa: S603 - our own example
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) < 60


def test_ci_runs_what_the_documents_say() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for file, name in re.findall(r'"(\S+\.md) (\w+)"', script):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"<!-- run: {name} -->\n```sh\n.+\n```", text), f"{file}: {name}"


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_between_documents_lead_somewhere(file: str) -> None:
    page = ROOT / file
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{file} points to {target}"


def test_every_verb_in_the_documents_exists() -> None:
    from agebench.cli.main import VERBS

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for verb in re.findall(r"^\s*agebench ([a-z][a-z-]*)", page.read_text(), re.MULTILINE):
            assert verb in VERBS, f"{page.name} shows 'agebench {verb}'"


def test_the_architecture_names_every_room_and_dependency() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.name + "/" for path in (ROOT / "agebench").iterdir() if path.is_dir()}
    rooms |= {path.name for path in (ROOT / "agebench").glob("*.py")}
    rooms -= {"__init__.py", "__pycache__/"}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    wanted = {re.split(r"[^\w-]", line)[0] for line in "\n".join(lines).split("\n") if line.strip()}
    reasons = text.partition("## Dependencies and their reasons")[2]
    named = set(re.findall(r"[\w-]+", reasons))
    assert wanted - named - {"agebench"} == set()
