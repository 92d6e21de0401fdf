"""Trying models of unknown origin in a separate process with limits, before loading them here.

The parsers of model files are large C++ programs.  A file may crash them, describe a network that
never finishes, or one that needs all memory of the machine.
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
"""A model that takes longer to load and to predict one face is considered to hang."""

TRIAL_MEMORY_GB = 6.0
"""Memory that it may use meanwhile, including libraries (about 0.3 GB)."""

_PARSED_IN_PYTHON = frozenset({"answers", "torch"})
"""Estimators whose files are not read by C++ code."""


def crash_of(reference: str, group: str = ESTIMATORS) -> str:
    """Try a model that is given by its path in a separate process; return how that failed.

    Returns "" if the process did not die; an ordinary error is raised again when the model is
    loaded here.  Models named without a path are not tried: they are verified by their hash.

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
        if not parsed.path.exists():  # reported at once, without a process
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
    """Refuse models that crash, hang or need too much memory, before they are loaded here.

    Args:
        estimators: references; None is skipped.
        detectors: the same.

    Raises:
        ChildDiedError: the process of one died; names it.
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
