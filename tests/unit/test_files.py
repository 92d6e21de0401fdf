"""Files that are read and written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from agebench.errors import AgebenchError
from agebench.files import lock_file, read_whole, write_whole


def test_what_was_written_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_whole(file, b"12345")
    assert read_whole(file, "a thing", 5) == b"12345"
    with pytest.raises(AgebenchError, match="more than 4 bytes, too many for a thing"):
        read_whole(file, "a thing", 4)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(AgebenchError, match=r"there is no file .*, expected a thing: check"):
        read_whole(tmp_path / name, "a thing", 5)


def test_a_file_that_may_not_be_read_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "a"
    file.touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(AgebenchError, match=r"can't be read: .*Permission denied"):
        read_whole(file, "a thing", 5)


def test_a_locked_file_is_not_locked_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as first, path.open("ab") as second:
        assert lock_file(first)
        assert not lock_file(second)
    with path.open("ab") as third:
        assert lock_file(third)
