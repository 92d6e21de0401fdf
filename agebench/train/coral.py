"""CORAL: age as a row of yes-or-no questions, "older than bin k?", that do not contradict.

Cao, Mirjalili & Raschka, "Rank consistent ordinal regression for neural networks with application
to age estimation", Pattern Recognition Letters 2020.  Shapes as in `agebench.train.formulas`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from agebench.train.decoding import bin_of_age

_CLOSE = 1e-6
"""Rank logits nearer to each other than this count as this far apart, so that logs stay finite."""


def coral(logits: Tensor, ages: Tensor, years: Tensor) -> Tensor:
    """Return the loss of CORAL, (n,): one binary cross entropy per rank, summed.

    Args:
        logits: (n, bins - 1), of "older than bin k" for k from the first to the last but one; the
            paper's promise of consistent ranks needs `CoralHead`.
        ages: years (n,).
        years: of the bins.
    """
    ranks = torch.arange(logits.shape[1], device=logits.device)
    older = (bin_of_age(ages, years)[:, None] > ranks[None, :]).float()
    each = functional.binary_cross_entropy_with_logits(logits.float(), older, reduction="none")
    return each.sum(dim=1)


def _consistent(logits: Tensor) -> Tensor:
    """Rank logits, none above one before it; those of a trained `CoralHead` are so already."""
    return torch.cummin(logits.float(), dim=1).values


def coral_probabilities(logits: Tensor) -> Tensor:
    """Return the distribution over the bins that rank logits stand for.

    The probability of bin k is that of "older than k - 1" less that of "older than k".  Where a
    later rank is more probable than an earlier one, which cannot be, it is lowered to that.

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

    With a and b the logits of "older than what comes before the range" and "older than the range"
    it is minus the log of sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), taken
    in logs, where no difference of nearly equal numbers arises.
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
    """The last layer of CORAL: one weight per feature for all ranks, and one bias per rank.

    With weights of their own the ranks of a picture could contradict each other; with shared ones
    only the biases order them, and training orders the biases (theorem 1 of the paper).

    Args:
        features: width of what comes in.
        bins: number of ages.
    """

    def __init__(self, features: int, bins: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        # Evenly downwards from 1, as the authors' package coral-pytorch starts them.
        self.bias = nn.Parameter(torch.arange(bins - 1, 0, -1) / (bins - 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return rank logits (n, bins - 1) of (n, features)."""
        scores: Tensor = self.score(features)
        return scores + self.bias
