"""How long fuzzing takes: seconds by default, AGEBENCH_FUZZ_MINUTES per test when it is set."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# `tests.fuzz.mutations` and its neighbours are no tests, so pytest does not make them importable.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.fuzz.model_child import Child
from tests.fuzz.promises import FIGURES, figures

MINUTES = float(os.environ.get("AGEBENCH_FUZZ_MINUTES") or 0)

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
_SLOW += [HealthCheck.large_base_example, HealthCheck.differing_executors]

# The same inputs every time, so that a change is to blame for what fails.
settings.register_profile(
    "short",
    max_examples=75,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "long", max_examples=200, deadline=None, database=None, suppress_health_check=_SLOW
)
settings.load_profile("long" if MINUTES else "short")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Repeat a test with new inputs until its minutes are over."""
    if not MINUTES or Path(__file__).parent not in pyfuncitem.path.parents:
        return None
    if not is_hypothesis_test(pyfuncitem.obj):
        return None  # it would try the same again and again
    names = pyfuncitem._fixtureinfo.argnames
    given: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    end = time.monotonic() + MINUTES * 60
    while True:
        pyfuncitem.obj(**given)
        if time.monotonic() >= end:
            return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long runs the time that they were promised."""
    if MINUTES:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout(MINUTES * 60 + 900))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures of every family."""
    if FIGURES:
        terminalreporter.section("fuzzing")
        for line in figures():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    """The process that models and pictures are tried in."""
    process = Child()
    yield process
    process.close()
