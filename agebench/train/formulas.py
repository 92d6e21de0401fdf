"""The published losses over ages, and the way between ages and bins.

Every loss takes outputs of shape (n, outputs), ages in years of shape (n,) and the years that the
bins stand for, shape (bins,), ascending; it returns shape (n,), in float32 even if the outputs are
in half precision.  Nothing is averaged here: the loop weights and averages.

An age belongs to the bin nearest to its completed years, the younger of two: with one bin per year
32.9 is in bin 32.

CORAL treats age as a series of binary questions, "older than bin k?", with consistent answers: Cao,
Mirjalili & Raschka, "Rank consistent ordinal regression for neural networks with application to age
estimation", Pattern Recognition Letters 2020.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from agebench.metrics.age_classes import MEDIAN_RAMP, TIE
from agebench.util.checks import require_known

Decoding: TypeAlias = Literal["expectation", "median"]


def bin_of_age(ages: Tensor, years: Tensor) -> Tensor:
    """Return the index of the bin of each age, int64 (n,): nearest to its completed years."""
    distance = (years[None, :] - torch.floor(ages)[:, None]).abs()
    # argmin may return any of several minima; this returns the first.
    smallest = distance.min(dim=1, keepdim=True).values
    return ((distance > smallest).cumprod(dim=1)).sum(dim=1)


def expectation(probabilities: Tensor, years: Tensor) -> Tensor:
    """Return the mean age of each distribution, (n,) years, for (n, bins) and (bins,).

    A product and a sum, because autocast would compute a matrix product in half precision.
    """
    return (probabilities * years).sum(dim=1)


def decode(probabilities: Tensor, years: Tensor, how: Decoding = "expectation") -> Tensor:
    """Return one age per distribution, float64 (n,), years.

    Args:
        probabilities: (n, bins), none below 0; rows are rescaled to sum to 1.
        years: of the bins, ascending.
        how: "expectation", the mean; or "median", the years of the first bin at which the
            cumulative probability reaches one half, as `agebench.metrics.age_classes.median`.

    Raises:
        UsageError: `how` is unknown.
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


def cross_entropy(logits: Tensor, ages: Tensor, years: Tensor) -> Tensor:
    """Return minus the log probability of the age's bin, (n,)."""
    return functional.cross_entropy(logits.float(), bin_of_age(ages, years), reduction="none")


def gaussian_labels(ages: Tensor, years: Tensor, sigma_years: float) -> Tensor:
    """Return the log of a Gaussian around each age at the bins' years, (n, bins), sums to 1."""
    distance = (years.float()[None, :] - ages.float()[:, None]) / sigma_years
    return (-0.5 * distance.square()).log_softmax(dim=1)


def dldl(
    logits: Tensor,
    ages: Tensor,
    years: Tensor,
    *,
    sigma_years: float = 2.0,
    l1_weight: float = 1.0,
    divergence: Literal["kl", "ce"] = "kl",
) -> Tensor:
    """Return the loss of DLDL-v2, (n,).

    Gao, Zhou, Wu & Geng, "Age Estimation Using Expectation of Label Distribution Learning", IJCAI
    2018: the divergence from a normalised discrete Gaussian around the age with sigma 2 years, plus
    the absolute error of the expectation in years with weight 1.

    Args:
        logits: (n, bins).
        ages: years (n,); fractions shift the Gaussian.
        years: of the bins.
        sigma_years: width of the Gaussian; above 0.
        l1_weight: weight of the absolute error.
        divergence: "kl", or "ce", larger by the Gaussian's entropy.
    """
    wanted = gaussian_labels(ages, years, sigma_years)
    got = logits.float().log_softmax(dim=1)
    missing = wanted - got if divergence == "kl" else -got
    of_labels = (wanted.exp() * missing).sum(dim=1)
    return of_labels + l1_weight * (expectation(logits.float().softmax(dim=1), years) - ages).abs()


def mean_variance(
    logits: Tensor,
    ages: Tensor,
    years: Tensor,
    *,
    mean_weight: float = 0.2,
    variance_weight: float = 0.05,
) -> Tensor:
    """Return the mean-variance loss, (n,).

    Pan, Han, Shan & Chen, "Mean-Variance Loss for Deep Age Estimation from a Face", CVPR 2018:
    cross entropy + 0.2 * (mean - age)^2 / 2 + 0.05 * variance of the distribution.
    """
    probabilities = logits.float().softmax(dim=1)
    mean = expectation(probabilities, years)
    variance = expectation(probabilities, (years[None, :] - mean[:, None]).square())
    of_mean = (mean - ages).square() / 2
    of_bin = cross_entropy(logits, ages, years)
    return of_bin + mean_weight * of_mean + variance_weight * variance


def regression(
    logits: Tensor,
    ages: Tensor,
    years: Tensor,
    *,
    kind: Literal["l1", "smooth-l1"] = "l1",
    smooth_years: float = 1.0,
) -> Tensor:
    """Return the absolute error of the expectation in years, (n,).

    With "smooth-l1" errors below `smooth_years` are squared (Girshick, "Fast R-CNN", 2015):
    error^2 / (2 * smooth_years), and error - smooth_years / 2 above.
    """
    means = expectation(logits.float().softmax(dim=1), years)
    if kind == "l1":
        return (means - ages).abs()
    return functional.smooth_l1_loss(means, ages.float(), reduction="none", beta=smooth_years)


