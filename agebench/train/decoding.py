"""Between ages and bins: which bin an age belongs to, and which age a distribution gives."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from agebench.metrics.age_classes import MEDIAN_RAMP, TIE
from agebench.train.checks import require_known

Decoding: TypeAlias = Literal["expectation", "median"]


def bin_of_age(ages: Tensor, years: Tensor) -> Tensor:
    """Return the index of the bin of each age, int64 (n,): nearest to its completed years."""
    distance = (years[None, :] - torch.floor(ages)[:, None]).abs()
    # argmin promises no order among equals; cumulative counting of "smaller than all so far" does.
    smallest = distance.min(dim=1, keepdim=True).values
    return ((distance > smallest).cumprod(dim=1)).sum(dim=1)


def expectation(probabilities: Tensor, years: Tensor) -> Tensor:
    """Return the mean age of each distribution, (n,) years, for (n, bins) and (bins,).

    A product and a sum, not a matrix product: autocast would take that in half precision.
    """
    return (probabilities * years).sum(dim=1)


def decode(probabilities: Tensor, years: Tensor, how: Decoding = "expectation") -> Tensor:
    """Return one age per distribution, float64 (n,), years.

    Args:
        probabilities: (n, bins), none below 0; rows are rescaled to sum to 1.
        years: of the bins, upwards.
        how: "expectation", the mean; or "median", the years of the first bin at which the
            cumulative probability reaches one half, as `agebench.metrics.age_classes.median`.

    Raises:
        UsageError: there is no such decoding.
    """
    require_known(how, ("expectation", "median"), "decoding", "rule")
    probabilities = probabilities.double()
    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    of_bin = years.double()
    if how == "expectation":
        return expectation(probabilities, of_bin)
    short = 0.5 - TIE - probabilities.cumsum(dim=1)[:, :-1]
    steps = (short / MEDIAN_RAMP).clamp(0.0, 1.0)
    return of_bin[0] + (steps * of_bin.diff()).sum(dim=1)
