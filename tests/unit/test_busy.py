"""What other processes take is told apart from what this one takes."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import NamedTuple

import psutil
import pytest

from agebench.timing import busy
from agebench.timing.busy import Busyness, Watch


class Times(NamedTuple):
    user: float
    idle: float
    iowait: float
    steal: float


def test_what_others_take_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(
        [
            [Times(10, 50, 1, 0), Times(20, 60, 1, 0), Times(900, 0, 0, 0)],
            # In ten seconds: 8 and 7 used or stolen, of which 6 are this process's own.
            [Times(17, 52, 1, 1), Times(27, 61, 3, 0), Times(999, 0, 0, 0)],
        ]
    )
    own, clock = iter([1.0, 7.0]), iter([0.0, 10.0])
    times = SimpleNamespace(monotonic=lambda: next(clock), process_time=lambda: next(own))
    monkeypatch.setattr(busy, "time", times)
    monkeypatch.setattr(psutil, "cpu_times", lambda *, percpu: next(moments) if percpu else None)
    monkeypatch.setattr(busy, "_cores", lambda: [0, 1])
    found = Watch(2).stop()
    assert found.others_processors == pytest.approx((8 + 7 - 6) / 10)
    assert (found.cores, found.threads) == (2, 2)
    assert "other processes used 0.9 of its 2 processors" in found.reason


@pytest.mark.parametrize(
    ("others", "cores", "threads", "busy_then"),
    [
        (0.2, 2, 2, False),
        (0.3, 2, 2, True),
        (1.2, 2, 1, False),
        (1.3, 2, 1, True),
        (None, 2, 2, False),
    ],
)
def test_busy_is_who_leaves_fewer_processors_than_threads(
    others: float | None, cores: int, threads: int, busy_then: bool
) -> None:
    assert bool(Busyness(None, None, others, cores, threads).reason) is busy_then


def test_this_machine_can_be_watched() -> None:
    watch = Watch(1)
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    found = watch.stop()
    assert found.others_processors is None or 0 <= found.others_processors <= found.cores
