"""Every network given by file is first run on a blank picture.

A wrong layout then fails when it is loaded, not after the last picture of a data set.
"""

from __future__ import annotations

import numpy as np

from agebench.detectors.common import Candidates
from agebench.errors import ModelError
from agebench.types import Image

GRAY = 114
"""Value of the blank picture's pixels."""

BLANK_CONFIDENCE = 0.5
"""Score that a face in a blank picture must have at least, however low the option is."""


def blank_picture(size_hw: tuple[int, int]) -> Image:
    """Return a grey uint8 picture (height, width, 3)."""
    return np.full((*size_hw, 3), GRAY, np.uint8)


def blank_confidence(confidence: float) -> float:
    """Return the score from which faces in a blank picture are an error."""
    return max(confidence, BLANK_CONFIDENCE)


def require_no_face(label: str, found: Candidates, suspects: str) -> None:
    """Refuse a network that finds faces in a blank picture.

    Args:
        label: of the network, for the message.
        found: in a blank picture, with scores of at least `blank_confidence`.
        suspects: which settings may be wrong.

    Raises:
        ModelError: it found some.
    """
    if len(found):
        raise ModelError(
            f"{label} finds {len(found)} faces in a blank picture, the best with a score of "
            f"{found.scores.max():.2f}: {suspects} do not fit this network"
        )
