"""What is passed on or printed names neither secrets nor places of this machine."""

from __future__ import annotations

import runpy
import sys
from itertools import islice
from pathlib import Path

import pytest

from agebench.cli.main import main
from agebench.harness.environment import describe_call
from agebench.modelfiles import weights
from agebench.modelfiles.downloads import SourceError, download, shown_url
from agebench.modelfiles.transfers import _without_addresses, check_url
from agebench.types import Sample
from agebench.util.private_paths import without_home
from agebench.vision.decoding import decode_sample

SECRET = "s3cret"  # noqa: S105 - what must not be seen

ADDRESSES = [
    f"http://user:{SECRET}@127.0.0.1:1/x",
    f"http://user:{SECRET}@[::1/x",
    f"http://user:{SECRET}@127.0.0.1:99999/x",
    f"http://user:{SECRET}@/x",
    f"http://user:pass/{SECRET}@127.0.0.1:1/x",
    f"http://127.0.0.1:1/x?token={SECRET}",
    f"http://127.0.0.1:1/x#{SECRET}",
    f"https://user:{SECRET}@127.0.0.1:port/x",
    f"ftp://user:{SECRET}@127.0.0.1/x",
    f"s3://user:{SECRET}@bucket",
    f"http:/user:{SECRET}@127.0.0.1/x",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_mirror_is_printed_with_its_secret(
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AGEBENCH_MIRROR", address)
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path))
    sources = weights._sources
    monkeypatch.setattr(weights, "_sources", lambda entry: islice(sources(entry), 1))
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "face_detection_yunet_2023mar.onnx"])
    said = capsys.readouterr()
    assert ended.value.code in {1, 2}
    assert SECRET not in said.out + said.err
    assert "Traceback" not in said.err
    assert said.err.startswith("agebench: ")


@pytest.mark.parametrize("address", ADDRESSES[1:4])
def test_a_malformed_address_is_said_to_be_one(address: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="malformed"):
        download(address, tmp_path / "x", 1, "0" * 64)
    assert SECRET not in shown_url(address)


def test_what_libraries_say_loses_its_addresses() -> None:
    said = _without_addresses(
        ValueError(f"Failed to parse: http://u:{SECRET}@h/p, Max retries with url: /p?t=1")
    )
    assert said == "Failed to parse: ... Max retries with ..."
    check_url("https://example.org:443/models")


def test_commands_hold_no_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/home/me/venv/bin/agebench", "compare", "onnx:/home/me/a.onnx", "--root", "sets/x"]
    monkeypatch.setattr(sys, "argv", words)
    assert describe_call()["command"] == ["agebench", "compare", "onnx:a.onnx", "--root", "sets/x"]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_module_is_recorded_as_the_command_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/agebench/__main__.py", "--version"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit):
        runpy.run_module("agebench", run_name="__main__")
    assert describe_call()["command"] == ["agebench", "--version"]


def test_reasons_name_the_picture_and_not_its_place(tmp_path: Path) -> None:
    answer = decode_sample(Sample(tmp_path / "a.jpg", "set/a.jpg", 30.0), 100)
    assert answer.reason == "can't be read: No such file or directory"


def test_only_the_home_folder_itself_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert without_home("/home/me/x, /home/meg/y, /home/me") == "~/x, /home/meg/y, ~"
