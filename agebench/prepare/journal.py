"""The journal: one line per finished picture, so that a killed run can be resumed.

Its first line identifies the run.  Lines are only appended; an incomplete last line is dropped when
the journal is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agebench.prepare.records import PictureRecord
from agebench.prepare.store import cannot_write
from agebench.util.files import append_whole

JOURNAL_FILE = "journal.jsonl"


def read_header(path: Path) -> Mapping[str, Any] | None:
    """Return the identity of the journal's run; None if there is none or the line is incomplete."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        header = json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


class Journal:
    """An open journal; only the position of each picture's line is kept in memory."""

    def __init__(self, path: Path, header: Mapping[str, Any], out: Path) -> None:
        """Resume the journal at `path`, or start one.

        Pictures whose files do not exist below `out` with the recorded size are forgotten.

        Raises:
            AgebenchError: it can't be written.
        """
        self._path = path
        self._out = out
        self._offsets: dict[str, int] = {}
        with self._sentence():
            if read_header(path) is None:
                first_line = json.dumps(header, allow_nan=False) + "\n"
                temporary = path.with_suffix(".tmp")
                temporary.write_text(first_line, encoding="utf-8")
                temporary.replace(path)
            self._file = path.open("a+b")
            self._recover()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing is buffered, so closing can't fail.
        with suppress(OSError):
            self._file.close()

    def __contains__(self, source: object) -> bool:
        return source in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    @contextmanager
    def _sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _recover(self) -> None:
        self._file.seek(0)
        end = len(self._file.readline())
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                record = PictureRecord.from_line(line)
            except ValueError:
                record = None
            if record is not None and self._is_whole(record):
                self._offsets[record.source] = end
            end += len(line)
        self._file.truncate(end)
        self._end = end

    def _is_whole(self, record: PictureRecord) -> bool:
        """Return whether a picture's files exist; a power failure may have emptied them."""
        try:
            return all(
                os.stat(self._out / name).st_size == size  # noqa: PTH116 - six per picture
                for name, size in record.sizes.items()
            )
        except OSError:
            return False

    def append(self, source: str, line: str) -> None:
        """Add a finished picture.

        Raises:
            AgebenchError: the disk is full.
        """
        data = line.encode() + b"\n"
        with self._sentence():
            append_whole(self._file, data)
        self._offsets[source] = self._end
        self._end += len(data)

    def read(self, source: str) -> PictureRecord:
        """Return a picture's record."""
        with self._sentence():
            self._file.seek(self._offsets[source])
            return PictureRecord.from_line(self._file.readline())
