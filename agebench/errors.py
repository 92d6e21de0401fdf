"""Every error that agebench raises on purpose.

They have one root class, so that callers can catch them all and the command line can print them as
one sentence.  A message says what was expected, what was found, where, and what to do about it.
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
    """A library that this step needs can't be imported; the message says how to install it."""


class ImageError(AgebenchError):
    """A picture can't be read: not a picture, truncated, too large, not a regular file."""


class DatasetError(AgebenchError):
    """A data set's folder or list is missing, empty or malformed as a whole."""


class WeightsError(AgebenchError):
    """A model file has a different size or hash than in the manifest, or is not a model."""


class WeightsUnavailableError(WeightsError):
    """A model file is not available; the message lists the places that were searched."""


class ModelError(AgebenchError):
    """A model file can't be loaded, or its output does not match its spec."""


class DeviceError(AgebenchError):
    """The requested runtime or device can't be used."""


class ContractError(AgebenchError):
    """An estimator or detector violates its protocol."""


class RunEndsError(AgebenchError):
    """A run over many pictures can't continue, for a reason that is not in the current picture."""


def error_text(error: BaseException) -> str:
    """Return an error's message, preceded by its type unless it is an `AgebenchError`.

    >>> error_text(UsageError("no name")), error_text(KeyError("name"))
    ('no name', "KeyError: 'name'")
    """
    try:
        message = str(error)
    except Exception:  # `__str__` of a third-party exception may fail
        message = "(its message is not available)"
    return message if isinstance(error, AgebenchError) else f"{type(error).__name__}: {message}"


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C (or other signal) that caused an error, if any.

    Compiled code may turn it into a different error: a module that is being loaded fails with
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
    """Return "did you mean X?" if there are near matches of `name`, otherwise the known names.

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
    r"""Return `text` with characters that control a terminal replaced by escapes.

    File names may contain line breaks, colour codes or codes that set a window's title.  Control
    characters, format characters (including those that change the direction of text) and line
    separators are replaced; everything else is unchanged, including spaces of any width.

    Args:
        text: to be shown.
        lines: keep line feeds, for a message of several lines.

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
