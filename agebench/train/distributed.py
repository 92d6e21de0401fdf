"""The processes that train together: one, or those that `torchrun` started."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# On import this module stores the current process group as the default of its functions, which
# would keep that group's threads alive after `leave_processes`: it is imported before there is one.
import torch.distributed.nn

from agebench.errors import DeviceError, UsageError


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process, one of those that train together.

    Attributes:
        rank: its number, from 0; process 0 writes logs and checkpoints.
        size: number of processes.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def shard(self, batch: int) -> slice:
        """Return this process's rows of a batch.

        Raises:
            UsageError: the batch can't be divided evenly.
        """
        if batch % self.size:
            raise UsageError(
                f"a batch of {batch} can't be divided evenly among {self.size} processes"
            )
        rows = batch // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean of a number over all processes."""
        return float(self.average(value))

    def average(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all processes, on its device; may modify `value`."""
        if self.size > 1:
            dist.all_reduce(value)
        return value / self.size


@contextmanager
def joined_processes(device: str) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started; without it there is only this one.

    Raises:
        DeviceError: `device` is "cuda" and there is no usable GPU.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device 'cuda' can't be used: torch finds no GPU; use device=cpu")
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield DistributedContext(0, 1, place)
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield DistributedContext(dist.get_rank(), size, place)
        # A process that leaves early would close a connection that others still use.
        dist.barrier()
    finally:
        leave_processes()


def leave_processes() -> None:
    """End the threads that communicate with the other processes.

    A thread that is still alive and frees a tensor while Python shuts down aborts the process
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    gc.collect()  # a distributed model references the group, often in a cycle
    dist.destroy_process_group()
