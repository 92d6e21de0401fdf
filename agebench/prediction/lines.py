"""The file of results: one line of JSON per picture, which a killed run goes on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from agebench.errors import AgebenchError, UsageError
from agebench.files import append_whole, lock_file
from agebench.prediction.records import to_line


class LineFile:
    """An open file of results; in memory there are only the names of the finished pictures.

    Args:
        path: a new file, or one that a run with the same detector and estimators began.  What a
            kill left of a line is dropped.
        detector: reference, as in the records.
        estimators: names, as in the records.

    Raises:
        UsageError: the file holds something else, or another run's results.
        AgebenchError: it can't be written, or another run is writing it.
    """

    def __init__(self, path: Path, detector: str, estimators: tuple[str, ...]) -> None:
        self._path = path
        self._made_with = {"detector": detector, "estimators": list(estimators)}
        self._done: set[str] = set()
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            if not lock_file(self._file):
                raise AgebenchError(f"another run is writing {path}: wait for it or stop it")
            self._recover()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> LineFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __contains__(self, name: object) -> bool:
        return name in self._done

    def __len__(self) -> int:
        return len(self._done)

    def _cannot_write(self, error: OSError) -> AgebenchError:
        return AgebenchError(
            f"{self._path} can't be written: {error.strerror or error}; what is done is kept: mend "
            "that and start the same command again to go on"
        )

    def _recover(self) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            self._done.add(self._checked(line, number))
            end += len(line)
        else:
            return
        # What is cut off must be the start of a record: nothing else is ever thrown away.
        if end == 0 and not line.startswith(b'{"picture":'[: len(line)]):
            raise self._foreign(1)
        self._file.truncate(end)

    def _checked(self, line: bytes, number: int) -> str:
        try:
            record = json.loads(line)
            name, made_with = record["picture"], {key: record[key] for key in self._made_with}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._foreign(number) from error
        if made_with != self._made_with:
            raise UsageError(
                f"{self._path} was begun with detector {made_with['detector']!r} and estimators "
                f"{made_with['estimators']}, not {self._made_with['detector']!r} and "
                f"{self._made_with['estimators']}: name the same, or another --out"
            )
        return str(name)

    def _foreign(self, number: int) -> UsageError:
        return UsageError(
            f"{self._path}, line {number}: expected a line of 'agebench predict --json', found "
            "something else: name another --out"
        )

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one picture's record.

        Raises:
            AgebenchError: the disk is full; what the file held is whole.
        """
        try:
            append_whole(self._file, to_line(record).encode() + b"\n")
        except OSError as error:
            raise self._cannot_write(error) from error
        self._done.add(record["picture"])
