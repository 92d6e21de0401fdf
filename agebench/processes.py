"""Child processes that run nothing out of the current folder.

An interpreter that is started with code (`-c`, which is how `multiprocessing` starts its children)
looks for modules in the current folder first.  That is where people keep their pictures: a file
`pickle.py` among them would be executed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "PYTHONSAFEPATH"
_OURS = "agebench"


@contextmanager
def safe_path() -> Iterator[None]:
    """Start interpreters inside that do not look for modules in the current folder.

    A child that is ours calls `own_path_again`, so that what it starts itself is as elsewhere.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = before or _OURS
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def own_path_again() -> None:
    """Take back, in a child, what `safe_path` set there."""
    if os.environ.get(_VARIABLE) == _OURS:
        del os.environ[_VARIABLE]


def leave_current_folder(package: Path) -> None:
    """Take the current folder off the path where `python -m` put it.

    Args:
        package: the folder of the package that runs; where it was found in the current folder
            itself, as in a checkout, that stays.
    """
    if sys.flags.safe_path or not sys.path:
        return
    first = Path(sys.path[0] or ".").resolve()
    if first == Path.cwd().resolve() and first != package.resolve().parent:
        del sys.path[0]
