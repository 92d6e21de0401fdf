"""The options of gates, which `compare` and `report` share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agebench.cli.help_all import rare_option
from agebench.cli.paths import FilePath

_OPTIONS = (
    click.option(
        "--fail-if",
        multiple=True,
        metavar="GATE",
        help="Exit with 1 if 'mae>5', 'NAME:p99_total_ms>20', ...",
    ),
    rare_option(
        "--baseline",
        type=FilePath(),
        help="Exit with 1 if worse than this stored result.json.",
    ),
    rare_option(
        "--tolerance", type=float, help="Years that the MAE may be above the baseline's [0.1]."
    ),
)


def gate_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--fail-if``, ``--baseline`` and ``--tolerance``.

    They are read before the command begins, which gets them as `gates`, one
    `agebench.harness.fail_if.Gates`.
    """

    @functools.wraps(function)
    def with_gates(
        *arguments: Any,
        fail_if: tuple[str, ...],
        baseline: Path | None,
        tolerance: float | None,
        **options: Any,
    ) -> None:
        from agebench.harness.fail_if import read_gates

        function(*arguments, gates=read_gates(fail_if, baseline, tolerance), **options)

    command: Callable[..., None] = with_gates
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
