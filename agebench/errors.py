"""Every error that agebench raises on purpose.

One root class, so that a caller can catch them all and the command line can turn them into one
sentence.  A message says what was expected, what was got, where, and what to do about it.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class AgebenchError(Exception):
    """Root of all errors raised on purpose; the command line exits with `exit_code`."""

    exit_code = 1


class UsageError(AgebenchError):
    """The call itself is wrong (unknown name, impossible option): exit code 2."""

    exit_code = 2


class MissingDependencyError(AgebenchError):
    """A library that this step needs can't be imported; the message says what to install."""


class ImageError(AgebenchError):
    """A picture can't be read: not a picture, truncated, too large, not a regular file."""


class DatasetError(AgebenchError):
    """A data set's folder or list is missing, empty or malformed as a whole."""


class WeightsError(AgebenchError):
    """A model file is wrong: other size or hash than the manifest says, or no model at all."""


class WeightsUnavailableError(WeightsError):
    """A model file is nowhere to be had; the message lists where it was looked for."""


class ModelError(AgebenchError):
    """A model file can't be loaded, or answers with something other than its spec says."""


class DeviceError(AgebenchError):
    """The runtime or device that was asked for is not what would run."""


class ContractError(AgebenchError):
    """An estimator or detector breaks a promise of its protocol."""


class RunEndsError(AgebenchError):
    """A run over many pictures can't go on, though it was met at one: none is to blame."""


def error_text(error: BaseException) -> str:
    """Return what an error says; of one that agebench did not raise on purpose also its kind.

    >>> error_text(UsageError("no name")), error_text(KeyError("name"))
    ('no name', "KeyError: 'name'")
    """
    try:
        message = str(error)
    except Exception:  # a stranger's exception may fail at that too
        message = "(its message can't be made)"
    return message if isinstance(error, AgebenchError) else f"{type(error).__name__}: {message}"


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C (or other signal) that an error came from, if any.

    Compiled code turns it into an error of its own: a module that is loaded just then fails with
    ``ImportError: initialization failed``.

    >>> error = ImportError("initialization failed")
    >>> error.__cause__ = KeyboardInterrupt()
    >>> interruption(error), interruption(ImportError("no module"))
    (KeyboardInterrupt(), None)
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, KeyboardInterrupt):
            return link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` did you mean X?`` for near matches of `name`, or the list of what is known.

    >>> suggestion("yolov8-fase", ["yolov8-face", "haar"])
    "did you mean 'yolov8-face'?"
    >>> suggestion("zzz", ["b", "a"])
    'known: a, b'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(match) for match in near) + "?"
    return "known: " + (", ".join(names) or "none")


_ACTIVE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def inert(text: str, *, lines: bool = False) -> str:
    r"""Return `text` with what a terminal would act on written as escapes.

    File names may hold line ends, colour codes or what sets a window's title.  Control and format
    characters (those that turn the direction of text among them) are replaced, line separators
    too; all else is left, spaces of any width included.

    Args:
        text: what is to be shown.
        lines: keep line feeds, in a message of several lines.

    >>> inert("a\x1b[31m\n\u202eb é")
    'a\\x1b[31m\\n\\u202eb é'
    >>> inert("a\nb\r", lines=True)
    'a\nb\\r'
    """
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _ACTIVE and not (lines and letter == "\n")
        else letter
        for letter in text
    )
