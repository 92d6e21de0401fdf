"""Options that were called otherwise before: taken as they were, and said on stderr."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from agebench.cli.compare import command as compare
from agebench.cli.doctor import command as doctor
from agebench.cli.options import former_name
from agebench.cli.predict import command as predict
from agebench.errors import UsageError

RENAMED = [
    (predict, "--workers", "--processes"),
    (compare, "--workers", "--decode-threads"),
    (compare, "--latency-images", "--latency-pictures"),
    (doctor, "--workers", "--decode-threads"),
]


@click.command()
@click.option("--processes", type=click.IntRange(1, 8), default=1)
@former_name("--workers", "--processes")
def tried(**options: Any) -> None:
    """Print what it was given."""
    click.echo(json.dumps(options))


def _call(*words: str, command: click.Command = tried, **more: Any) -> Result:
    return CliRunner().invoke(command, words, **more)


def test_the_earlier_name_is_taken_and_said() -> None:
    old, new, none = _call("--workers", "3"), _call("--processes", "3"), _call()
    assert json.loads(old.stdout) == json.loads(new.stdout) == {"processes": 3}
    assert old.stderr == "agebench: --workers is now called --processes\n"
    assert new.stderr == none.stderr == ""
    assert json.loads(none.stdout) == {"processes": 1}


def test_it_is_checked_as_the_present_one() -> None:
    refused = _call("--workers", "9")
    assert refused.exit_code == 2
    assert "1<=x<=8" in refused.output


def test_both_names_are_refused() -> None:
    refused = _call("--workers", "2", "--processes", "2")
    assert isinstance(refused.exception, UsageError)
    assert "--workers is the earlier name of --processes" in str(refused.exception)


def test_the_command_line_goes_before_an_earlier_name_in_a_file() -> None:
    told = {"former_workers": 4}
    assert json.loads(_call(default_map=told).stdout) == {"processes": 4}
    assert json.loads(_call("--processes", "2", default_map=told).stdout) == {"processes": 2}


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_help_and_completion_have_the_present_name_alone(
    command: click.Command, old: str, new: str
) -> None:
    context = click.Context(command, info_name="x")
    offered = {item.value for item in command.shell_complete(context, "--")}
    assert new in offered
    assert old not in offered
    shown = _call("--help-all" if command is not doctor else "--help", command=command)
    assert new in shown.stdout
    assert old not in shown.stdout


def test_a_run_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'estimators = ["constant"]\ndataset = "sample"\nworkers = 0\nlimit = 2\n'
        "latency-images = 3\n"
    )
    out = tmp_path / "out"
    done = _call("--config", str(file), "--out", str(out), "--no-report", command=compare)
    assert done.exception is None
    assert "agebench: --workers is now called --decode-threads" in done.stderr
    assert "agebench: --latency-images is now called --latency-pictures" in done.stderr
    settings = json.loads((out / "result.json").read_text())["settings"]
    assert (settings["decode_threads"], settings["latency_pictures"]) == (0, 3)
    written = (out / "run.toml").read_text()
    assert "decode-threads = 0" in written
    assert "latency-pictures = 3" in written
    assert not {"workers", "latency-images"} & set(re.findall(r"^([a-z-]+) =", written, re.M))
