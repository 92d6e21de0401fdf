"""What several verbs use: paths, advanced options, `--fail-if`, refusals, and notes on stderr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from agebench.errors import UsageError, inert
from agebench.references import user_path

_ALL = "agebench.cli.options.all"


def print_note(sentence: str) -> None:
    """Print a sentence on stderr, after the program's name."""
    click.echo(f"agebench: {inert(sentence)}", err=True)


class AdvancedOption(click.Option):
    """An option that ``--help`` does not list."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line, if all options are shown."""
        return super().get_help_record(ctx) if ctx.meta.get(_ALL) else None


advanced_option = functools.partial(click.option, cls=AdvancedOption)
"""`click.option` for a `AdvancedOption`; the command needs `help_all` too."""


def _show_all(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


help_all = click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show all options.",
)


class FilePath(click.Path):
    """A path; an empty one, as from an unset variable, is refused instead of meaning this folder.

    A ``~`` is expanded, as shells don't do it in ``--out=~/results``.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if value == "":
            self.fail("the path is empty: is a variable unset?", param, ctx)
        return super().convert(user_path(value), param, ctx)


max_pixels_option = advanced_option(
    "--max-pixels",
    type=int,
    default=100_000_000,
    show_default=True,
    help="Refuse pictures with more pixels.",
)


def refuse_given(context: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were given on the command line.

    Args:
        context: of the command.
        names: of its parameters that have no effect here.
        why: follows the option in the message: "--frames is for videos".

    Raises:
        UsageError: one of them was given.
    """
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


def former_name(old: str, new: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Accept the earlier name of an option that takes a whole number, with a note on stderr.

    Args:
        old: the earlier name, such as "--workers", hidden from help and completion.
        new: the present name, an option of the command, whose parameter the command gets.
    """
    hidden = f"former_{old.removeprefix('--').replace('-', '_')}"

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def with_present_name(*arguments: Any, **options: Any) -> None:
            value = options.pop(hidden)
            if value is not None:
                options |= _renamed_option(old, new, hidden, value)
            function(*arguments, **options)

        return click.option(old, hidden, type=int, hidden=True)(with_present_name)

    return decorate


def _renamed_option(old: str, new: str, hidden: str, value: int) -> dict[str, int]:
    """Return the parameter that an earlier name sets; {} if the present name was given too."""
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    present = next(item for item in context.command.params if new in item.opts)
    name = str(present.name)
    context.params[hidden] = None  # run.toml has only the present name
    if context.get_parameter_source(name) is typed:
        if context.get_parameter_source(hidden) is typed:
            raise UsageError(f"{old} is the earlier name of {new}: give one of them")
        return {}
    print_note(f"{old} is now called {new}")
    context.params[name] = present.type_cast_value(context, value)
    return {name: context.params[name]}


_CHECK_OPTIONS = (
    click.option(
        "--fail-if",
        multiple=True,
        metavar="CONDITION",
        help="Exit with 1 if 'mae>5', 'NAME:p99_total_ms>20', ...",
    ),
    advanced_option(
        "--baseline",
        type=FilePath(),
        help="Exit with 1 if worse than this result.json.",
    ),
    advanced_option(
        "--tolerance", type=float, help="Years by which the MAE may exceed the baseline's [0.1]."
    ),
)


def check_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--fail-if``, ``--baseline`` and ``--tolerance``.

    They are read before the command starts, which gets them as `checks`, one
    `agebench.harness.fail_if.Checks`.
    """

    @functools.wraps(function)
    def with_checks(
        *arguments: Any,
        fail_if: tuple[str, ...],
        baseline: Path | None,
        tolerance: float | None,
        **options: Any,
    ) -> None:
        from agebench.harness.fail_if import read_checks

        function(*arguments, checks=read_checks(fail_if, baseline, tolerance), **options)

    command: Callable[..., None] = with_checks
    for option in reversed(_CHECK_OPTIONS):
        command = option(command)
    return command
