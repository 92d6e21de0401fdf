"""Table rows from class probabilities: years, classes, and the cost of each change.

Used by tutorial_mistakes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_classes import ADIENCE_CLASSES, median, years_from_classes
from agebench.metrics.intervals import LEVEL
from agebench.metrics.label_accuracy import class_accuracy
from agebench.metrics.paired_tests import holm, needed_permutations, sign_flip_p_values
from agebench.protocols import DetectorSpec
from agebench.types import Face, Floats
from agebench.vision.frames import box_iou, canonical_frame, frame_box
from benchmarks.found_faces import Pictures, interval
from benchmarks.tutorial_scenes import BASE, TUTORIAL, called, the_face
from benchmarks.tutorial_shares import Probabilities

MOST_TESTED = 100
"""Maximum number of changes tested together on all sets; determines the number of permutations."""

OFF_THE_FACE = 0.3
"""A box with a lower IoU with the true face than this counts as off the face."""

LABEL_LISTS = {
    "published": "0-2 4-6 8-12 15-20 25-32 38-43 48-53 60-100",
    "gaps filled": "0-3 4-7 8-14 15-24 25-37 38-47 48-59 60-100",
    "gaps filled otherwise": "0-3 4-7 8-14 15-24 25-32 33-47 48-53 54-100",
    "five years each": "0-5 5-10 11-15 16-20 21-25 26-30 31-35 36-40",
    "grown-ups alone": "15-20 15-20 15-20 15-20 25-32 38-43 48-53 48-53",
}
"""Label lists used with this file in public code, by what is wrong with them."""

FITTED_TOO = ("margin 20 %", "margin 40 %", "margin 70 %", "ten crops", "ten crops, mean image")
"""Conditions that are also listed with the fitted years."""


@dataclass(frozen=True)
class Answer:
    """Years and classes for one condition; NaN and -1 for pictures without an answer."""

    years: Floats
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        n: pictures with an answer.
        none: pictures without a face.
        mae_years: mean absolute error, and low and high end of its 95 % interval (only the mean if
            there are too few people for an interval).
        difference_years: absolute error minus that of the base, over the pictures for which both
            have an answer; mean and interval as in `mae_years`, not corrected for multiple tests.
        bias_years: mean of predicted minus true age.
        exact: fraction (0 to 1) of the pictures with an age in one of the network's classes that
            were given that class; None if there are none.
        one_off: the same for that class or a neighbouring one.
        in_classes: number of such pictures.
        given: how often each of the eight classes was the most probable one.
        p_value: of the paired sign-flip test against the base; None for the base, and if there
            are too few people for a test.
        p_adjusted: the same after Holm's correction for the number of changes on all sets; None
            before the correction.
        shown: "better" or "worse" than the base if `p_adjusted` is below 0.05 and the interval,
            rounded to a tenth of a year as on the page, excludes 0; "" otherwise.
    """

    n: int
    none: int
    mae_years: tuple[float, ...]
    difference_years: tuple[float, ...]
    bias_years: float
    exact: float | None
    one_off: float | None
    in_classes: int
    given: tuple[int, ...]
    p_value: float | None = None
    p_adjusted: float | None = None
    shown: str = ""


def middles(labels: str) -> Floats:
    """Return the midpoint of each class in a list of labels, years.

    >>> middles("0-2 15-20").tolist()
    [1.0, 17.5]
    """
    return np.array([np.mean([int(end) for end in each.split("-")]) for each in labels.split()])


def answers(probabilities: Floats, tables: Mapping[str, Floats]) -> Iterator[tuple[str, Answer]]:
    """Yield the answers of each rule, by name, from probabilities (n, 8).

    Rows of NaN are pictures without an answer.
    """
    there = ~np.isnan(probabilities).any(axis=1)
    classes = np.full(len(probabilities), -1)
    classes[there] = probabilities[there].argmax(axis=1)

    def rule(make: Callable[[Floats], Floats]) -> Answer:
        years = np.full(len(probabilities), np.nan)
        years[there] = make(probabilities[there])
        return Answer(years, classes)

    bins = ADIENCE_CLASSES
    yield "", rule(lambda rows: years_from_classes(rows, bins, "expectation"))
    yield "midpoint of the likeliest", rule(lambda rows: years_from_classes(rows, bins, "midpoint"))
    yield "median", rule(lambda rows: median(rows, bins))
    for name, table in tables.items():
        which: Any = name
        label = "expectation" if name == "expectation" else "likeliest"

        def fitted(rows: Floats, which: Any = which, table: Floats = table) -> Floats:
            return years_from_classes(rows, bins, which, table)

        yield f"fitted years, {label}", rule(fitted)
    for name, text in LABEL_LISTS.items():
        if name != "published":
            years = np.where(there, middles(text)[classes], np.nan)
            yield f"labels: {name}", Answer(years, classes)


