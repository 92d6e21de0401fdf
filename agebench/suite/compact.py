"""Converting full results to the files of a leaderboard, without pictures, their names, or paths.

A set's file has its labels, a model's file its ages on every set.  Together they suffice for every
figure of the page; `board` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agebench.harness.contents import Seen
from agebench.harness.contents_pictures import Picture, Prediction
from agebench.harness.reading import ResultFile
from agebench.metrics.age_errors import METRICS
from agebench.metrics.error_summary import summarise
from agebench.metrics.label_accuracy import distance_to_range, range_hit
from agebench.suite.packed import FAILED, NO_FACE, STEP_YEARS, as_years, pack_numbers
from agebench.timing.latency import StageTimes
from agebench.types import plain

FORMAT = 1
_NOT_KEPT = ("root", "problems")
_MAX_GROUPS = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """A result of one model on one set.

    Attributes:
        set_key: of the set, in the suite.
        variant: how its pictures were changed; "" for no change.
        result: its file.
        name: of the model, there.
    """

    set_key: str
    variant: str
    result: ResultFile
    name: str


def compact_set(
    key: str,
    title: str,
    note: str,
    groups: Sequence[str],
    result: ResultFile,
    *,
    changed: bool,
) -> dict[str, Any]:
    """Return the file of a set: its description and its labels.

    Args:
        key: of the set, in the suite.
        title: on the page.
        note: remark on its column.
        groups: attributes to keep.
        result: any result on it.
        changed: whether these are the changed pictures, which may be a part of the set.
    """
    images = result.pictures
    dataset = result.written["dataset"]
    kept = {name: value for name, value in dataset.items() if name not in _NOT_KEPT}
    kept["notes"] = _without_names(result.dataset.notes, [image["picture"] for image in images])
    people = [image["identity"] for image in images]
    exact = [image["true_years"] for image in images]
    ranges = [image.get("true_range") for image in images]
    return {
        "format": FORMAT,
        "key": key,
        "changed": changed,
        "title": title or key,
        "note": note,
        "dataset": kept,
        "pictures": len(images),
        "true_years": _packed(exact, lambda age: round(age / STEP_YEARS)),
        "range_low": _packed(ranges, lambda pair: int(pair[0])),
        "range_high": _packed(ranges, lambda pair: int(pair[1])),
        "people": None if set(people) <= {None} else pack_numbers(_codes(people)),
        "groups": {
            name: _group([image["attributes"].get(name) for image in images]) for name in groups
        },
    }


def compact_cell(measured: Measured) -> dict[str, Any]:
    """Return a model's file with a single cell, from one result."""
    content, written, name = measured.result.content, measured.result.written, measured.name
    at, entry = next((at, item) for at, item in enumerate(content.estimators) if item.name == name)
    cell = {
        "set": measured.set_key,
        "variant": measured.variant,
        "spec": 0,
        "detector": 0,
        "environment": 0,
        "created": content.created,
        "seed": content.settings["seed"],
        "content_sha256": content.dataset.content_sha256,
        "pictures": len(content.pictures),
        "runtime_proven": entry.runtime_proven,
        "seen_in_training": _seen(entry.seen_in_training),
        "contamination": entry.contamination or "",
        **figures_of(content.pictures, name),
    }
    return {
        "format": FORMAT,
        "model": name,
        "title": name,
        "specs": [written["estimators"][at]["spec"]],
        "detectors": [written["detector"]],
        "environments": [written["environment"]],
        "cells": [cell],
    }


