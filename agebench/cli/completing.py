"""Shell completion of names: estimators, detectors, data sets, protocols, formats.

Only names are read and no plug-in is imported, as the shell waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import click
from click.shell_completion import CompletionItem

from agebench.registry.plugins import DATASETS, DETECTORS, ESTIMATORS, list_plugins


class Names(click.types.StringParamType):
    """A text option with completion of names.

    Args:
        names: returns them.
        several: whether it takes several names, separated by commas.
    """

    def __init__(self, names: Callable[[], Iterable[str]], *, several: bool = False) -> None:
        self._names = names
        self._several = several

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names with that prefix; see `click.ParamType.shell_complete`."""
        before, comma, prefix = (
            incomplete.rpartition(",") if self._several else ("", "", incomplete)
        )
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in sorted(self._names())
            if name.startswith(prefix)
        ]


def _plugins(group: str) -> Callable[[], Iterable[str]]:
    return lambda: (plugin.name for plugin in list_plugins(group))


def _protocols() -> Iterable[str]:
    from agebench.splits.protocols import PROTOCOLS

    return PROTOCOLS


def _formats() -> Iterable[str]:
    from agebench.report.formats import FORMATS

    return FORMATS


_TYPES: Mapping[str, Names] = {
    "dataset": Names(_plugins(DATASETS)),
    "detector": Names(_plugins(DETECTORS)),
    "face_detector": Names(_plugins(DETECTORS)),
    "export_detector": Names(_plugins(DETECTORS)),
    "estimator": Names(_plugins(ESTIMATORS)),
    "estimators": Names(_plugins(ESTIMATORS)),
    "model": Names(_plugins(ESTIMATORS)),
    "protocol": Names(_protocols),
    "formats": Names(_formats, several=True),
}
"""Completion by the names of parameters, which mean the same in all verbs."""


def offer_names(command: click.Command) -> None:
    """Add completion to a command's options that take names."""
    for item in command.params:
        if item.type is click.STRING and item.name in _TYPES:
            item.type = _TYPES[item.name]
