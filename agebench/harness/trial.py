"""The one door for models that strangers made: a process of its own, with limits, goes first.

The parsers of model files are large programs in C++.  A file may crash them, describe a network
that never ends, or one that needs all memory of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

from agebench.errors import AgebenchError, UsageError
from agebench.references import called, parse_reference
from agebench.registry.plugins import DETECTORS, ESTIMATORS
from agebench.timing.children import ChildDiedError, ask_child
from agebench.util.checks import number_in

SECONDS_VARIABLE = "AGEBENCH_MODEL_SECONDS"
MEMORY_VARIABLE = "AGEBENCH_MODEL_MEMORY_GB"

TRIAL_SECONDS = 300.0
"""A model given by its path that takes longer to load and to answer for one face hangs."""

TRIAL_MEMORY_GB = 6.0
"""Memory that it may take meanwhile, libraries among it (some 0.3 GB)."""

_PARSED_IN_PYTHON = frozenset({"answers", "torch"})
"""Estimators whose files no importer in C++ reads."""


def crash_of(reference: str, group: str = ESTIMATORS) -> str:
    """Try a model that is given by its path in a process of its own; return how that ended.

    "" where it lived, even if it failed in a sentence: that is then raised here as well; and of
    models that are named without a path, which come with the package or are known by their hash.

    Args:
        reference: of an estimator or a detector.
        group: which of them.

    Raises:
        UsageError: a limit that the environment sets is not a number above 0.
    """
    limits = {"timeout_s": _limit(SECONDS_VARIABLE, TRIAL_SECONDS)}
    limits["memory_bytes"] = _limit(MEMORY_VARIABLE, TRIAL_MEMORY_GB) * 1e9
    parsed = parse_reference(reference)
    if parsed.path is None or parsed.name in _PARSED_IN_PYTHON:
        return ""
    try:
        if not parsed.path.exists():  # nothing to choke on: said at once, without a process
            return ""
    except (OSError, ValueError):
        return ""
    try:
        ask_child("trial", {"reference": reference, "group": group}, threads=1, **limits)
    except ChildDiedError as error:
        return str(error)
    except AgebenchError:
        pass
    return ""


def try_models(estimators: Iterable[str | None] = (), detectors: Iterable[str | None] = ()) -> None:
    """Refuse models that crash, hang or take too much, before they are loaded here.

    Args:
        estimators: references; None is passed over.
        detectors: the same.

    Raises:
        ChildDiedError: one did; names it.
    """
    for group, references in ((ESTIMATORS, estimators), (DETECTORS, detectors)):
        for reference in references:
            if reference is not None and (how := crash_of(reference, group)):
                raise ChildDiedError(f"{called(reference)} can't be used: {how}")


def _limit(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "")
    if not text:
        return usual
    value = number_in(text)
    if not 0 < value < math.inf:
        raise UsageError(f"{variable} must be a number above 0, got {text!r}")
    return value
