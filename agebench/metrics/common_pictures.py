"""Who is ranked, and on which pictures."""

from __future__ import annotations

import numpy as np

from agebench.util.arrays import Bools

LEAST_ANSWERED = 0.5
"""Fraction of the pictures, among those that any estimator gave an age for, that an estimator must
give an age for in order to be ranked: one that answers next to nothing would else decide which
pictures all others are judged on."""


def common_pictures(answered: Bools, least: float = LEAST_ANSWERED) -> tuple[Bools, Bools]:
    """Return who is ranked, and on which pictures: those that all who are ranked gave an age for.

    Args:
        answered: whether each estimator gave an age for each picture, shape (estimators, pictures).
        least: fraction of the pictures with any age that an estimator needs to be ranked; whatever
            it is, one without any age is not.

    Returns:
        Flags of shape (estimators,) and (pictures,); without anybody ranked no picture is common.

    >>> answered = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]], np.bool_)
    >>> ranked, common = common_pictures(answered)
    >>> ranked.tolist(), common.tolist()
    ([True, True, False], [True, True, True, False])
    """
    counts = answered.sum(axis=1)
    ranked = (counts > 0) & (counts >= least * answered.any(axis=0).sum())
    if not ranked.any():
        return ranked, np.zeros(answered.shape[1], np.bool_)
    return ranked, np.asarray(answered[ranked].all(axis=0))
