"""What became of a picture: one set of words for it, and the error of those that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from agebench.errors import AgebenchError, RunEndsError, in_words

PictureStatus: TypeAlias = Literal[
    "ok",
    "unreadable",
    "bad_landmarks",
    "detector_failed",
    "no_face",
    "crop_failed",
    "estimator_failed",
    "not_storable",
    "crashed",
]
"""What became of a picture, in the order in which it may come to grief.

Every verb uses those that it can meet: "bad_landmarks" (of the data set), and "not_storable" are
met by `prepare`, "estimator_failed" (no face has an age) by `predict`, "crashed" (the process that
worked on it died) by both; for `predict` a picture without a face is "ok".
"""


class LeftOutError(AgebenchError):
    """There is nothing of one picture; whoever goes through many counts it and goes on.

    Attributes:
        status: where it came to grief.
    """

    def __init__(self, status: PictureStatus, reason: str) -> None:
        super().__init__(reason)
        self.status: PictureStatus = status


@contextmanager
def left_out(status: PictureStatus, *fatal: type[Exception]) -> Iterator[None]:
    """Turn whatever a block raises over one picture into a `LeftOutError`.

    Detectors and estimators may be anybody's and fail in any way, and a picture's shape may be
    odd: neither may end a long run.

    Args:
        status: what the picture gets.
        fatal: errors that no picture is to blame for, beside `RunEndsError`; they pass.

    >>> with left_out("crop_failed"):
    ...     raise ValueError("too odd")
    Traceback (most recent call last):
        ...
    agebench.vision.picture_status.LeftOutError: ValueError: too odd
    """
    passing: tuple[type[Exception], ...] = (LeftOutError, RunEndsError, *fatal)
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise LeftOutError(status, in_words(error)) from error
