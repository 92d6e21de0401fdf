"""Checkpoints: one safetensors file with weights, optimiser and everything else needed to resume.

The format holds numbers and text alone, so that a stranger's checkpoint can't run code.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from torch import Tensor

from agebench.errors import WeightsError
from agebench.modelfiles.downloads import stub_in
from agebench.train.settings import TrainSettings, settings_from
from agebench.train.stability import (
    DIVERGED,
    DivergedError,
    EpochRecord,
    history_from_json,
    history_to_json,
)
from agebench.types import LABEL_KINDS, LabelKind, plain
from agebench.util.files import write_whole
from agebench.util.private_paths import without_folders
from agebench.util.regular_files import read_regular
from agebench.util.tensor_files import in_fixed_order


@dataclass(slots=True)
class RunState:
    """The state of a run: everything but tensors that is needed to resume exactly.

    Attributes:
        plan: steps that were planned when the run began: the warm-up and the stages are fractions
            of these, even if the run is extended.
        step: steps made so far.
        history: completed epochs.
        rate: product of the stability rule's cuts.
        before: losses of the previous epoch's last steps, for the jump.
        losses: losses of the current epoch so far.
        best_mae: lowest validation MAE so far, years.
        decision: the decision after the last epoch.
        reason: of that decision.
        seconds: spent in training so far.
    """

    plan: int = 0
    step: int = 0
    history: tuple[EpochRecord, ...] = ()
    rate: float = 1.0
    before: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best_mae: float = math.inf
    decision: str = "go on"
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON-compatible values."""
        return {
            **plain(self),
            "history": json.loads(history_to_json(self.history)),
            "best_mae": None if math.isinf(self.best_mae) else self.best_mae,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> RunState:
        """Return the state from the values of `to_json`.

        Raises:
            WeightsError: a value is missing or of another kind.
            AgebenchError: the history of epochs is damaged.
        """
        try:
            best = values["best_mae"]
            return RunState(
                plan=int(values.get("plan", 0)),
                step=int(values["step"]),
                history=history_from_json(json.dumps(values["history"])),
                rate=float(values["rate"]),
                before=[float(loss) for loss in values["before"]],
                losses=[float(loss) for loss in values["losses"]],
                best_mae=math.inf if best is None else float(best),
                decision=str(values["decision"]),
                reason=str(values["reason"]),
                seconds=float(values["seconds"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WeightsError(
                f"the checkpoint's state can't be read ({type(error).__name__}: {error})"
            ) from error

    @property
    def ended(self) -> bool:
        """Whether the stability rule has ended the run."""
        return self.decision in ("stable", "change structure")


FORMAT = "agebench-train 2"
OLD_FORMAT = "agebench-train 1"
"""The same with former names of settings, tensors and facts; it can still be read."""

LARGEST_BYTES = 8_000_000_000
LARGEST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        settings: of the run.
        state: of the run, see `RunState`, as JSON-compatible values.
        about: facts about the data and the machine, as JSON-compatible values.
        model: weights of the last step, by name.
        averaged: averaged weights.
        optimiser: the optimiser's tensors, by name; empty in a file for inference only.
    """

    settings: TrainSettings
    state: Mapping[str, Any]
    about: Mapping[str, Any]
    model: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]

    def about_text(self, part: str, name: str) -> str:
        """Return a fact about the data, such as ("dataset", "name"), or "" if it is missing."""
        value = self.about.get(part, {}).get(name, "")
        return value if isinstance(value, str) else ""  # the file may be from anybody

    @property
    def trained_on(self) -> str:
        """The training pictures, in words."""
        name, protocol = self.about_text("dataset", "name"), self.about_text("split", "protocol")
        first = f"{name} {protocol}/{self.settings.data.train_part}".strip()
        return " + ".join((first, *self.settings.data.extra_sets))

    @property
    def trained_sets(self) -> tuple[str, ...]:
        """Names of the training sets, each once."""
        names = (self.about_text("dataset", "name"), *self.settings.data.extra_sets)
        return tuple(dict.fromkeys(filter(None, names)))

    @property
    def label_kind(self) -> LabelKind:
        """How the true ages were determined."""
        stated = self.about_text("dataset", "label_kind")
        return next((kind for kind in LABEL_KINDS if kind == stated), "unknown")

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            DivergedError: a number is not finite; an existing file is unchanged.
            AgebenchError: the folder can't be written to, or the disk is full.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for group, values in self._groups().items():
            for name, value in values.items():
                # NumPy is several times as fast as PyTorch with many small tensors.
                array = arrays[f"{group}/{name}"] = value.detach().cpu().contiguous().numpy()
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise DivergedError(
                        f"{group} {name!r} is not finite, so {path} was not changed: {DIVERGED}"
                    )
        settings = shared_settings(self.settings)
        head = {"settings": settings, "state": self.state, "about": self.about}
        metadata = {"format": FORMAT, "agebench": json.dumps(head, allow_nan=False)}
        write_whole(path, in_fixed_order(save_arrays(arrays, metadata)))

    def _groups(self) -> dict[str, Mapping[str, Tensor]]:
        return {"model": self.model, "averaged": self.averaged, "optimiser": self.optimiser}


def plain_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return settings as JSON-compatible values; `settings_from` reads them back."""
    values: dict[str, Any] = plain(settings)
    return values


def shared_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return settings for files that are passed on: only the last part of paths is kept."""
    values = plain_settings(settings)
    values["start"] = without_folders(values["start"])
    data = values["data"]
    tables = [(data, "root"), (data, "protocol"), (values["teacher"], "file")]
    for table, name in (*tables, *((extra, "root") for extra in data["extra"].values())):
        table[name] = without_folders(table[name])
    return values


def _header(data: bytes, path: Path) -> dict[str, Any]:
    """Return the metadata of a safetensors file."""
    expected = f"{path} is not a checkpoint of agebench"
    other = "to measure another network, export it to ONNX and describe that in a spec file"
    if stub := stub_in(data):
        raise WeightsError(f"{expected}: {stub}")
    if len(data) < 8 or (length := struct.unpack("<Q", data[:8])[0]) > LARGEST_HEADER_BYTES:
        raise WeightsError(
            f"{expected}: it is not a safetensors file (pickled ones are never read); {other}"
        )
    try:
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        if metadata.get("format") not in (FORMAT, OLD_FORMAT):
            found = metadata.get("format")
            its = "it is of another library" if found is None else f"its format is {found!r:.60}"
            raise WeightsError(f"{expected}: {its}; {other}")
        head: object = json.loads(metadata["agebench"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{expected}: its header can't be read: it is truncated, damaged or of another kind; "
            "pickled files are never read"
        ) from error
    parts = ("settings", "state", "about")
    if not (isinstance(head, dict) and all(isinstance(head.get(key), dict) for key in parts)):
        missing = ", ".join(parts)
        raise WeightsError(f"{expected}: its header must contain tables called {missing}")
    about, history = head["about"], head["state"].get("history", [])
    tables = (about.get("dataset", {}), about.get("split", {}))
    if not (isinstance(history, list) and all(isinstance(table, dict) for table in tables)):
        raise WeightsError(f"{expected}: the facts about the run in its header are invalid")
    _rename_old(about)
    return head


def _rename_old(about: dict[str, Any]) -> None:
    """Rename facts that earlier versions stored under other names."""
    started, extra = about.get("started_from"), about.get("extra")
    tables = [(started, "rounds", "epochs")]
    if isinstance(extra, dict):
        tables += [(source, "share", "fraction") for source in extra.values()]
    for table, old, new in tables:
        if isinstance(table, dict) and old in table:
            table[new] = table.pop(old)


def _tensor_name(name: str) -> str:
    """Return the current name of a tensor: earlier versions called backbones trunks.

    >>> _tensor_name("exp_avg/trunks.face.stem.0.weight")
    'exp_avg/backbones.face.stem.0.weight'
    """
    return re.sub(r"^([^/]*/)?trunks\.", r"\1backbones.", name)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        WeightsError: there is no file, or it is damaged or not a checkpoint.
        UsageError: this version does not know its settings.
    """
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no file"
            raise WeightsError(
                f"{path}: expected a checkpoint, found {found}: name a file such as "
                "RUN/best.safetensors"
            )
        if path.stat().st_size > LARGEST_BYTES:
            raise WeightsError(f"{path} is not a checkpoint: it is larger than 8 GB")
        data = read_regular(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror}") from error
    head = _header(data, path)
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{path} is damaged or truncated: its {len(data):,} bytes are not what its header says "
            f"({error}): compare its size with that of the original"
        ) from error
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "optimiser": {}}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        if group not in groups or not _finite(value):
            raise WeightsError(
                f"{path} is not a usable checkpoint: tensor {key!r:.80} is unknown or contains "
                "numbers that are not finite"
            )
        groups[group][_tensor_name(name)] = value
    settings = settings_from(head["settings"], str(path))
    return Checkpoint(settings, head["state"], head["about"], **groups)


def require_fit(
    own: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str = "weights"
) -> None:
    """Check that saved tensors have the names and shapes of a model's tensors.

    Raises:
        WeightsError: they don't; the message names the first difference.
    """
    for name in sorted(own.keys() | saved.keys()):
        expected, found = (
            tuple(values[name].shape) if name in values else "none" for values in (own, saved)
        )
        if expected != found:
            raise WeightsError(
                f"the checkpoint's {what} are those of a different network: {name!r:.100} has "
                f"shape {found}, expected {expected}"
            )


def _finite(value: Tensor) -> bool:
    return not value.dtype.is_floating_point or bool(torch.isfinite(value).all())