def interval_likelihood(logits: Tensor, lows: Tensor, highs: Tensor, years: Tensor) -> Tensor:
    """Return minus the log of the probability that the age lies in a range, (n,).

    The interval-censored likelihood: where in the range the age lies is unknown.  The range extends
    from the bin of its lowest age to that of its highest, inclusive, so it is never empty, and for
    a range of one year the loss is the cross entropy.

    Args:
        logits: (n, bins).
        lows: lowest ages (n,), years.
        highs: highest ages (n,), years, not below `lows`.
        years: of the bins.
    """
    places = torch.arange(logits.shape[1], device=logits.device)[None, :]
    first, last = bin_of_age(lows, years)[:, None], bin_of_age(highs, years)[:, None]
    outside = (places < first) | (places > last)
    logs = logits.float().log_softmax(dim=1)
    return -logs.masked_fill(outside, -torch.inf).logsumexp(dim=1)


def distillation(
    probabilities: Tensor, taught: Tensor, years: Tensor, *, l1_weight: float
) -> Tensor:
    """Return the divergence from a teacher's distribution, (n,); 0 for equal rows.

    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1:
    Kullback-Leibler divergence of the student from the teacher, plus the difference of the two
    expectations in years, weighted like the absolute error in `dldl`.

    Args:
        probabilities: the student's probabilities, (n, bins).
        taught: the teacher's, (n, bins); rows of 0 (no answer) give finite numbers.
        years: of the bins.
        l1_weight: weight of the difference of the expectations in years.
    """
    known, least = taught.float(), torch.finfo(torch.float32).tiny
    missing = torch.xlogy(known, known) - known * probabilities.float().clamp_min(least).log()
    apart = expectation(probabilities.float(), years) - expectation(known, years)
    return missing.sum(dim=1) + l1_weight * apart.abs()


_CLOSE = 1e-6
"""Smallest difference between rank logits; smaller ones are raised so that logs stay finite."""


def coral(logits: Tensor, ages: Tensor, years: Tensor) -> Tensor:
    """Return the loss of CORAL, (n,): one binary cross entropy per rank, summed.

    Args:
        logits: (n, bins - 1), of "older than bin k" for all bins but the last; the ranks are only
            guaranteed to be consistent with `CoralHead`.
        ages: years (n,).
        years: of the bins.
    """
    ranks = torch.arange(logits.shape[1], device=logits.device)
    older = (bin_of_age(ages, years)[:, None] > ranks[None, :]).float()
    each = functional.binary_cross_entropy_with_logits(logits.float(), older, reduction="none")
    return each.sum(dim=1)


def _consistent(logits: Tensor) -> Tensor:
    """Return non-increasing rank logits; those of a trained `CoralHead` are so already."""
    return torch.cummin(logits.float(), dim=1).values


def coral_probabilities(logits: Tensor) -> Tensor:
    """Return the distribution over the bins from rank logits.

    The probability of bin k is that of "older than k - 1" minus that of "older than k".  If a later
    rank is more probable than an earlier one, which is inconsistent, it is lowered to that.

    Args:
        logits: (n, bins - 1).

    Returns:
        float32 (n, bins), none below 0, rows sum to 1.
    """
    older = torch.sigmoid(_consistent(logits))
    rows = (older.shape[0], 1)
    return torch.cat([older.new_ones(rows), older], 1) - torch.cat(
        [older, older.new_zeros(rows)], 1
    )


def coral_interval_likelihood(logits: Tensor, lows: Tensor, highs: Tensor, years: Tensor) -> Tensor:
    """Return `interval_likelihood` of rank logits (n, bins - 1).

    With a and b the logits of "older than the bin before the range" and "older than the range" it
    is minus the log of sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), computed
    as a sum of logs to avoid cancellation.
    """
    ranks = _consistent(logits)
    first, last = bin_of_age(lows, years), bin_of_age(highs, years)
    top = logits.shape[1]  # index of the last bin
    before = ranks.gather(1, (first - 1).clamp_min(0)[:, None])[:, 0]
    after = ranks.gather(1, last.clamp_max(top - 1)[:, None])[:, 0]
    open_below, open_above = first == 0, last == top
    zero = torch.zeros_like(before)
    apart = (before - after).clamp_min(_CLOSE)
    between = torch.log(-torch.expm1(-apart))
    total = torch.where(open_below, zero, functional.logsigmoid(before))
    total = total + torch.where(open_above, zero, functional.logsigmoid(-after))
    return -(total + torch.where(open_below | open_above, zero, between))


class CoralHead(nn.Module):
    """The last layer of CORAL: one weight per feature, shared by all ranks, and one bias per rank.

    With separate weights the ranks of a picture could contradict each other; with shared weights
    their order is that of the biases, which training sorts (theorem 1 of the paper).

    Args:
        features: number of inputs.
        bins: number of ages.
    """

    def __init__(self, features: int, bins: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        # Evenly descending from 1, as in the authors' package coral-pytorch.
        self.bias = nn.Parameter(torch.arange(bins - 1, 0, -1) / (bins - 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return rank logits (n, bins - 1) of (n, features)."""
        scores: Tensor = self.score(features)
        return scores + self.bias
