"""All settings of a training run: a TOML file, any key of which the command line can override."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from agebench.errors import UsageError
from agebench.train.bootstrap import BootstrapSettings
from agebench.train.model_settings import ModelSettings
from agebench.train.sections import (
    AugmentSettings,
    DataSettings,
    LossSettings,
    OptimSettings,
    TeacherSettings,
)
from agebench.train.stability import StabilitySettings
from agebench.util.checks import require_range
from agebench.util.regular_files import read_regular
from agebench.util.typed_records import read_dataclass

LARGEST_FILE_BYTES = 1_000_000
MAX_LINE_DOTS = 1000
"""Lines with more dots are refused: parsing ``a.a.a...=1`` takes quadratic time."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A whole training run; every part is a table of the TOML file.

    Attributes:
        epochs: how many are planned; the stability rule may end training before.  An epoch trains
            on one bootstrap sample.
        passes: times that an epoch goes through its sample.
        batch: pictures per step, over all processes.
        seed: of all random numbers but the samples of epochs (`bootstrap.seed`).
        device: "cpu" or "cuda".
        precision: "float32", or "bf16" for mixed precision.
        flip_average: validation averages the predictions for each picture and its mirror image.
        decode: how a distribution becomes an age.
        checkpoint_minutes: longest time between checkpoints within an epoch.
        start: a checkpoint of the same network whose averaged weights are the initial ones; ""
            initialises the weights at random with the seed.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    stability: StabilitySettings = field(default_factory=StabilitySettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    epochs: int = 40
    passes: int = 1
    batch: int = 128
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bf16"] = "float32"
    flip_average: bool = True
    decode: Literal["expectation", "median"] = "expectation"
    checkpoint_minutes: float = 10.0
    start: str = ""

    def __post_init__(self) -> None:
        require_range(self, ("epochs", "passes"), 1, 100_000)
        require_range(self, ("batch",), 2, 65_536)
        require_range(self, ("seed",), 0, (1 << 32) - 1)
        require_range(self, ("checkpoint_minutes",), 0, 1_000_000)
        model = self.model
        has_heads = model.network == "resnet" and model.fusion == "late" and model.auxiliary
        if self.optim.staged and not has_heads:
            raise ValueError(
                "optim.staged trains every backbone with an auxiliary head: it needs "
                'model.auxiliary = true and model.fusion = "late"'
            )


def read_settings(
    path: Path | None,
    overrides: Sequence[str] = (),
    texts: Mapping[str, str] = MappingProxyType({}),
    notify: Callable[[str], None] = lambda _line: None,
) -> TrainSettings:
    """Read a settings file and apply overrides such as ``"optim.learning_rate=1e-3"``.

    Args:
        path: the TOML file; None for the defaults.
        overrides: applied in order; of several for one key the last one wins.
        texts: values by key that are not parsed as TOML, such as a folder named 2024; applied
            before the overrides.
        notify: called with one line for every key that is given by its old name.

    Raises:
        UsageError: the file can't be read or is not valid TOML, or a key or value is invalid.
    """
    values = {} if path is None else _read_toml(path)
    where = "the settings" if path is None else str(path)
    values = _renamed(values, where, notify)
    where = f"{where}, with --set" if overrides else where
    for key, text in texts.items():
        _put(values, key.split("."), text, f"{key}={text}")
    for override in overrides:
        _override(values, override, notify)
    return settings_from(_renamed(values, where, notify), where)


def _renamed(
    values: Mapping[str, Any], where: str, notify: Callable[[str], None]
) -> dict[str, Any]:
    try:
        renamed, notes = renamed_values(values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    for note in notes:
        notify(f"{where}: {note}")
    return renamed


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError(f"{path} is not a settings file: it has more than 1,000,000 bytes")
        text = read_regular(path).decode("utf-8")
        if max(line.count(".") for line in text.split("\n")) > MAX_LINE_DOTS:
            raise UsageError(f"{path}: a line has more than {MAX_LINE_DOTS} dots: split it")
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}: name a TOML file") from error
    except (ValueError, RecursionError) as error:  # also what tomllib and utf-8 raise
        raise UsageError(f"{path} is not a valid TOML file: {error}") from error


def _override(values: dict[str, Any], text: str, notify: Callable[[str], None]) -> None:
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise UsageError(f"expected key=value, such as optim.learning_rate=1e-3, got {text!r}")
    try:
        line = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        line = {}
    new_names = renamed_path(names)
    if new_names != names:
        notify(f"--set {'.'.join(names)} is now called {'.'.join(new_names)}")
    # Anything that is not valid TOML is a string typed without quotes.
    _put(values, new_names, line["value"] if list(line) == ["value"] else value, text)


def _put(values: dict[str, Any], names: Sequence[str], value: object, text: str) -> None:
    table = values
    for name in names[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{text!r}: {name} is a single setting, not a table of settings")
        table = inner
    table[names[-1]] = value


def settings_from(values: Mapping[str, Any], where: str) -> TrainSettings:
    """Check nested settings, as read from TOML or JSON, and fill in the defaults.

    Keys may have the names of earlier versions (`RENAMED_KEYS`).

    Raises:
        UsageError: a key or value is invalid; the message names it.
    """
    try:
        return read_dataclass(renamed_values(values)[0], TrainSettings)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


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
"""New names of settings that files, checkpoints and ``--set`` may still give by the old one.

The key is the path of the old name, in which "*" matches any name.
"""


def renamed_path(path: Sequence[str]) -> list[str]:
    """Return a key's path with the current names.

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
    """Return nested settings with the current names of their keys.

    Args:
        values: as read from TOML or JSON.
        where: the path of `values`.

    Returns:
        The settings, and a sentence for each old key in them.

    Raises:
        ValueError: a setting is given by both of its names.

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
                    f"{old} is the old name of {now}, and both are given: remove {old}"
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
