"""Coverage of the intervals and error rates of the tests, on simulated sets with a known answer.

- Coverage of the interval of an MAE, and of a difference of two, for 2 to 80 people with 3 to 21
  pictures each: errors that are Gaussian, of Student's t with 3 degrees of freedom, Gaussian of a
  scale that differs log-normally from person to person, or drawn from measured errors, with
  all pictures of a person.  The percentile bootstrap, used up to schema version 1, is shown for
  comparison.  Below ten people the harness gives no interval: these rows say why.
- Type-I error of the paired test at 5 %: two exchangeable estimators, and two with the same
  MAE whose errors have different shapes, for which the test is correct in large samples only.
- Coverage of the interval of a proportion, with people who differ and with pictures alone.
- Coverage of the interval of a group: a quarter of the pictures of a set of 82 people.

    python benchmarks/statistics_validity.py --simulations 1000

An interrupted run resumes.  How often equal estimators are called "faster" is measured, not
simulated: benchmarks/aa_control.py.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.progress import track
from scipy.special import ndtr, stdtrit

from agebench.metrics.intervals import (
    LEVEL,
    Interval,
    jackknife_error,
    mean_interval,
    student_interval,
    sums_and_counts,
)
from agebench.metrics.paired_tests import sign_flip_p_values
from agebench.metrics.proportions import proportion_interval
from agebench.types import Floats
from agebench.util.files import write_whole

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "statistics_validity.json"
MEASURED = HERE / "results" / "measured_errors.json"
"""Signed errors of two estimators, person by person."""

PEOPLE = (2, 3, 5, 8, 10, 15, 20, 40, 80)
TESTED_PEOPLE = (10, 20, 40, 80, 250, 1000)
REPLICATES = 400
"""Of the percentile bootstrap that the intervals are set beside."""

Draw: TypeAlias = Callable[[np.random.Generator, int], tuple[Floats, list[int]]]
"""Signed errors of two estimators, shape (n, 2), and who each picture shows."""


def _pictures(generator: np.random.Generator, people: int) -> list[int]:
    found: list[int] = np.repeat(np.arange(people), generator.integers(3, 22, people)).tolist()
    return found


def gaussian(generator: np.random.Generator, people: int) -> tuple[Floats, list[int]]:
    """Draw errors with a part of the person, one of the picture and one of the estimator."""
    who = _pictures(generator, people)
    person = generator.normal(0, (5.0, 3.0), (people, 2))[who]
    shared = generator.normal(0, 4.0, (len(who), 1))
    return person + shared + generator.normal(0, (4.0, 6.0), (len(who), 2)), who


def heavy_tailed(generator: np.random.Generator, people: int) -> tuple[Floats, list[int]]:
    """Draw the same from Student's t with 3 degrees of freedom."""
    who = _pictures(generator, people)
    person = 3.0 * generator.standard_t(3, (people, 2))[who]
    return person + 2.5 * generator.standard_t(3, (len(who), 1)), who


def of_many_scales(generator: np.random.Generator, people: int) -> tuple[Floats, list[int]]:
    """Draw Gaussian errors of a scale that differs log-normally between people."""
    who = _pictures(generator, people)
    scale = 4.0 * np.exp(generator.normal(0, 0.75, (people, 2)))[who]
    return scale * generator.normal(size=(len(who), 2)), who


def measured() -> Draw:
    """Return what draws people of a measured comparison, with all their pictures."""
    people = [np.asarray(one, np.float64) for one in json.loads(MEASURED.read_text())["people"]]

    def draw(generator: np.random.Generator, number: int) -> tuple[Floats, list[int]]:
        chosen = generator.integers(0, len(people), number).tolist()
        who = [at for at, one in enumerate(chosen) for _ in people[one]]
        return np.concatenate([people[one] for one in chosen]), who

    return draw


@cache
def true_maes(draw: Draw) -> Floats:
    """Return the two MAEs, from a set so large that chance no longer counts."""
    errors, _ = draw(np.random.default_rng(987), 60_000)
    return np.asarray(np.abs(errors).mean(axis=0))


def holds(interval: Interval | None, truth: float) -> bool:
    """Return whether there is an interval and the truth in it."""
    return interval is not None and interval.low <= truth <= interval.high


def interval_of(values: Floats, who: list[int], positive: bool) -> Interval:
    """Return the interval as `mean_interval` gives it, however few people there are."""
    sums, counts = sums_and_counts(values, who)
    mean, error = float(sums.sum() / counts.sum()), jackknife_error(sums, counts)
    return student_interval(mean, error, len(sums), positive=positive)


def percentile_bootstrap(
    values: Floats, who: list[int], generator: np.random.Generator
) -> Interval:
    """Return the interval as it was given up to schema version 1."""
    sums, counts = sums_and_counts(values, who)
    people = len(sums)
    drawn = generator.integers(0, people, (REPLICATES, people))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    wide = math.sqrt(people / (people - 1)) * stdtrit(people - 1, (1 - LEVEL) / 2)
    low, high = np.quantile(means, [float(ndtr(wide)), 1 - float(ndtr(wide))])
    return Interval(float(low), float(high))


