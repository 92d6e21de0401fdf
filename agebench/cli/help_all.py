"""Help that fits a screen: options that few need are shown by ``--help-all`` alone."""

from __future__ import annotations

import functools

import click

_ALL = "agebench.cli.help_all.all"


class RareOption(click.Option):
    """An option like any other, but that ``--help`` does not list it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line, if all were asked for."""
        return super().get_help_record(ctx) if ctx.meta.get(_ALL) else None


rare_option = functools.partial(click.option, cls=RareOption)
"""`click.option` for a `RareOption`; the command needs `help_all` too."""


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
