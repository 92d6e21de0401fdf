"""Options that were given although they would decide nothing."""

from __future__ import annotations

from collections.abc import Iterable

import click

from agebench.errors import UsageError


def refuse_given(context: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that stand on the command line.

    Args:
        context: of the command.
        names: parameters of it, which have no meaning here.
        why: follows the option in the sentence: "--frames is for videos".

    Raises:
        UsageError: one of them was given.
    """
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} {why}")
