"""Files that are read and written whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.util.files import (
    append_whole,
    check_target,
    gone_if_empty,
    make_folder,
    read_whole,
    write_together,
    write_whole,
)


def test_a_folder_is_made_with_those_above_it_or_a_sentence_says_why_not(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", "it")
    make_folder(tmp_path / "a" / "b", "it")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "c", tmp_path / "a\0b"):
        with pytest.raises(AgebenchError, match=r"^it can't be created: [^:]+: name another$"):
            make_folder(wrong, "it", "name another")
        with pytest.raises(AgebenchError, match=r"^it can't be created: [^:]+$"):
            make_folder(wrong, "it")
    with pytest.raises(UsageError, match="expected a folder, got a file"):
        make_folder(tmp_path / "file", "it")


def test_what_was_written_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_whole(file, b"12345")
    assert read_whole(file, "a thing", 5) == b"12345"
    with pytest.raises(AgebenchError, match=r"4 bytes.*a thing"):
        read_whole(file, "a thing", 4)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(AgebenchError, match=r"there is no file .*, expected a thing: check"):
        read_whole(tmp_path / name, "a thing", 5)


def test_a_file_that_may_not_be_read_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "a"
    file.touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AgebenchError, match=r"can't be read: .*Permission denied"):
        read_whole(file, "a thing", 5)


def test_what_is_appended_is_there_at_once_and_behind_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n")
    with path.open("a+b") as file:
        file.seek(0)  # as a reader does that looks for what is done
        append_whole(file, b"two\n")
        append_whole(file, b"")
        assert path.read_bytes() == b"one\ntwo\n"
        append_whole(file, b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def _disk_with_room_for(count: int) -> Callable[[int, bytes], int]:
    """Return an `os.write` for a disk that takes `count` bytes, a few at a time, no more."""
    write, left = os.write, [count]

    def some(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[: min(3, left[0])])
        left[0] -= written
        return written

    return some


@pytest.mark.parametrize("room", [0, 1, 5, 9])
def test_a_disk_that_fills_up_in_a_line_has_the_lines_before_it(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"whole\n")
    with path.open("ab") as file:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", _disk_with_room_for(room))
            with pytest.raises(OSError, match="No space left"):
                append_whole(file, b"a long line\n"[: room + 1])
        assert path.read_bytes() == b"whole\n"
        append_whole(file, b"next\n")
    # Closing wrote nothing of what was refused.
    assert path.read_bytes() == b"whole\nnext\n"


def test_a_line_in_several_writes_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    monkeypatch.setattr(os, "write", _disk_with_room_for(100))
    with path.open("ab") as file:
        append_whole(file, b"a long line\n")
    assert path.read_bytes() == b"a long line\n"


def test_an_interrupted_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"whole\n")
    write = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        if len(data) < 6:
            raise KeyboardInterrupt
        return write(descriptor, data[:4])

    with path.open("ab") as file:
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            append_whole(file, b"a line\n")
    assert path.read_bytes() == b"whole\n"


def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgebenchError, match="can't be written: No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def _fail_in(folder: Path, file: str) -> None:
    with gone_if_empty(folder):
        folder.mkdir(exist_ok=True)
        if file:
            (folder / file).write_text("x")
        raise ValueError("for nothing")


def test_a_new_folder_goes_again_where_nothing_came_of_it(tmp_path: Path) -> None:
    there, new, kept = (tmp_path / name for name in ("there", "new", "kept"))
    there.mkdir()
    for folder in (there, new, kept):
        with pytest.raises(ValueError, match="for nothing"):
            _fail_in(folder, "file" if folder == kept else "")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "kept"}
    with gone_if_empty(new):
        new.mkdir()
    assert new.is_dir()


@pytest.mark.parametrize(("umask", "after"), [(0o77, 0o600), (0o22, 0o644)])
def test_permissions_are_those_that_the_user_gives_files(
    umask: int, after: int, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    old = os.umask(umask)
    try:
        write_whole(path, "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == after


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o600)
    write_whole(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "\u00e9" * 127):
        write_whole(tmp_path / name, "x")
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_belong_together_change_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_together([(one, "old"), (two, "old")])
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgebenchError, match=r"two.*No space left"):
        write_together([(one, "new"), (two, "new")])
    assert (one.read_text(), two.read_text()) == ("old", "old")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").touch()
    with pytest.raises(AgebenchError, match=r"the folder .*list\.csv is a file"):
        check_target(tmp_path / "list.csv" / "a.onnx")
    with pytest.raises(AgebenchError, match=r"does not exist: create it"):
        check_target(tmp_path / "none" / "a.onnx")
