"""Locks on files and folders."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

import pytest

from agebench.errors import AgebenchError
from agebench.util.locks import alone_in, lock_file


def test_a_locked_file_is_not_locked_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as first, path.open("ab") as second:
        assert lock_file(first)
        assert not lock_file(second)
    with path.open("ab") as third:
        assert lock_file(third)


def test_a_system_without_locks_is_not_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: IO[bytes], _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = r"can't be locked .*use a disk that supports locks"
    with (tmp_path / "lock").open("wb") as file, pytest.raises(AgebenchError, match=told):
        lock_file(file)


def test_one_run_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    told = "another run is at work in"
    with alone_in(tmp_path), pytest.raises(AgebenchError, match=told), alone_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    with alone_in(tmp_path):
        pass
