"""The published losses over ages: from a network's outputs and true ages to a number per picture.

Every function takes outputs of shape (n, outputs), ages in years of shape (n,) and the years that
the bins stand for, shape (bins,), upwards; it returns shape (n,), in float32 also where the
outputs are in half precision.  Nothing is averaged here: the loop weights and averages.

An age belongs to the bin nearest to its completed years, of two the younger one: with one bin per
year 32.9 is in bin 32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from agebench.train.decoding import bin_of_age, expectation


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
    2018: the divergence from a normalised discrete Gaussian around the age, of sigma 2 years, plus
    the absolute error of the expectation in years, weighted 1.

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

    The interval-censored likelihood: of an age range nothing is said about where in it the age
    lies.  The range reaches from the bin of its low to the bin of its high, both included, so that
    it is never empty, and a range of one year is the cross entropy.

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
    """Return the divergence from a teacher's distribution, (n,); 0 where the rows are equal.

    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1:
    Kullback-Leibler divergence of the student from the teacher, plus the difference of the two
    expectations in years, weighted as `dldl` weighs that to the label.

    Args:
        probabilities: the student's probabilities, (n, bins).
        taught: the teacher's, (n, bins); rows of 0, where it has no answer, give finite numbers.
        years: of the bins.
        l1_weight: weight of the expectations' difference in years.
    """
    known, least = taught.float(), torch.finfo(torch.float32).tiny
    missing = torch.xlogy(known, known) - known * probabilities.float().clamp_min(least).log()
    apart = expectation(probabilities.float(), years) - expectation(known, years)
    return missing.sum(dim=1) + l1_weight * apart.abs()
