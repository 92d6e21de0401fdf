"""Random numbers that depend on the seed and the step alone.

However a batch is divided among processes, and wherever a run was interrupted and resumed, each
picture of a step meets the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


class StepRng:
    """Uniform random numbers for the rows of one process's shard of a batch.

    Every call of `uniform` draws for the whole batch and keeps the rows of the shard, so the
    numbers do not depend on how many processes there are.
    """

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._total = self._start = self._stop = 0

    def begin(self, seed: int, step: int, total: int, start: int = 0, stop: int = -1) -> None:
        """Start a step.

        Args:
            seed: of the run.
            step: number of the step, from 0.
            total: rows in the whole batch.
            start: first of this process's rows of it.
            stop: row after the last of them; -1 for all.
        """
        # Any two integers, mixed to one 63-bit seed by the constant of SplitMix64.
        self._generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step) % (1 << 63))
        self._total, self._start = total, start
        self._stop = total if stop < 0 else stop

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1), float32 of shape (rows, *shape), on the CPU.

        Raises:
            ValueError: `rows` is not what `begin` was told.
        """
        if rows != self._stop - self._start:
            raise ValueError(f"expected {self._stop - self._start} rows, got {rows}")
        drawn = torch.rand(self._total, *shape, generator=self._generator)
        return drawn[self._start : self._stop]
