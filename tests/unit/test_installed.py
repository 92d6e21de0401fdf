"""Entry points are read once, and again when something is installed or removed."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest

from agebench.registry.installed import entry_points

GROUPS = ("agebench.estimators", "agebench.detectors", "agebench.datasets", "console_scripts")


def _install(folder: Path, name: str) -> Path:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[made.up]\n{name} = {name}:Class\n")
    return info


def _names() -> list[str]:
    return sorted(entry.name for entry in entry_points(group="made.up"))


def test_they_are_those_of_the_standard_library() -> None:
    for group in GROUPS:
        found = entry_points(group=group)
        assert sorted(found) == sorted(metadata.entry_points(group=group))
        assert found
        assert all(entry.dist is not None for entry in found)
    assert entry_points(group="no.such.group") == ()


def test_what_is_installed_and_removed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    _install(second, "there")
    monkeypatch.syspath_prepend(first)
    assert _names() == []
    info = _install(first, "new")
    assert _names() == ["new"]
    monkeypatch.syspath_prepend(second)
    assert _names() == ["new", "there"]
    shutil.rmtree(info)
    assert _names() == ["there"]


def test_the_present_folder_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    _install(tmp_path / "here", "local")
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _names() == []
    monkeypatch.chdir(tmp_path / "here")
    assert _names() == ["local"]


def test_the_present_folder_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert entry_points(group=GROUPS[0])


def test_unchanged_they_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = entry_points(group=GROUPS[0])

    def read_again() -> None:
        raise AssertionError("packages were read again")

    monkeypatch.setattr(metadata, "entry_points", read_again)
    assert entry_points(group=GROUPS[0]) == expected
    assert entry_points(group=GROUPS[1])