def coverage(draw: Draw, people: int, simulations: int) -> dict[str, float]:
    """Return the fraction of intervals that contain the true value."""
    truth = true_maes(draw)
    found: dict[str, list[bool]] = {"mae": [], "difference": [], "mae_bootstrap": []}
    for seed in range(simulations):
        generator = np.random.default_rng([seed, people])
        errors, who = draw(generator, people)
        sizes = np.abs(errors)
        found["mae"].append(holds(interval_of(sizes[:, 0], who, positive=True), truth[0]))
        differences = sizes[:, 0] - sizes[:, 1]
        interval = interval_of(differences, who, positive=False)
        found["difference"].append(holds(interval, truth[0] - truth[1]))
        former = percentile_bootstrap(sizes[:, 0], who, generator)
        found["mae_bootstrap"].append(holds(former, truth[0]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def exchangeable(generator: np.random.Generator, people: int) -> Floats:
    """Draw absolute errors of two estimators that chance alone tells apart."""
    scale = np.exp(generator.normal(0, 0.5, (people, 1)))
    return np.asarray(np.abs(scale * generator.normal(size=(people, 2))))


def heavier_tails(generator: np.random.Generator, people: int) -> Floats:
    """Draw Gaussian errors beside those of Student's t with 3 degrees of freedom, of equal MAE."""
    size = math.sqrt(2 / math.pi) / (2 * math.sqrt(3) / math.pi)
    errors = [generator.normal(size=people), size * generator.standard_t(3, people)]
    return np.abs(np.stack(errors, axis=1))


def rare_disasters(generator: np.random.Generator, people: int) -> Floats:
    """Draw errors that are always about 5 beside log-normal ones, mostly small, of equal MAE."""
    skewed = generator.lognormal(math.log(5.0) - 1.5**2 / 2, 1.5, people)
    return np.stack([5.0 + generator.uniform(-1, 1, people), skewed], axis=1)


def type_1_error(draw: Callable[[np.random.Generator, int], Floats], people: int, n: int) -> float:
    """Return how often the paired test at 5 % finds a difference that is not there."""
    rejected = 0
    for seed in range(n):
        errors = draw(np.random.default_rng([seed, people, 1]), people)
        rejected += sign_flip_p_values(errors, permutations=499, seed=seed)[0, 1] < 1 - LEVEL
    return rejected / n


def proportion_coverage(people: int, pictures: int, rate: float, simulations: int) -> float:
    """Return the fraction of intervals of a proportion that contain it."""
    held = 0
    for seed in range(simulations):
        generator = np.random.default_rng([seed, people, pictures])
        own = generator.beta(3 * rate, 3 * (1 - rate), people) if pictures > 1 else rate
        happened = generator.random((pictures, people)) < own
        codes = np.tile(np.arange(people), pictures) if pictures > 1 else None
        held += holds(proportion_interval(happened.ravel(), codes), rate)
    return held / simulations


def group_coverage(draw: Draw, simulations: int) -> float:
    """Return the fraction of intervals of a group's MAE that contain the true value."""
    truth, held = true_maes(draw)[0], 0
    for seed in range(simulations):
        generator = np.random.default_rng([seed, 7])
        errors, who = draw(generator, 82)
        rows = np.flatnonzero(generator.random(len(who)) < 0.25)
        clusters = [who[row] for row in rows.tolist()]
        held += holds(mean_interval(np.abs(errors[rows, 0]), clusters=clusters), truth)
    return held / simulations


def parts(simulations: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield the name of each part and of each line of it, with what computes it."""
    draws: dict[str, Draw] = {
        "gaussian": gaussian,
        "t3": heavy_tailed,
        "log-normal scale": of_many_scales,
    }
    if MEASURED.exists():
        draws["measured"] = measured()
    for kind, draw in draws.items():
        for people in PEOPLE:
            yield "coverage", f"{kind}, {people}", partial(coverage, draw, people, simulations)
        yield "group_coverage", kind, partial(group_coverage, draw, simulations)
    for shapes in (exchangeable, heavier_tails, rare_disasters):
        for people in TESTED_PEOPLE:
            name = f"{shapes.__name__}, {people}"
            yield "type_1_error", name, partial(type_1_error, shapes, people, simulations)
    for rate in (0.05, 0.2, 0.5):
        for people, pictures in ((10, 10), (20, 10), (80, 10), (20, 1), (100, 1)):
            name = f"{rate}, {people} x {pictures}"
            yield (
                "share_coverage",
                name,
                partial(proportion_coverage, people, pictures, rate, simulations),
            )


def main() -> None:
    """Simulate what is missing, print and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="forget what was computed before")
    args = parser.parse_args()
    simulations: int = args.simulations
    content: dict[str, Any] = {
        "simulations": simulations,
        "standard_error_at_0.95": math.sqrt(0.05 * 0.95 / simulations),
        "processor_seconds": 0.0,
    }
    if args.out.exists() and not args.anew:
        stored = json.loads(args.out.read_text())
        content = stored if stored["simulations"] == simulations else content
    for part, line, compute in track(list(parts(simulations)), "simulations"):
        if line in content.setdefault(part, {}):
            continue
        start = time.process_time()
        content[part][line] = compute()
        content["processor_seconds"] += time.process_time() - start
        write_whole(args.out, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