def row(answer: Answer, base: Answer, pictures: Pictures, none: int = 0) -> Row:
    """Return one row's figures; `none` is the number of pictures without a face."""
    ages, people = pictures.ages, np.array(pictures.people, object)
    there = ~np.isnan(answer.years)
    both = there & ~np.isnan(base.years)
    errors = np.abs(answer.years - ages)
    base_errors = np.abs(base.years - ages)
    change = errors - base_errors
    difference = interval(change[both], people[both].tolist())
    p_value = None
    if answer is not base and len(difference) > 1:
        p_values = sign_flip_p_values(
            np.stack([errors[both], base_errors[both]], axis=1),
            clusters=people[both].tolist(),
            permutations=needed_permutations(MOST_TESTED),
        )
        p_value = float(p_values[0, 1])
    accuracy = class_accuracy(ages[there], answer.classes[there], ADIENCE_CLASSES)
    return Row(
        n=int(there.sum()),
        none=none,
        mae_years=interval(errors[there], people[there].tolist()),
        difference_years=difference,
        bias_years=float(np.mean((answer.years - ages)[there])),
        exact=accuracy.exact,
        one_off=accuracy.one_off,
        in_classes=accuracy.n,
        given=tuple(np.bincount(answer.classes[there], minlength=8).tolist()),
        p_value=p_value,
    )


def corrected(sets: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows of all sets with p-values corrected together, and `shown` set accordingly."""
    tested = [
        (name, key, each.p_value)
        for name, rows in sets.items()
        for key, each in rows.items()
        if each.p_value is not None
    ]
    found = {name: dict(rows) for name, rows in sets.items()}
    adjusted = holm([p_value for _, _, p_value in tested])
    for (name, key, _), p_adjusted in zip(tested, adjusted, strict=True):
        each = found[name][key]
        _, low, high = each.difference_years
        shown = "worse" if round(low, 1) > 0 else "better" if round(high, 1) < 0 else ""
        found[name][key] = replace(
            each, p_adjusted=p_adjusted, shown=shown if p_adjusted < 1 - LEVEL else ""
        )
    return found


def shown(pictures: Pictures, known: Mapping[str, Probabilities]) -> Pictures:
    """Return the pictures for which the network's probabilities are known.

    Raises:
        ValueError: there are none.
    """
    samples = tuple(item for item in pictures.samples if "base" in known.get(item.name, {}))
    if not samples:
        raise ValueError(f"none of the pictures of {pictures.name} was asked about")
    return replace(pictures, samples=samples)


def measure(
    pictures: Pictures, known: Mapping[str, Probabilities], tables: Mapping[str, Floats]
) -> dict[str, Row]:
    """Return all rows of one set of pictures.

    Args:
        pictures: each must have probabilities under "base".
        known: probabilities by picture and condition; some are missing after an interrupted run.
        tables: fitted years for the eight classes, by rule.
    """
    by_picture = [known[item.name] for item in pictures.samples]
    nothing = [float("nan")] * 8
    by_rule = {}
    for key in {key: None for each in by_picture for key in each}:
        probabilities = np.array([each.get(key) or nothing for each in by_picture])
        by_rule[key] = dict(answers(probabilities, tables))
    base = by_rule["base"][""]

    def one(answer: Answer, key: str = "base") -> Row:
        none = sum(key in each and each[key] is None for each in by_picture)
        return row(answer, base, pictures, none)

    rows = {"base": one(base)}
    rows |= {key: one(rules[""], key) for key, rules in by_rule.items() if key != "base"}
    rows |= {name: one(each) for name, each in by_rule["base"].items() if name}
    box = f"box of {called(TUTORIAL)}"
    rows["the tutorial, exactly"] = one(by_rule[box]["midpoint of the likeliest"], box)
    fitted = [name for name in by_rule["base"] if name.startswith("fitted")]
    for key in (key for key in FITTED_TOO if key in by_rule):
        rows |= {f"{key}; {name}": one(by_rule[key][name], key) for name in fitted}
    constant = Answer(np.full(len(by_picture), 30.0), np.full(len(by_picture), 4))
    rows["30 for everybody"] = row(constant, base, pictures)
    return rows


@dataclass(frozen=True)
class Invented:
    """How often a detector reports false faces in pictures of one person.

    Attributes:
        looked_at: pictures with a face in which this detector found something.
        several_boxes: those of them with more than one box.
        best_is_off_the_face: those of them in which the box with the best score misses the face.
    """

    looked_at: int
    several_boxes: int
    best_is_off_the_face: int


def invented(
    pictures: Pictures, faces: Mapping[str, Mapping[str, Sequence[Face]]], spec: DetectorSpec
) -> Invented:
    """Count the pictures in which the tutorials' detector reports false faces.

    Args:
        pictures: pictures of one person each.
        faces: faces found by `BASE` and `TUTORIAL`, by detector and picture.
        spec: of `BASE`, whose frame is taken as the true face.
    """
    looked = several = off = 0
    for item in pictures.samples:
        boxes = faces[TUTORIAL][item.name]
        true = the_face(faces[BASE][item.name], BASE)
        best = the_face(boxes, TUTORIAL)
        if true is None or best is None:
            continue
        looked += 1
        several += len(boxes) > 1
        off += box_iou(best.box_xyxy, frame_box(canonical_frame(true, spec))) < OFF_THE_FACE
    return Invented(looked, several, off)
