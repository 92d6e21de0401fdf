"""Resource limits of this process, which may show as errors elsewhere."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from agebench.errors import AgebenchError

if sys.platform != "win32":  # Windows has no such limits
    import resource

_MEMORY_MESSAGES = (
    "failed to map segment",
    "annot allocate memory",
    "std::bad_alloc",
    "MemoryError",
)

_NEEDED_BYTES = {"train": 1_400_000_000, "augment-preview": 1_400_000_000}
"""With less, importing PyTorch ends the process (2.13 for CPUs: 1.0 GB fails, 1.5 are enough)."""

CPU_RESERVE_S = 1
"""Seconds before the hard limit of processor time at which a run is ended cleanly."""


def address_space() -> str:
    """Return a sentence on the limit of the address space; "" without one."""
    allowed = _allowed_bytes()
    if allowed is None:
        return ""
    return f"the address space of this process is limited to {allowed / 1e6:,.0f} MB (ulimit -v)"


def _allowed_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def require_room(verb: str) -> None:
    """Refuse a verb whose libraries end the process when memory is short.

    Raises:
        AgebenchError: the address space is limited to less than they need.
    """
    needed, allowed = _NEEDED_BYTES.get(verb, 0), _allowed_bytes()
    if allowed is not None and allowed < needed:
        raise AgebenchError(
            f"{address_space()}: PyTorch needs {needed / 1e6:,.0f} MB for '{verb}': raise the limit"
        )


def with_limit(error: BaseException, sentence: str, *, unforeseen: bool = False) -> str:
    """Return a message for an error, preceded by the limit if that is the likely cause.

    Args:
        error: what ended the run.
        sentence: the message without a limit.
        unforeseen: whether the error was unexpected.
    """
    limit = address_space()
    if not limit or not (unforeseen or any(map(_is_short, _chain(error)))):
        return sentence
    return f"{limit}, which is too low here: raise it (the error: {sentence})"


def spare_processor_time() -> None:
    """Make the system send a signal shortly before the hard limit of processor time.

    Shells set both limits to the same value, and then a process is killed without a signal.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY and soft == hard and hard > CPU_RESERVE_S:
        resource.setrlimit(resource.RLIMIT_CPU, (hard - CPU_RESERVE_S, hard))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_short(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
        return True
    return any(text in str(error) for text in _MEMORY_MESSAGES)
