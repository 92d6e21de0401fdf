"""Former names of settings, which files, checkpoints and ``--set`` may still use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

RENAMED_KEYS: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("rounds",): "epochs",
        ("stability", "rounds"): "epochs",
        ("stability", "min_rounds"): "min_epochs",
        ("model", "views", "*", "trunk"): "backbone",
        ("data", "train_share"): "train_fraction",
        ("data", "extra", "*", "share"): "fraction",
        ("data", "workers"): "decode_threads",
        ("optim", "small_share"): "small_fraction",
    }
)
"""The new last name by the path of the old key; "*" stands for any name."""


def renamed_path(path: Sequence[str]) -> list[str]:
    """Return a key's path with its present names.

    >>> renamed_path(["stability", "min_rounds"])
    ['stability', 'min_epochs']
    """
    new: list[str] = []
    for depth, name in enumerate(path):
        new.append(_new_name((*path[:depth], name)))
    return new


def renamed_values(
    values: Mapping[str, Any], where: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return a nest of settings with the present names of its keys.

    Args:
        values: as TOML or JSON gives it.
        where: the path of `values`.

    Returns:
        The nest, and a sentence for each old key in it.

    Raises:
        ValueError: a setting is given under both of its names.

    >>> renamed_values({"rounds": 3, "seed": 1})
    ({'epochs': 3, 'seed': 1}, ['rounds is now called epochs'])
    """
    renamed: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in values.items():
        path = (*where, name)
        new = _new_name(path)
        if new != name:
            old, now = ".".join(path), ".".join((*where, new))
            if new in values:
                raise ValueError(
                    f"{old} is the old name of {now}, which is given too: leave it out"
                )
            notes.append(f"{old} is now called {now}")
        if isinstance(value, Mapping) and _may_hold_old(path):
            value, inner = renamed_values(value, path)  # noqa: PLW2901 - the same table, renamed
            notes += inner
        renamed[new] = value
    return renamed, notes


def _new_name(path: tuple[str, ...]) -> str:
    for old, new in RENAMED_KEYS.items():
        if _fits(path, old):
            return new
    return path[-1]


def _may_hold_old(path: tuple[str, ...]) -> bool:
    return any(_fits(path, old[: len(path)]) for old in RENAMED_KEYS if len(old) > len(path))


def _fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(path) == len(pattern) and all(
        wanted in ("*", name) for name, wanted in zip(path, pattern, strict=True)
    )
