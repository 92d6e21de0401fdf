"""A list of pictures and ages in a CSV file: ``path,age[,identity,group,gender,race,...]``."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from agebench.datasets.base import SampleList, finished
from agebench.datasets.csv_table import Row, read_table
from agebench.datasets.listed import Listed, without_repeats
from agebench.datasets.names import parse_age_label, shown
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import LabelKind, Problem, Sample

SPEC = DatasetSpec(name="csv", label_kind="unknown")

PATH_COLUMNS = ("path", "filename", "file", "image")
"""Headings of the column with the picture's path; the first that is there is taken."""


def load(root: Path, label_kind: LabelKind = "unknown") -> SampleList:
    """List the pictures that a CSV file names.

    The file is UTF-8 (with or without BOM), separated by commas, semicolons or tabs, with a
    heading line.  Needed are ``age`` and one of `PATH_COLUMNS`; ``identity`` is who it is; all
    other columns become attributes.  An age is a number of years or a range (see
    `names.parse_age_label`).  Paths are relative to the CSV file; absolute ones and ``..`` are
    followed, since the list is the user's own.  A sample's name is its path as seen from the
    file's folder.

    Rows that can't be used are listed as problems with their line numbers.  Of rows that repeat
    a picture with the same age the first is kept; if their ages differ none is.

    Args:
        root: the file, or a folder with exactly one file named ``*.csv``.
        label_kind: how the ages came about; only the user can know.

    Raises:
        DatasetError: there is no such file, it is no CSV of this form, or has no usable row.
    """
    file = _csv_file(root)
    headings, rows = read_table(file, (PATH_COLUMNS, ("age",)))
    path_column = next(name for name in PATH_COLUMNS if name in headings)
    problems: list[Problem] = []
    usable: list[Listed] = []
    for row in rows:
        found = _sample(file.parent, path_column, row)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            usable.append(Listed(str(row.line), found))
    samples, repeats = without_repeats(usable)
    return finished(replace(SPEC, label_kind=label_kind), file, samples, problems + repeats)


def _csv_file(root: Path) -> Path:
    wanted = "data set 'csv' needs a CSV file, or a folder with exactly one"
    try:
        if root.is_file():
            return root
        if not root.is_dir():
            what = "is not a regular file" if os.path.lexists(root) else "does not exist"
            raise DatasetError(f"{wanted}, but {str(root)!r} {what}: check the path")
        named = sorted(entry for entry in root.iterdir() if entry.suffix.lower() == ".csv")
        files = [entry for entry in named if entry.is_file()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{wanted}, but {str(root)!r} can't be read: {error}") from error
    if len(files) != 1:
        listed = ", ".join(file.name for file in files[:5]) or "none"
        raise DatasetError(
            f"{wanted}, but {str(root)!r} has {len(files)} ({listed}): name the file itself"
        )
    return files[0]


def _sample(folder: Path, path_column: str, row: Row) -> Sample | Problem:
    cells = dict(row.cells)
    written = cells.pop(path_column, "")

    def problem(reason: str) -> Problem:
        return Problem(written or f"line {row.line}", f"line {row.line}: {reason}")

    if row.surplus:
        return problem(f"{row.surplus} cells more than headings: quote cells with a separator")
    if not written:
        return problem("no path of a picture")
    label = parse_age_label(cells.pop("age", ""))
    if isinstance(label, Problem):
        return problem(label.reason)
    path = folder / written
    if reason := _why_no_file(path):
        return problem(reason)
    return Sample(
        path=path,
        name=_name(folder, path),
        age_years=label.age_years,
        age_range=label.age_range,
        identity=cells.pop("identity", None),
        attributes=cells,
    )


def _why_no_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"no file at {shown(str(path))}"
    except OSError as error:
        return f"{shown(str(path))} can't be reached: {error.strerror}"
    return "" if stat.S_ISREG(mode) else f"{shown(str(path))} is not a regular file: not opened"


def _name(folder: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive there is no relative path
        return path.as_posix()
