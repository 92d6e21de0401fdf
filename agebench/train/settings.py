"""All settings of a training run: a TOML file, and any key of it overridden on the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from agebench.errors import UsageError
from agebench.train.augment_settings import AugmentSettings
from agebench.train.bootstrap import BootstrapSettings
from agebench.train.loss_settings import LossSettings
from agebench.train.model_settings import ModelSettings
from agebench.train.old_keys import renamed_path, renamed_values
from agebench.train.stability import StabilitySettings
from agebench.types import frozen_mapping
from agebench.util.regular_files import read_regular
from agebench.util.typed_records import read_dataclass


@dataclass(frozen=True, slots=True)
class ExtraData:
    """A further data set, all pictures of which are trained on and none validated on.

    Attributes:
        dataset: name with options, as for `agebench compare`, such as "fairface part=train".
        root: where it lies; "" for a set that brings its own pictures.
        detector: finds the faces; "aligned" for chips.
        fraction: of its pictures that is used, drawn once by the run's seed.
        label_weight: weight of its labels in the loss, 0 to 1; below 1 for labels that are often
            wrong, 0 to learn from the teacher's answers alone.
    """

    dataset: str
    root: str = ""
    detector: str = "aligned"
    fraction: float = 1.0
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is above 0 up to 1, got {self.fraction}")
        if not 0 <= self.label_weight <= 1:
            raise ValueError(f"label_weight is from 0 to 1, got {self.label_weight}")


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Answers of other networks to the training pictures, learned beside the labels.

    Attributes:
        file: the answers, as `benchmarks/teacher_answers.py` writes them; "" for none.
        weight: fraction of the loss that is theirs where a picture has an answer, above 0 up to 1;
            the labels have the rest.
    """

    file: str = ""
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is above 0 up to 1, got {self.weight}")


LARGEST_FILE_BYTES = 1_000_000
MAX_LINE_DOTS = 1000
"""More dots in a line are refused: the time to read ``a.a.a...=1`` grows with their square."""


_EXTRA_NAME = re.compile("[a-z][a-z0-9_]*")

