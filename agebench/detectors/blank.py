"""Every network that is given by file looks at a blank picture first.

A wrong layout then ends at load, and not after a data set's last picture.
"""

from __future__ import annotations

import numpy as np

from agebench.detectors.common import Candidates
from agebench.errors import ModelError
from agebench.types import Image

GRAY = 114
"""Of the blank picture."""

BLANK_CONFIDENCE = 0.5
"""In a blank picture nothing may score as much, however little a face needs otherwise."""


def blank_picture(size_hw: tuple[int, int]) -> Image:
    """Return a grey uint8 picture (height, width, 3)."""
    return np.full((*size_hw, 3), GRAY, np.uint8)


def blank_confidence(confidence: float) -> float:
    """Return what a face in a blank picture must score to speak against a network."""
    return max(confidence, BLANK_CONFIDENCE)


def require_no_face(label: str, found: Candidates, suspects: str) -> None:
    """Refuse a network that finds faces where there is nothing.

    Args:
        label: of the network, for the message.
        found: in a blank picture, with scores of at least `blank_confidence`.
        suspects: what may be another network's.

    Raises:
        ModelError: it found some.
    """
    if len(found):
        raise ModelError(
            f"{label} finds {len(found)} faces in a blank picture, the best with a score of "
            f"{found.scores.max():.2f}: {suspects} are another network's"
        )
