"""`agebench.predict`: one call from a picture to ages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Lock
from typing import cast

from agebench.errors import AgebenchError, ImageError, UsageError
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.records import PredictedPicture
from agebench.vision.images import Channels, Picture

_LOADING = Lock()


def predict(
    image: Picture,
    *,
    estimator: str | Sequence[str] | None = None,
    detector: str | None = None,
    channels: Channels = "bgr",
) -> PredictedPicture:
    """Return all faces of a picture with their ages.

    The models of the last few calls stay loaded.  For many pictures, or for estimators of your
    own, use `AgePredictor`.

    Args:
        image: a path, the bytes of a file, a Pillow image, or a uint8 array of shape (height,
            width, 3) or (height, width).
        estimator: one or several names; the default estimator if left out.
        detector: by name; the best that is available if left out.
        channels: order of an array's channels, "bgr" or "rgb".

    Returns:
        The picture's faces, best detector score first; none is an answer, not an error.

    Raises:
        ImageError: the picture can't be read.
        UsageError: an unknown name or option, or something that is not a picture.
        AgebenchError: a model file is not available, or the detector failed.

    >>> import numpy as np
    >>> black = np.zeros((64, 64, 3), np.uint8)
    >>> predict(black, estimator="constant", detector="haar").faces
    ()
    """
    names = None if estimator is None else _names(estimator)
    with _LOADING:  # two threads that ask first load the models once
        predictor = _predictor(names, detector, channels)
    answer = predictor.predict_one(image)
    if answer.status == "ok":
        return answer
    sentence = f"{answer.name}: {answer.reason}" if answer.name else answer.reason
    raise (ImageError if answer.status == "unreadable" else AgebenchError)(sentence)


def _names(estimator: object) -> tuple[str, ...]:
    several = isinstance(estimator, Iterable) and not isinstance(estimator, str)
    listed = tuple(cast("Iterable[object]", estimator)) if several else (estimator,)
    for name in listed:
        if not isinstance(name, str):
            raise UsageError(
                f"expected the name of an estimator, got {type(name).__name__}: give estimators of "
                "your own to AgePredictor"
            )
    return cast("tuple[str, ...]", listed)


@lru_cache(maxsize=4)
def _predictor(
    estimators: tuple[str, ...] | None, detector: str | None, channels: Channels
) -> AgePredictor:
    return AgePredictor(estimators, detector=detector, channels=channels)
