"""What the small files of a leaderboard must be: a stranger may have sent one of them."""

from __future__ import annotations

from typing import Any

from agebench.report.contents import (
    COUNT,
    DATASET,
    DETECTOR,
    ENVIRONMENT,
    ERRORS,
    ERRORS_OF_LATER,
    MOST_ESTIMATORS,
    MOST_PARTS,
    RANGES,
    RUNTIME,
    SHARE,
    SPEC,
)
from agebench.report.structure import (
    Check,
    StructureError,
    filled,
    flag,
    listed,
    mapping,
    maybe,
    number,
    one_of,
    record,
    text,
    whole,
)
from agebench.suite.compact import FORMAT
from agebench.suite.packed import MOST_PICTURES
from agebench.suite.plan import require_key

_MS = record({"n": COUNT, **{f"p{at}_ms": maybe(number(0)) for at in (10, 50, 90)}})
PICTURES = whole(1, MOST_PICTURES)


def key(value: Any) -> None:
    """Accept what can be a set's key."""
    filled(value)
    try:
        require_key(value)
    except ValueError as error:
        raise StructureError("lower-case letters, digits and hyphens", value) from error


SET = record(
    {
        "format": one_of((FORMAT,)),
        "key": key,
        "changed": flag,
        "title": filled,
        "note": text,
        "dataset": record(DATASET),
        "pictures": PICTURES,
        "true_years": maybe(text),
        "range_low": maybe(text),
        "range_high": maybe(text),
        "people": maybe(text),
        "groups": mapping(record({"names": listed(text, most=MOST_PARTS), "codes": text})),
    }
)
"""A file of a set."""

_SEEN = record(
    {"what": text, "count": COUNT, "near_copies": maybe(record({"count": COUNT}))},
)

_CELL: Check = record(
    {
        "set": key,
        "variant": text,
        "spec": COUNT,
        "detector": COUNT,
        "environment": COUNT,
        "created": text,
        "seed": COUNT,
        "content_sha256": text,
        "pictures": PICTURES,
        "runtime_proven": flag,
        "seen_in_training": maybe(_SEEN),
        "contamination": text,
        "years": text,
        "scored": COUNT,
        "missed": COUNT,
        "failed": COUNT,
    }
)

_STATED: Check = record(
    {
        "errors": record({**ERRORS, "cs": mapping(maybe(SHARE))}, ERRORS_OF_LATER),
        "ranges": maybe(RANGES),
    }
)


def cell(value: Any) -> None:
    """Accept a model's cell; of changed pictures the ages alone may stand there."""
    _CELL(value)
    if not value["variant"] or "errors" in value:
        _STATED(value)


MODEL = record(
    {
        "format": one_of((FORMAT,)),
        "model": filled,
        "title": filled,
        "specs": listed(SPEC, most=MOST_PARTS),
        "detectors": listed(DETECTOR, most=MOST_PARTS),
        "environments": listed(ENVIRONMENT, most=MOST_PARTS),
        "cells": listed(cell, most=MOST_PARTS),
    }
)
"""A file of a model, which is also what a stranger hands in."""

TIMES = record(
    {
        "format": one_of((FORMAT,)),
        "set": key,
        "created": text,
        "environment": ENVIRONMENT,
        "detector": filled,
        "too_busy": text,
        "shared": mapping(_MS),
        "models": mapping(record({"runtime": RUNTIME, "infer": _MS, "crop": _MS, "total": _MS})),
    }
)
"""The file of the run that timed all models."""

BOARD = record(
    {
        "format": one_of((FORMAT,)),
        "title": filled,
        "sets": listed(key, most=MOST_PARTS),
        "empty_sets": listed(record({"key": key, "title": filled}), most=MOST_PARTS),
        "models": listed(
            record(
                {"name": filled, "title": filled, "file": maybe(filled), "missing": mapping(text)},
                {"suspected": mapping(filled)},
            ),
            most=MOST_ESTIMATORS,
        ),
    }
)
"""The list of what a leaderboard holds, in its order, and why what is not there is not."""
