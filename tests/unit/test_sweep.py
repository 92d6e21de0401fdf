"""The batch sweep: order, warm-up, what is counted, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from agebench.benchmark import sweep
from agebench.benchmark.sweep import BatchTimes, Rounds, Runner, is_stable, run_sweep, warm_up
from agebench.errors import AgebenchError, ContractError, DatasetError, ModelError, UsageError
from agebench.protocols import EstimatorSpec
from agebench.timing.latency import StageTimes, turns
from agebench.timing.sweep_faces import FaceSource, generated_face, real_faces
from agebench.types import AgePrediction, Crops, CropSpec, ViewSpec


class Logging:
    def __init__(self, name: str, log: list[tuple[str, int]], *, extra: int = 0) -> None:
        self.spec = EstimatorSpec(name, CropSpec({"face": ViewSpec("face", (4, 4))}), "none")
        self._log = log
        self._extra = extra

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        self._log.append((self.spec.name, len(crops)))
        return [AgePrediction(1.0)] * (len(crops) + self._extra)


class Failing(Logging):
    def __init__(self, error: Exception) -> None:
        super().__init__("bad", [])
        self._error = error

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        raise self._error


@pytest.fixture(scope="module")
def faces() -> FaceSource:
    return generated_face()


def test_contenders_take_turns_and_warm_up_is_not_counted(
    faces: FaceSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "is_stable", lambda times: len(times) >= 2)
    log: list[tuple[str, int]] = []
    runners = [Runner(name, Logging(name, log)) for name in "abc"]
    found = run_sweep(runners, faces, [1, 3], Rounds(repeats=8))
    # The fourth is the first one again; each block begins with a warm-up.
    order = ["abca"[place] for number in range(8) for place in turns(number, 4)]
    blocks = [order[:8], order[8:16], *(order[at : at + 4] for at in range(16, 32, 4))]
    assert (
        "".join(name for name, _ in log)
        == "".join("aabbccaa" + "".join(block) for block in blocks) * 2
    )
    assert [size for _, size in log] == [1] * 80 + [3] * 80
    for times in (*found.times, found.control):
        assert [item.batch for item in times] == [1, 3]
        assert all(len(item.total.samples_ms) == 8 for item in times)
        assert all(len(item.warmup_ms) == 12 for item in times)
        assert all(item.block_rounds == (2, 2, 1, 1, 1, 1) for item in times)


def test_each_block_begins_with_models_loaded_anew(faces: FaceSource) -> None:
    loads: list[str] = []

    def load(name: str) -> Logging:
        loads.append(name)
        return Logging(name, [])

    runners = [Runner(name, load(name), partial(load, name)) for name in "ab"]
    found = run_sweep(runners, faces, [1], Rounds(repeats=12))
    # Once before, the second copy of the first, and everybody before all blocks but the first.
    assert loads == [*"ab", "a", *"aba" * 5]
    assert len(found.control[0].total.samples_ms) == 12


def test_one_alone_is_compared_with_nobody(faces: FaceSource) -> None:
    log: list[tuple[str, int]] = []
    found = run_sweep([Runner("a", Logging("a", log))], faces, [1], Rounds(repeats=2))
    assert (len(found.times), found.control) == (1, ())
    assert found.busyness.cores >= 1


def test_a_clock_by_hand(faces: FaceSource, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1_000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)) / 1e3)
    found = run_sweep([Runner("a", Logging("a", []))], faces, [5], Rounds(repeats=3))
    # Read three times per call, a millisecond apart: crop 1 ms, infer 1 ms.
    times = found.times[0][0]
    assert times.crop.samples_ms == pytest.approx((1.0,) * 3)
    assert times.total.samples_ms == pytest.approx((2.0,) * 3)
    assert times.faces_per_s == pytest.approx(2500.0)
    assert len(times.warmup_ms) == 3 * sweep.MIN_WARM_UP_RUNS


def test_percentiles_and_throughput_of_known_samples() -> None:
    infer = tuple(float(value) for value in range(100, 0, -1))
    times = BatchTimes(4, (7.0,), StageTimes((0.0,) * 100), StageTimes(infer), (100,))
    written = times.to_json()
    assert (written["n"], written["mean_ms"], written["p50_ms"]) == (100, 50.5, 50.5)
    assert written["p90_ms"] == pytest.approx(90.1)
    assert written["p99_ms"] == pytest.approx(99.01)
    assert written["samples_ms"] == list(infer)
    assert written["faces_per_s"] == pytest.approx(400 / 5.05)
    assert written["warmup_ms"] == [7.0]


def test_warm_up_ends_when_stable_or_at_the_limit() -> None:
    times = iter([90.0, 40.0, 10.0, 10.0, 10.0, 10.0, 99.0])
    # After the fifth run the medians of (10, 10, 10) and of (40, 10, 10), one before, agree.
    assert warm_up(lambda: next(times)) == (90.0, 40.0, 10.0, 10.0, 10.0)
    falling = iter(2.0**-n for n in range(100))
    assert len(warm_up(lambda: next(falling))) == sweep.MAX_WARM_UP_RUNS
    assert not is_stable([1.0, 1.0, 1.0])


def test_rounds_by_number_and_by_time() -> None:
    assert [Rounds(3).blocks, Rounds(8).blocks, Rounds(None, 5.0).blocks] == [3, 6, 6]
    assert [Rounds(8).needs_round(0, done, 1e9, 2) for done in (1, 2)] == [True, False]
    assert [Rounds(8).needs_round(5, done, 1e9, 2) for done in (0, 1)] == [True, False]
    timed = Rounds(None, 6.0)
    assert timed.needs_round(0, 3, 1e9, 1)
    assert not timed.needs_round(0, 4, 1.1, 1)
    assert timed.needs_round(0, 4, 1.1, 2)
    assert not timed.needs_round(0, sweep.MAX_ROUNDS // 6, 0.0, 1)


def test_a_batch_beyond_the_memory_is_refused_before_anything_runs(faces: FaceSource) -> None:
    log: list[tuple[str, int]] = []
    with pytest.raises(UsageError, match=r"batch 1000000000 of a needs about 4,\d+\.\d GB"):
        run_sweep([Runner("a", Logging("a", log))], faces, [1, 10**9], Rounds(1))
    assert log == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("no"), ModelError),
        (MemoryError(), AgebenchError),
        (KeyError("x"), AgebenchError),
    ],
)
def test_a_failure_names_estimator_and_batch(
    faces: FaceSource, error: Exception, kind: type[AgebenchError]
) -> None:
    with pytest.raises(kind, match=r"^bad at batch 2: "):
        run_sweep([Runner("bad", Failing(error))], faces, [2], Rounds(1))


def test_an_estimator_that_leaves_work_out_is_not_timed(faces: FaceSource) -> None:
    with pytest.raises(ContractError, match="expected 3 predictions for 3 faces, got 2"):
        run_sweep([Runner("a", Logging("a", [], extra=-1))], faces, [3], Rounds(1))


def test_generated_faces_are_complete_and_the_same_for_a_seed() -> None:
    spec = CropSpec({"face": ViewSpec("face", (32, 32)), "mouth": ViewSpec("mouth", (8, 16))})
    crops = generated_face(3).cut(spec, 2)
    assert len(crops) == 2
    assert all(flags.all() for flags in crops.present.values())
    again = generated_face(3).cut(spec, 1)
    assert np.array_equal(crops.views["face"][1], again.views["face"][0])


def test_no_real_face_is_said() -> None:
    with pytest.raises(DatasetError, match="none of the 0 pictures"):
        real_faces([], None, [], origin="nothing", max_pixels=10)  # type: ignore[arg-type]  # never asked
