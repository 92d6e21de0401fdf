"""When training is done: runs made up on purpose, and what is decided after each epoch of them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.train.stability import (
    Decision,
    DivergedError,
    EpochRecord,
    Kind,
    StabilitySettings,
    decide,
    extended,
    history_from_json,
    history_to_json,
    jump,
    robust_average,
)

RULE = StabilitySettings(threshold=0.05, epochs=3, patience=3, max_cuts=2)


def _record(number: int, val_mae: float, rise: float | None = 0.0, **others: Any) -> EpochRecord:
    before = None if rise is None else 1.0
    after = 1.0 if rise is None else 1.0 + rise
    steps = (number * 100, number * 100 + 100)
    return EpochRecord(number, *steps, before, after, rise, val_mae, **others)


def _run(
    maes: Sequence[float], rises: Sequence[float], rule: StabilitySettings = RULE
) -> tuple[list[Kind], Decision]:
    """Decide epoch by epoch until it ends; the kinds, and the last decision."""
    history: tuple[EpochRecord, ...] = ()
    kinds: list[Kind] = []
    for number, (mae, rise) in enumerate(zip(maes, rises, strict=True)):
        record = _record(number, mae, rise if number else None)
        history, decision = extended(history, record, rule)
        kinds.append(decision.kind)
        if decision.ends:
            break
    return kinds, decision


def test_it_goes_on_while_validation_improves_whatever_the_jumps() -> None:
    kinds, _ = _run([10 - 0.1 * number for number in range(30)], [0.5] * 30)
    assert set(kinds) == {"go on"}


def test_a_plateau_without_jumps_is_stable_and_ends() -> None:
    kinds, last = _run([8, 7, 6, 6, 6, 6, 6], [0.3, 0.2, 0.04, 0.03, 0.02, 0.01, 0.01])
    assert kinds == ["go on"] * 5 + ["stable"]
    assert last.ends
    assert "6.00 years, 3 epochs without improvement" in last.reason
    assert "+3.0% in 3 epochs" in last.reason


def test_a_jump_on_the_plateau_cuts_the_rate() -> None:
    kinds, last = _run([6, 6, 6, 6], [0, 0.01, 0.2, 0.01])
    assert kinds == ["go on"] * 3 + ["cut"]
    assert not last.ends
    assert "+20.0%" in last.reason


def test_after_a_cut_both_counts_start_anew() -> None:
    # Epochs 1 to 3 are the plateau that leads to the cut; 4 to 6 are calm at the new rate.
    kinds, _ = _run([6] * 8, [0, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0])
    assert kinds == ["go on"] * 3 + ["cut"] + ["go on"] * 2 + ["stable"]


def test_a_gain_after_a_cut_counts_against_the_best_of_all() -> None:
    # 5.9 is worse than the 5 of before the cut: no gain, although better than its neighbours.
    kinds, _ = _run([5, 6, 6, 6, 5.9, 5.8, 5.7], [0, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0])
    assert kinds[3:] == ["cut", "go on", "go on", "stable"]
    kinds, _ = _run([5, 6, 6, 6, 4.9, 4.8, 4.7], [0, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0])
    assert kinds[3:] == ["cut", "go on", "go on", "go on"]


def test_used_up_cuts_end_and_blame_the_structure() -> None:
    kinds, last = _run([6] * 20, [0.2] * 20)
    assert [number for number, kind in enumerate(kinds) if kind == "cut"] == [3, 6]
    assert kinds[-1] == "change structure"
    assert len(kinds) == 10
    assert last.ends
    assert "after 2 cuts" in last.reason
    assert "change the structure" in last.reason


def test_without_cuts_the_structure_is_blamed_at_once() -> None:
    kinds, _ = _run([6] * 9, [0.2] * 9, dataclasses.replace(RULE, max_cuts=0))
    assert kinds == ["go on"] * 3 + ["change structure"]


def test_falls_of_the_loss_are_no_jumps_and_the_threshold_itself_is_one() -> None:
    kinds, _ = _run([6] * 4, [0, -0.5, -0.2, -0.9])
    assert kinds[-1] == "stable"
    kinds, _ = _run([6] * 4, [0, 0.0, 0.05, 0.0])
    assert kinds[-1] == "cut"


def test_gains_smaller_than_the_least_one_do_not_count_but_add_up() -> None:
    rule = dataclasses.replace(RULE, min_delta_years=0.1)
    kinds, _ = _run([6 - 0.01 * number for number in range(8)], [0.0] * 8, rule)
    assert kinds == ["go on"] * 3 + ["stable"]
    kinds, _ = _run([6 - 0.04 * number for number in range(8)], [0.0] * 8, rule)
    assert set(kinds) == {"go on"}


def test_it_waits_for_enough_jumps_at_this_rate_and_for_the_warm_up() -> None:
    rule = dataclasses.replace(RULE, epochs=5, patience=2)
    kinds, _ = _run([6] * 12, [0.2] * 3 + [0.0] * 9, rule)
    # Jumps of epochs 1 to 5, two of them large: a cut; then five calm ones of its own.
    assert kinds == ["go on"] * 5 + ["cut"] + ["go on"] * 4 + ["stable"]
    kinds, _ = _run([6] * 12, [0.0] * 12, dataclasses.replace(RULE, min_epochs=8))
    assert kinds == ["go on"] * 7 + ["stable"]


def test_the_jump_is_relative_and_ignores_single_odd_steps() -> None:
    calm = [2.0] * 19
    assert jump([*calm, 90.0], [*calm, 0.0]) == 0.0
    assert jump([2.0, 2.0], [3.0, 3.0]) == pytest.approx(0.5)
    assert jump([2.0], [1.0]) == pytest.approx(-0.5)
    assert jump([0.0], [0.0]) == 0.0
    assert jump([0.0], [1e-3]) > 1e6
    assert math.isfinite(jump([0.0], [1.0]))


def test_the_trimmed_mean_leaves_a_fifth_out_at_either_end() -> None:
    assert robust_average([9.0, 1.0, 2.0, 4.0, -50.0], "trimmed-mean") == pytest.approx(7 / 3)
    assert robust_average([1.0, 2.0], "trimmed-mean") == 1.5
    assert robust_average([9.0, 1.0, 2.0, 4.0], "median") == 3.0


def test_a_record_is_measured_from_the_losses_beside_the_boundary() -> None:
    rule = StabilitySettings(window=3)
    before, after = [9.0, 9.0, 2.0, 2.0, 2.0], [3.0, 3.0, 3.0, 1.0, 1.0]
    record = EpochRecord.measured(1, (5, 10), before, after, 6.5, rule)
    assert record == EpochRecord(1, 5, 10, 2.0, 3.0, 0.5, 6.5)
    first = EpochRecord.measured(0, (0, 5), [], after, 6.5, rule)
    assert (first.loss_before, first.loss_after, first.jump) == (None, 3.0, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_ends_the_run_with_an_error(bad: float) -> None:
    for call in (
        lambda: jump([1.0, bad], [1.0]),
        lambda: jump([1.0], [bad]),
        lambda: _record(3, bad),
        lambda: dataclasses.replace(_record(3, 6.0), loss_after=bad),
        lambda: EpochRecord.measured(1, (0, 1), [1.0], [1.0], bad, RULE),
        lambda: EpochRecord.measured(1, (0, 1), [1.0], [1.0, bad], 6.0, RULE),
    ):
        with pytest.raises(DivergedError, match="diverged: start a new run") as caught:
            call()
        assert isinstance(caught.value, AgebenchError)


def test_a_history_comes_back_number_for_number() -> None:
    history = (
        _record(0, 1 / 3, None),
        _record(1, 6.123456789012345, 0.1 + 0.2, decision="cut"),
        _record(2, 5, -1e-17),
    )
    again = history_from_json(history_to_json(history))
    assert again == history
    assert decide(again, RULE) == decide(history, RULE)
    assert history_from_json(history_to_json(())) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: records[0].pop("jump"), "record 0: expected the keys"),
        (lambda records: records[1].update(more=1), "record 1: expected the keys"),
        (lambda records: records[1].update(val_mae="6"), "record 1: expected numbers"),
        (lambda records: records[1].update(val_mae=True), "record 1: expected numbers"),
        (lambda records: records[1].update(val_mae=None), "record 1: expected numbers"),
        (lambda records: records[1].update(decision="stop"), "record 1: expected numbers"),
        (lambda records: records[1].update(decision=["cut"]), "record 1: expected numbers"),
        (lambda records: records[1].update(epoch=1.5), "record 1: expected numbers"),
        (lambda records: records[1].update(jump=None), "both loss_before and jump"),
        (lambda records: records[1].update(val_mae=math.nan), "diverged"),
        (lambda records: records[1].update(val_mae=10**400), "record 1"),
        (lambda records: records.append(3), "record 2: expected the keys"),
    ],
)
def test_a_damaged_history_is_told_from_a_whole_one(change: Any, message: str) -> None:
    records = json.loads(history_to_json([_record(0, 6, None), _record(1, 6)]))
    change(records)
    with pytest.raises(AgebenchError, match=message):
        history_from_json(json.dumps(records))


@pytest.mark.parametrize("text", ["", "{", "{}", "3", "[" * 100_000])
def test_what_is_no_history_at_all(text: str) -> None:
    with pytest.raises(AgebenchError, match="the history of epochs"):
        history_from_json(text)


def test_impossible_histories_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        decide([], RULE)
    with pytest.raises(ValueError, match="ascending"):
        decide([_record(1, 6), _record(1, 6)], RULE)
    with pytest.raises(ValueError, match="ended before"):
        decide([_record(0, 6, decision="stable"), _record(1, 6)], RULE)
    with pytest.raises(ValueError, match="at least one"):
        jump([], [1.0])
    with pytest.raises(ValueError, match="ascending"):
        EpochRecord(0, 10, 5, None, 1.0, None, 6.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": math.nan},
        {"epochs": 0},
        {"epochs": 2.0},
        {"patience": True},
        {"min_delta_years": -1.0},
        {"cut_factor": 1.0},
        {"max_cuts": -1},
        {"window": 0},
        {"average": "mean"},
        {"min_epochs": -1},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"stability: {name} must be"):
        StabilitySettings(**wrong)
