"""Processor time by stage."""

from __future__ import annotations

import time

import pytest

from agebench.timing.stage_seconds import StageSeconds


def test_a_stage_inside_another_counts_as_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "thread_time", lambda: now)
    seconds = StageSeconds()
    with seconds.spent_on("crop"):
        now += 1.0
        with seconds.spent_on("detect"):
            now += 4.0
        seconds.add("decode", 2.0, inside=True)
        now += 2.0
        seconds.add("decode", 8.0)  # of another thread, meanwhile
    with pytest.raises(ValueError, match="odd"), seconds.spent_on("infer"):  # noqa: PT012
        now += 16.0
        raise ValueError("odd")
    assert seconds.by_stage == {
        "decode": 10.0,
        "detect": 4.0,
        "near copies": 0.0,
        "crop": 1.0,
        "infer": 16.0,
    }
