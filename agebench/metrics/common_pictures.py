"""Which estimators are ranked, and on which pictures."""

from __future__ import annotations

import numpy as np

from agebench.util.arrays import Bools

LEAST_ANSWERED = 0.5
"""Fraction of the pictures, among those that any estimator gave an age for, that an estimator must
give an age for in order to be ranked: otherwise one with very few ages would determine on which
pictures all others are scored."""


def common_pictures(answered: Bools, least: float = LEAST_ANSWERED) -> tuple[Bools, Bools]:
    """Return which estimators are ranked, and the pictures that all of these gave an age for.

    Args:
        answered: whether each estimator gave an age for each picture, shape (estimators, pictures).
        least: fraction of the pictures with any age that an estimator needs to be ranked; one
            without any age is never ranked.

    Returns:
        Flags of shape (estimators,) and (pictures,); if no estimator is ranked, no picture is
        common.

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
