"""The commands of docs/tutorials.md, typed one after the other; the action and the container."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agebench.cli.main import main
from tests.unit.test_readme_commands import _composites, _spec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
SHORTER = {"compare": "--latency-pictures 1"}


def _sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _commands(section: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("agebench ") for line in lines if line.startswith("agebench ")]


@pytest.mark.slow
@pytest.mark.usefixtures("short_warm_up", "undrawn")
@pytest.mark.parametrize("title", list(_sections()))
def test_a_tutorial_runs(
    title: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    section = _sections()[title]
    _composites(tmp_path)
    _spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    for settings in re.findall(r"^```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        (tmp_path / "mine.toml").write_text(settings, encoding="utf-8")
    commands = _commands(section)
    assert commands
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(f"{command} {SHORTER.get(command.split()[0], '')}"))
        said = capsys.readouterr()
        # A network of random numbers answers at random, which check-spec says.
        allowed = (0, 1) if command.startswith("check-spec") else (0,)
        assert end.value.code in allowed, f"agebench {command}\n{said.err}"
        assert "Traceback" not in said.err


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    content: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return content


@pytest.mark.extra
def test_the_action_is_whole_and_its_example_fits(action: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    assert action["runs"]["using"] == "composite"
    run = action["runs"]["steps"][-1]
    script = (ROOT / ".ci" / "compare").read_text(encoding="utf-8")
    read = {name.upper() for name in re.search(r"for option in ([\w ]+);", script)[1].split()}  # type: ignore[index]
    assert set(run["env"]) == read | {"ESTIMATORS", "FAIL_IF"}
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(action)))
    assert used == set(action["inputs"])
    assert all(item["description"] for item in action["inputs"].values())
    # An input goes into a shell by the environment alone: in the text it would be code.
    assert not any("${{" in step.get("run", "") for step in action["runs"]["steps"])
    (example,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (given,) = (
        step["with"]
        for step in yaml.safe_load(example)["jobs"]["ages"]["steps"]
        if "agebench" in step["uses"]
    )
    assert set(given) <= set(action["inputs"])


def test_the_action_types_what_it_was_given(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash, which is not installed")
    stub = tmp_path / "bin" / "agebench"
    stub.parent.mkdir()
    stub.write_text(
        '#!/bin/sh\nfor word in "$@"; do echo "$word"; done >> "$SEEN"; echo . >> "$SEEN"\n'
        'if [ "$1" = compare ]; then mkdir -p out; echo {} > out/result.json; exit 1; fi\n'
        "echo tables > out/report.md\n"
    )
    stub.chmod(0o755)
    given = {
        "ESTIMATORS": "onnx:my model.onnx size=112\n\nconstant\n",
        "FAIL_IF": "mae>6\n$(touch pwned)\n",
        "DATASET": "csv label_kind=birth-age",
        "DETECTOR": "",
        "OUT": "out",
        "SEEN": str(tmp_path / "seen"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = ROOT / ".ci" / "compare"
    done = subprocess.run(  # noqa: S603 - our own script
        [bash, str(script)], cwd=tmp_path, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr  # the gate's
    assert (tmp_path / "seen").read_text().splitlines() == [
        "compare",
        "onnx:my model.onnx size=112",
        "constant",
        "--fail-if=mae>6",
        "--fail-if=$(touch pwned)",
        "--dataset=csv label_kind=birth-age",
        "--out=out",
        ".",
        *("report", "out", "--format", "md", "."),
    ]
    assert (tmp_path / "summary").read_text() == "tables\n"
    assert not (tmp_path / "pwned").exists()


def test_a_container_may_write_where_it_is_told_to() -> None:
    """The image's own user, 1000, is seldom the owner of the folder that is put in its /work."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    calls = re.findall(r"docker run [^\n]*", dockerfile + PAGE)
    assert len(calls) == 2
    assert all('--user "$(id -u):$(id -g)" -v "$PWD:/work"' in call for call in calls)
    assert "chmod 1777 /cache" in dockerfile  # whoever it is keeps files there


def test_the_dockerfile_has_nothing_to_be_linted() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint, which is not installed")
    done = subprocess.run(  # noqa: S603 - the linter that was found
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
