"""The file of results: one line of JSON per picture, to which an interrupted run is resumed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

from agebench.errors import AgebenchError, UsageError
from agebench.prediction.records import to_line
from agebench.util.files import append_whole, new_beside
from agebench.util.locks import lock_file
from agebench.util.record_fields import Text, Years
from agebench.util.typed_records import read_record
from agebench.vision.faces import PictureStatus


class _Age(TypedDict):
    years: Years | None


class _Face(TypedDict):
    ages: Mapping[str, _Age]
    moved_years: NotRequired[Mapping[str, Any]]


class _Line(TypedDict):
    """What resuming relies on; the rest of a line is not read."""

    picture: Text
    status: NotRequired[PictureStatus]
    reason: NotRequired[str]
    detector: Any
    estimators: Any
    faces: NotRequired[tuple[_Face, ...]]


class LineFile:
    """An open file of results; keeps the names of finished pictures and failures in memory.

    Args:
        path: a new file, or one of an earlier run with the same detector and estimators.  An
            incomplete last line is dropped.
        detector: reference, as in the records.
        estimators: names, as in the records.
        explain: whether the records contain the effect of each view.
        pictures: all names of the run; None: whichever are appended.

    Attributes:
        others: number of lines of earlier runs whose pictures are not among `pictures`.

    Raises:
        UsageError: the file contains something else, or another run's results.
        AgebenchError: it can't be written, or another run is writing it.
    """

    def __init__(
        self,
        path: Path,
        detector: str,
        estimators: tuple[str, ...],
        *,
        explain: bool = False,
        pictures: Iterable[str] | None = None,
    ) -> None:
        self._path = path
        self._explain = explain
        self._made_with = {"detector": detector, "estimators": list(estimators)}
        self._done: set[str] = set()
        self._failed: dict[str, tuple[str, str]] = {}
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise AgebenchError(
                f"{path} can't be written: {error.strerror or error}: name another --out"
            ) from error
        try:
            # Another run may also have replaced the file that was opened above.
            if not (lock_file(self._file) and _is_at(self._file, path)):
                raise AgebenchError(f"another run is writing {path}: wait for it or stop it")
            self._recover(pictures)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: object) -> bool:
        return name in self._done

    def __len__(self) -> int:
        return len(self._done)

    def _cannot_write(self, error: OSError) -> AgebenchError:
        return AgebenchError(
            f"{self._path} can't be written: {error.strerror or error}; finished work is kept: "
            "fix that and run the same command again to resume"
        )

    def _recover(self, pictures: Iterable[str] | None) -> None:
        self._file.seek(0)
        end, cut_off = 0, b""
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                cut_off = line
                break
            self._note(self._checked(line, number))
            end += len(line)
        self.others = 0 if pictures is None else self._count_others(pictures)
        if not cut_off:
            return
        # The incomplete end must be the start of a record: nothing else is ever deleted.
        if end == 0 and not cut_off.startswith(b'{"picture":'[: len(cut_off)]):
            raise self._foreign(1)
        self._file.truncate(end)

    def _count_others(self, pictures: Iterable[str]) -> int:
        others = self._done.difference(pictures)
        if others and len(others) == len(self._done):
            raise UsageError(
                f"{self._path} holds other pictures, such as {min(others)!r}, and none of the "
                "present ones: name another --out, or the pictures by the same paths as before"
            )
        return len(others)

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(line)
            read_record(record, _Line)
        except (ValueError, RecursionError) as error:
            raise self._foreign(number) from error
        faces = record.get("faces", ())
        if any(list(face["ages"]) != record["estimators"] for face in faces):
            raise self._foreign(number)
        if record["picture"] in self._done:
            raise UsageError(
                f"{self._path}, line {number}: expected one line for each picture, found a second "
                f"one for {record['picture']!r}: remove one of them, or name another --out"
            )
        self._refuse_other_run(record, explained={"moved_years" in face for face in faces})
        return record

    def _refuse_other_run(self, record: Mapping[str, Any], explained: Set[bool]) -> None:
        made_with = {key: record[key] for key in self._made_with}
        if made_with != self._made_with:
            raise UsageError(
                f"{self._path} was started with detector {made_with['detector']!r} and estimators "
                f"{made_with['estimators']}, not {self._made_with['detector']!r} and "
                f"{self._made_with['estimators']}: use the same, or another --out"
            )
        if not explained <= {self._explain}:
            mode = "without" if self._explain else "with"
            raise UsageError(
                f"{self._path} was started {mode} --explain: resume {mode} it, or name another "
                "--out"
            )

    def _note(self, record: Mapping[str, Any]) -> None:
        name, status = record["picture"], record.get("status", "ok")
        self._done.add(name)
        if status != "ok":
            self._failed[name] = status, record.get("reason", "")

    def _foreign(self, number: int) -> UsageError:
        return UsageError(
            f"{self._path}, line {number}: expected a line of 'agebench predict --json', found "
            "something else: name another --out"
        )

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one picture's record.

        Raises:
            AgebenchError: the disk is full; what the file held is whole.  Or the file is gone.
        """
        try:
            append_whole(self._file, to_line(record).encode() + b"\n")
        except OSError as error:
            raise self._cannot_write(error) from error
        # Lines written to a deleted file would be lost.
        if not _is_at(self._file, self._path):
            raise AgebenchError(
                f"{self._path} was removed or replaced while it was being written, and its lines "
                "are lost: start again"
            )
        self._note(record)

    def failure(self, name: str) -> tuple[str, str] | None:
        """Return the status and the reason of a picture without an answer; None of all others."""
        return self._failed.get(name)

    def drop(self, names: Iterable[str]) -> None:
        """Remove the lines of pictures that are processed again; the others are unchanged.

        Raises:
            AgebenchError: it can't be written; the file is unchanged.
        """
        dropped = self._done.intersection(names)
        if not dropped:
            return
        try:
            self._replace_without(dropped)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._done -= dropped
        for name in dropped:
            self._failed.pop(name, None)

    def _replace_without(self, dropped: Set[str]) -> None:
        """Replace the old file by a new one, so that a kill leaves one of them complete."""
        target = Path(os.path.realpath(self._path))
        handle, name = new_beside(target)
        os.close(handle)
        new = name.open("a+b")
        try:
            self._file.seek(0)
            kept = (line for line in self._file if json.loads(line)["picture"] not in dropped)
            new.writelines(kept)
            new.flush()
            os.fsync(new.fileno())
            lock_file(new)
            if sys.platform == "win32":  # where no open file can be replaced
                new.close()
                self._file.close()
            name.replace(target)
            if sys.platform == "win32":
                new = target.open("a+b")
                lock_file(new)
        except BaseException:
            new.close()
            name.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file = new


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