_ANY_PICTURES = frozenset({"csv", "folders", "names", "prepared"})
"""Data sets that say how pictures lie, and not which they are."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which pictures are trained on.

    Attributes:
        dataset: name with options, as for `agebench compare`.
        root: where it lies; "" for a set that brings its own pictures.
        detector: finds the faces; "aligned" for chips.
        protocol: how it is split, or a split file.
        train_part, val_part, test_part: parts of that split.
        train_fraction: of the training part that is used, drawn once by the seed.
        longest_px: windows around faces are shrunk to this side.
        decode_threads: how many decode pictures; 0 decodes where they are used.
        extra: further data sets by a name of one's own, whose pictures are trained on too.
    """

    dataset: str = "utkface"
    root: str = ""
    detector: str = "aligned"
    protocol: str = "utkface-full"
    train_part: str = "train"
    val_part: str = "val"
    test_part: str = "test"
    train_fraction: float = 1.0
    longest_px: int = 256
    decode_threads: int = 2
    extra: Mapping[str, ExtraData] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", frozen_mapping(self.extra))
        for name in self.extra:
            if not _EXTRA_NAME.fullmatch(name):
                raise ValueError(
                    "an extra data set's name must consist of lower-case letters, digits and "
                    f"'_', got {name!r:.80}"
                )
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction is above 0 up to 1, got {self.train_fraction}")
        parts = {"val": self.val_part, "test": self.test_part}
        for name, part in parts.items():
            if part == self.train_part:
                raise ValueError(
                    f"{name}_part is {part!r}, which is used for training: its figures would mean "
                    "nothing"
                )
        if not 16 <= self.longest_px <= 4096:
            raise ValueError(f"longest_px is from 16 to 4096, got {self.longest_px}")
        if not 0 <= self.decode_threads <= 256:
            raise ValueError(f"decode_threads is from 0 to 256, got {self.decode_threads}")

    @property
    def roots(self) -> tuple[str, ...]:
        """Where all data sets lie; "" for one that brings its own pictures."""
        return (self.root, *(source.root for source in self.extra.values()))

    @property
    def extra_sets(self) -> tuple[str, ...]:
        """What the further sets are called: a known set's own name, else the one given here."""
        words = ((name, (source.dataset.split() or [""])[0]) for name, source in self.extra.items())
        return tuple(name if word in {"", *_ANY_PICTURES} else word for name, word in words)


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """How the weights are moved.

    Attributes:
        optimiser: "adamw" (Loshchilov & Hutter 2017) or "sgd" with Nesterov momentum 0.9.
        learning_rate: at its highest.
        weight_decay: on weights of convolutions and dense layers, not on norms and biases.
        schedule: after the warm-up, "cosine" falls to nearly 0 at the last planned epoch,
            "constant" stays and is lowered by the stability rule alone.
        warmup: fraction of the planned steps in which the rate rises.
        clip_norm: longest gradient; 0 for no limit.
        ema: decay of the averaged weights per step; 0 for none.
        auxiliary_weight: weight of the mean of the backbones' own losses.
        mixup: alpha of mixup's beta distribution (Zhang et al. 2017); 0 for none.
        staged: instead of training all jointly, the backbones alone for this fraction of the
            steps, then the dense layer for half of what is left, then all; 0 for joint.
        small_fraction: of the steps, from the first, in which crops are smaller.
        small_scale: by how much.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    clip_norm: float = 2.0
    ema: float = 0.998
    auxiliary_weight: float = 0.3
    mixup: float = 0.0
    staged: float = 0.0
    small_fraction: float = 0.0
    small_scale: float = 0.75

    def __post_init__(self) -> None:
        for name in ("learning_rate", "small_scale"):
            if not 0 < getattr(self, name) <= 10:
                raise ValueError(f"{name} is above 0 up to 10, got {getattr(self, name)}")
        for name in ("warmup", "ema", "staged", "small_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is from 0 to 1, got {getattr(self, name)}")
        for name, largest in _LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} is from 0 to {largest:g}, got {getattr(self, name)}")


_LARGEST = {"weight_decay": 10, "clip_norm": 1e6, "auxiliary_weight": 1e3, "mixup": 100}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A whole training run; every part is a table of the TOML file.

    Attributes:
        epochs: how many are planned; the stability rule may end training before.  An epoch trains
            on one bootstrap sample.
        passes: times that an epoch goes through its sample.
        batch: pictures per step, over all processes.
        seed: of everything that is drawn.
        device: "cpu" or "cuda".
        precision: "float32", or "bf16" for mixed precision.
        flip_average: validation averages each picture and its mirror image.
        decode: from the distribution to years.
        checkpoint_minutes: at most so long between checkpoints within an epoch.
        start: a checkpoint of the same network, whose averaged weights are begun with; "" draws
            them by the seed.
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
        for name in ("epochs", "passes"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise ValueError(f"{name} is from 1 to 100,000, got {getattr(self, name)}")
        if not 2 <= self.batch <= 65_536:
            raise ValueError(f"batch is from 2 to 65,536, got {self.batch}")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed is from 0 to {(1 << 32) - 1}, got {self.seed}")
        if not 0 <= self.checkpoint_minutes <= 1e6:
            raise ValueError(f"checkpoint_minutes is from 0, got {self.checkpoint_minutes}")
        late = self.model.fusion == "late" and self.model.auxiliary
        late = late and self.model.network == "resnet"
        if self.optim.staged and not late:
            raise ValueError(
                "optim.staged trains every backbone by its own head: it needs model.auxiliary and "
                "late fusion"
            )


def read_settings(
    path: Path | None,
    overrides: Sequence[str] = (),
    texts: Mapping[str, str] = MappingProxyType({}),
    say: Callable[[str], None] = lambda _line: None,
) -> TrainSettings:
    """Read a settings file and apply overrides such as ``"optim.learning_rate=1e-3"``.

    Args:
        path: the TOML file; None for the defaults.
        overrides: applied in order; the last word on a key.
        texts: values by key that are texts as they are, such as a folder named 2024; before
            the overrides.
        say: is told in a line of every key that is given by its old name.

    Raises:
        UsageError: the file can't be read or is not valid TOML, or a key or value is not known.
    """
    values = {} if path is None else _read_toml(path)
    where = "the settings" if path is None else str(path)
    values = _renamed(values, where, say)
    for key, text in texts.items():
        _put(values, key.split("."), text, f"{key}={text}")
    for override in overrides:
        _override(values, override, say)
    return settings_from(_renamed(values, where, say), where)


def _renamed(values: Mapping[str, Any], where: str, say: Callable[[str], None]) -> dict[str, Any]:
    try:
        renamed, notes = renamed_values(values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    for note in notes:
        say(f"{where}: {note}")
    return renamed


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError(f"{path} is not a settings file: it has more than 1,000,000 bytes")
        text = read_regular(path).decode("utf-8")
        if max(line.count(".") for line in text.split("\n")) > MAX_LINE_DOTS:
            raise UsageError(f"{path}: a line has more than {MAX_LINE_DOTS} dots: divide it")
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}: name a TOML file") from error
    except (ValueError, RecursionError) as error:  # also what tomllib and utf-8 raise
        raise UsageError(f"{path} is not a valid TOML file: {error}") from error


def _override(values: dict[str, Any], text: str, say: Callable[[str], None]) -> None:
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
        say(f"--set {'.'.join(names)} is now called {'.'.join(new_names)}")
    # What is not valid TOML is a text without quotes, as one types it.
    _put(values, new_names, line["value"] if list(line) == ["value"] else value, text)


def _put(values: dict[str, Any], names: Sequence[str], value: object, text: str) -> None:
    table = values
    for name in names[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{text!r}: {name} is not a table of settings")
        table = inner
    table[names[-1]] = value


def settings_from(values: Mapping[str, Any], where: str) -> TrainSettings:
    """Check a nest of settings, as TOML or JSON gives it, and fill in the rest.

    Keys may have the names of earlier versions (`agebench.train.old_keys`).

    Raises:
        UsageError: a key or value is not known; names it.
    """
    try:
        return read_dataclass(renamed_values(values)[0], TrainSettings)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