def joined_cells(title: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one model's file from several; what its cells have in common is stored once.

    The number of kept detections is left out, as it differs between runs, and the detectors of two
    cells would never be equal.  For changed pictures only the ages are stored, which suffice for
    every figure of the page, since there are many such cells.

    Args:
        title: of the model on the page.
        parts: at least one, of the same model.
    """
    tables: dict[str, list[Any]] = {"specs": [], "detectors": [], "environments": []}
    cells = []
    for part in parts:
        for cell in part["cells"]:
            shared = {name: part[f"{name}s"][cell[name]] for name in ("spec", "environment")}
            detector = part["detectors"][cell["detector"]]
            shared["detector"] = {
                name: value for name, value in detector.items() if name != "kept_detections"
            }
            places = {name: _place(tables[f"{name}s"], value) for name, value in shared.items()}
            left_out = ("errors", "ranges") if cell["variant"] else ()
            kept = {name: value for name, value in cell.items() if name not in left_out}
            cells.append({**kept, **places})
    name = parts[0]["model"]
    return {"format": FORMAT, "model": name, "title": title or name, **tables, "cells": cells}


def figures_of(images: Sequence[Picture], name: str) -> dict[str, Any]:
    """Return the packed ages of a model and its figures over all pictures it gave an age for."""
    numbers = np.array([_number(image, image["predictions"].get(name)) for image in images])
    years = as_years(numbers)
    true = np.array([np.nan if (age := image["true_years"]) is None else age for image in images])
    # Rounded as in the files, so that figures computed from these are exactly equal.
    true = np.rint(true / STEP_YEARS) / round(1 / STEP_YEARS)
    bounds = [image.get("true_range") for image in images]
    people = [image["identity"] for image in images]
    return {"years": pack_numbers(numbers), **stated_figures(numbers, years, true, bounds, people)}


def stated_figures(
    numbers: Any,
    years: Any,
    true: Any,
    bounds: Sequence[Sequence[float] | None],
    people: Sequence[str | int | None],
) -> dict[str, Any]:
    """Return the figures that a file states, and that a check recomputes.

    Args:
        numbers: packed ages, shape (n,).
        years: the same in years, NaN if there is none.
        true: known ages, NaN if there is none.
        bounds: known ranges of ages, None if there is none.
        people: who each picture shows, None if not known.
    """
    rows = np.flatnonzero(np.isfinite(years) & np.isfinite(true)).tolist()
    identities = [people[row] for row in rows]
    clusters = identities if any(name is not None for name in identities) else None
    errors = summarise(true[rows], years[rows], clusters=clusters)
    ranged = [row for row in np.flatnonzero(np.isfinite(years)).tolist() if bounds[row] is not None]
    table = np.array([bounds[row] for row in ranged], np.float64).reshape(-1, 2)
    return {
        "scored": int(np.isfinite(years).sum()),
        "missed": int((numbers == NO_FACE).sum()),
        "failed": int((numbers == FAILED).sum()),
        "errors": {
            "n": errors.n,
            "mae_years": errors.mae_years,
            "mae_interval": plain(errors.mae_interval),
            **{metric.key: errors.figure(metric) for metric in METRICS},
            "cs": plain(errors.cs),
        },
        "ranges": {
            "n": len(ranged),
            "hit_rate": float(range_hit(table, years[ranged]).mean()),
            "distance_years": float(distance_to_range(table, years[ranged]).mean()),
        }
        if ranged
        else None,
    }


def compact_times(set_key: str, result: ResultFile) -> dict[str, Any]:
    """Return the file of the run that timed all models, with percentiles but without samples."""
    content, written = result.content, result.written
    return {
        "format": FORMAT,
        "set": set_key,
        "created": content.created,
        "environment": written["environment"],
        "detector": content.detector.reference,
        "threads": content.settings.get("threads"),
        "too_busy": result.too_busy,
        "shared": {stage: _percentiles(times) for stage, times in content.shared_latency.items()},
        "models": {
            item.name: {
                "runtime": as_written["spec"]["runtime"],
                **{stage: _percentiles(times) for stage, times in item.latency.items()},
            }
            for item, as_written in zip(content.estimators, written["estimators"], strict=True)
            if item.available and item.latency
        },
    }


def _percentiles(times: StageTimes) -> dict[str, Any]:
    ends = {f"p{percent}_ms": times.percentile(percent) for percent in (10, 50, 90)}
    return {"n": len(times.samples_ms), **ends}


def _number(image: Picture, outcome: Prediction | None) -> int:
    if outcome is not None and outcome["status"] == "ok" and outcome["years"] is not None:
        return round(float(outcome["years"]) / STEP_YEARS)
    return NO_FACE if image["status"] == "no_face" else FAILED


def _packed(values: Sequence[Any], number: Any) -> str | None:
    if all(value is None for value in values):
        return None
    return pack_numbers([-1 if value is None else number(value) for value in values])


def _codes(names: Sequence[str | None]) -> list[int]:
    """Number names by first appearance; -1 if there is none."""
    known: dict[str, int] = {}
    return [-1 if name is None else known.setdefault(name, len(known)) for name in names]


def _group(values: Sequence[str | None]) -> dict[str, Any]:
    names = sorted({value for value in values if value is not None})[:_MAX_GROUPS]
    places = {name: at for at, name in enumerate(names)}
    codes = [-1 if value is None else places.get(value, -1) for value in values]
    return {"names": names, "codes": pack_numbers(codes)}


def _without_names(notes: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return notes without names of pictures, which may be given as examples (see `gathering`)."""
    found = list(notes)
    for name in sorted(names, key=len, reverse=True):
        found = [note.replace(f", such as {name}: ", ": ") for note in found]
    return found


def _place(table: list[Any], value: Any) -> int:
    if value not in table:
        table.append(value)
    return table.index(value)


def _seen(seen: Seen | None) -> dict[str, Any] | None:
    """Return how many pictures it was trained on, without their names."""
    if seen is None:
        return None
    near = seen.near_copies
    return {
        "what": seen.what,
        "count": seen.count,
        "near_copies": None if near is None else {"count": near.count},
    }
