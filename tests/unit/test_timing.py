"""Who is faster in a comparison, and what is said where that can't be told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agebench.benchmark.tables import busy_lines, faster_lines
from agebench.harness.contents_statistics import Busy
from agebench.timing.busy import Busyness
from agebench.timing.latency import Latency, StageTimes
from agebench.timing.pairs import busyness_json, compare_times
from agebench.util.typed_records import read_record

FREE = Busyness((0.1, 0.1, 0.1), (0.4, 0.2, 0.1), 0.05, 2, 2)
BUSY = Busyness((3.0, 2.0, 1.0), (3.5, 2.5, 1.0), 1.4, 2, 2)


def _stages(times: list[float]) -> Mapping[str, StageTimes]:
    return {"total": StageTimes(tuple(times))}


def _latency(*own: list[float], second_copy: list[float], busyness: Busyness = FREE) -> Latency:
    shared = {"decode": StageTimes((1.0,) * 24)}
    return Latency(shared, tuple(map(_stages, own)), _stages(second_copy), busyness)


def _times(mean: float, seed: int) -> list[float]:
    return [float(value) for value in mean + np.random.default_rng(seed).random(24) / 10]


def test_a_clear_difference_is_told_and_a_small_one_is_not() -> None:
    found = compare_times(
        "abc",
        _latency(_times(10, 0), _times(20, 1), _times(10.6, 2), second_copy=_times(10, 3)),
    )
    verdicts = {(one.first, one.second): one.verdict for one in found.comparisons}
    # 6 % is beyond the control, but one load of each model may differ by as much.
    assert verdicts == {
        ("a", "b"): "first faster",
        ("a", "c"): "no difference shown",
        ("b", "c"): "second faster",
    }
    assert found.control is not None
    assert found.control.noise_floor is not None
    assert 1 < found.control.noise_floor < 1.02
    *_, line = faster_lines(found.comparisons, [found.control], 1.1)
    assert line.startswith("  batch 1: a against itself")
    assert line.endswith(": no estimator is called faster by less than 1.10")


def test_one_without_a_time_for_every_picture_is_not_compared() -> None:
    latency = _latency(_times(10, 0), _times(20, 1)[:23], _times(30, 2), second_copy=_times(10, 3))
    found = compare_times("abc", latency)
    assert [(one.first, one.second) for one in found.comparisons] == [("a", "c")]
    # Without the first one there is nothing to set its second copy beside.
    latency = _latency(_times(10, 0)[:23], _times(20, 1), _times(30, 2), second_copy=_times(10, 3))
    found = compare_times("abc", latency)
    assert found.control is None
    assert [one.verdict for one in found.comparisons] == ["no verdict"]
    assert "measured twice" in found.comparisons[0].reason


def test_on_a_busy_machine_nobody_is_faster_and_it_is_said() -> None:
    found = compare_times(
        "ab", _latency(_times(10, 0), _times(20, 1), second_copy=_times(10, 2), busyness=BUSY)
    )
    assert [one.verdict for one in found.comparisons] == ["no verdict"]
    assert found.to_json()["too_busy"] == found.comparisons[0].reason
    lines = busy_lines(read_record(busyness_json(BUSY), Busy))
    assert "load average (1 min) before 3.00, after 3.50" in lines[0]
    assert "other processes used 1.40 processors" in lines[0]
    assert "BUSY" in lines[1]
    assert len(busy_lines(read_record(busyness_json(FREE), Busy))) == 1
