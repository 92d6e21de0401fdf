"""Runs third-party code so that exceptions, output or forks only affect its own call."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO, TypeAlias, TypeVar, cast

from agebench.errors import AgebenchError, ContractError, error_text, interruption
from agebench.protocols import Estimator, EstimatorSpec, FaceDetector
from agebench.types import AgePrediction, Crops, Face, Image, read_only
from agebench.util.call_limit import in_time, owner_name

_FORK_ENDS = 70

_Item = TypeVar("_Item")
_Breach: TypeAlias = Callable[[str], ContractError]


@contextmanager
def foreign_code(owner: object = None, call: str = "") -> Iterator[None]:
    """Run code of a plug-in, or of an object from the caller.

    Any exception becomes an `Exception`, except Ctrl-C: `sys.exit(0)` in a third-party `predict`
    would end a run in the middle, as if it were complete.  Its output goes to stderr, since stdout
    is for results.  A process that it forked ends here and does not continue the run.

    Not for blocks that yield.

    Args:
        owner: the object, whose calls are limited by `agebench.util.call_limit`; None for
            no limit.
        call: its name, such as "predict".

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, even if the code caught it.
        NoAnswerError: it did not return in time.
        ContractError: it raised an exception that is meant to end a program.

    >>> with foreign_code():
    ...     raise SystemExit(0)
    Traceback (most recent call last):
        ...
    agebench.errors.ContractError: third-party code raised SystemExit(0), which ...
    """
    process = os.getpid()
    try:
        with _prints_aside(), contextlib.nullcontext() if owner is None else in_time(owner, call):
            yield
    except KeyboardInterrupt:
        raise
    except Exception as error:
        pressed = interruption(error)
        if pressed is not None:  # compiled code made it its own error, and the run would go on
            raise pressed from None
        raise
    except BaseException as error:
        raise ContractError(
            f"third-party code raised {_named(error)}, which would end the program"
        ) from error
    finally:
        if os.getpid() != process:
            os._exit(_FORK_ENDS)


def found_faces(detector: FaceDetector, image_bgr: Image) -> list[Face]:
    """Call any detector for the faces of a picture, which it can't modify.

    Raises:
        ContractError: it fails, or returns anything but faces; the message names it.
        AgebenchError: as the detector raises it; see `foreign_code`.
    """
    breach = partial(_breach, "detector", detector)
    try:
        with foreign_code(detector, "detect"):
            return _items(detector.detect(read_only(image_bgr)), Face, "detect", breach)
    except (AgebenchError, MemoryError):  # of the latter it is told what to do
        raise
    except Exception as error:  # a foreign detector may fail in any way
        said = error_text(error)
        hint = ": detect must not change the picture, but may copy it" if _of_writing(said) else ""
        raise breach(f"{said}{hint}") from error


def _of_writing(message: str) -> bool:
    return "read-only" in message or "readonly" in message  # as numpy and OpenCV put it


def predicted_ages(estimator: Estimator, crops: Crops) -> list[AgePrediction]:
    """Call any estimator for the ages of faces, and check that they fit its spec.

    Raises:
        ContractError: it does not return one prediction per face, or one does not fit the spec;
            the message names it.
        Exception: whatever the estimator raises; see `foreign_code`.
    """
    breach = partial(_breach, "estimator", estimator)
    with foreign_code(estimator, "predict"):
        predictions = _items(estimator.predict(crops), AgePrediction, "predict", breach)
    expected, got = len(crops), len(predictions)
    if got != expected:
        raise breach(f"predict must return one prediction per face: expected {expected}, got {got}")
    for prediction in predictions:
        _require_fit(prediction, estimator.spec, breach)
    return predictions


def _breach(kind: str, owner: object, said: str) -> ContractError:
    return ContractError(f"{kind} {owner_name(owner)!r}: {said}")


def _require_fit(prediction: AgePrediction, spec: EstimatorSpec, breach: _Breach) -> None:
    """Refuse a distribution that does not fit the spec; `AgePrediction` ensures a finite age."""
    if prediction.probabilities is None:
        return
    if spec.bins is None:
        raise breach("a prediction with probabilities needs spec.bins")
    expected, got = len(spec.bins), len(prediction.probabilities)
    if got != expected:
        raise breach(f"expected {expected} probabilities (spec.bins), got {got}")


def _items(answer: object, kind: type[_Item], call: str, breach: _Breach) -> list[_Item]:
    """Return what a call returned as a list, if it contains only values of `kind`."""
    name = kind.__name__
    if not isinstance(answer, Iterable):
        raise breach(f"{call} must return a list of agebench.{name}, got {type(answer).__name__}")
    items = list(answer)
    for item in items:
        if not isinstance(item, kind):
            got = type(item).__name__
            raise breach(f"{call} must return {name} values, got {got}: use agebench.{name}")
    return items


class _Aside(io.TextIOBase):
    """Replaces stdout and stderr: output goes to stderr, which can't be closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        return self._stream.write(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def close(self) -> None:
        """Keep the stream: others write there too."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here as in the stream
        return self._stream.encoding


class _Asides:
    """Replaces the streams while third-party code runs, in any number of threads.

    The last thread restores them: if each restored what it found, one that started while another
    ran would leave the other's replacement, and results would go to stderr.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._kept: tuple[TextIO, TextIO] | None = None
        self._aside: TextIO | None = None
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock just then
            os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._running and sys.stderr is not None:
                self._kept = sys.stdout, sys.stderr
                self._aside = cast("TextIO", _Aside(sys.stderr))
            self._running += 1
            self._put()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._put()

    def _put(self) -> None:
        """Set the streams again, whatever third-party code did with them."""
        if self._kept is None or self._aside is None:
            return
        sys.stdout, sys.stderr = (self._aside, self._aside) if self._running else self._kept
        if not self._running:
            self._kept = self._aside = None


_prints_aside = _Asides()


def _named(error: BaseException) -> str:
    code = error.code if isinstance(error, SystemExit) else ""
    return f"{type(error).__name__}({code})" if isinstance(code, (int, str)) else "SystemExit"
