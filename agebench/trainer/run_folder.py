"""The folder of a run: its lock, the checkpoint to resume from, the list of omitted pictures.

Also the initial weights that a run may take from another run's checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from agebench.duplicates.training_hashes import (
    RUN_HASHES,
    TrainingHashes,
    find_hashes,
    read_training_hashes,
)
from agebench.errors import AgebenchError, UsageError, WeightsError
from agebench.modelfiles.weights import sha256_of
from agebench.protocols import Dataset
from agebench.references import user_path
from agebench.train.checkpoint import Checkpoint, plain_settings, read_checkpoint
from agebench.train.logs import (
    EPOCH_COLUMNS,
    EPOCHS_FILE,
    OLD_EPOCHS_FILE,
    STEP_COLUMNS,
    STEPS_FILE,
)
from agebench.train.loop import BEST_FILE, LAST_FILE
from agebench.train.settings import TrainSettings
from agebench.types import Problem
from agebench.util import locks
from agebench.util.files import (
    csv_line,
    make_folder,
    refuse_input,
    refuse_nested,
    write_whole,
)
from agebench.util.regular_files import read_regular

CURVES_FILE = "curves.png"
EVALUATION_FILE = "evaluation.json"
LEFT_OUT_FILE = "left-out.csv"

FREE_SETTINGS = frozenset(
    {
        *("device", "checkpoint_minutes", "epochs", "data.decode_threads"),
        # Only used before the first step and may be omitted later; `_check_start` compares it.
        "start",
        # Paths of the pictures and of a teacher's answers, which are compared by content.
        *("data.root", "data.extra.*.root", "data.protocol", "teacher.file"),
    }
)
"""Settings that may differ when a run is resumed; "*" stands for an extra data set's name."""

_EXTRA = re.compile(r"^data\.extra\.\w+\.")


@contextmanager
def alone_in_run(folder: Path) -> Iterator[None]:
    """Create the folder of a run, and lock it within the context.

    Raises:
        AgebenchError: it can't be created or written to, or another run uses it.
    """
    make_folder(folder, f"{folder}", "name a folder")
    with locks.alone_in(folder):
        _remove_leftovers(folder)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of checkpoints from runs that were killed; see `write_whole`."""
    for name in (LAST_FILE, BEST_FILE):
        for leftover in folder.glob(f".{name}.*"):
            with suppress(OSError):
                leftover.unlink()


def checkpoint_to_resume(folder: Path, settings: TrainSettings) -> Checkpoint | None:
    """Return the last checkpoint of the run in a folder; None if there is no run.

    Raises:
        WeightsError: it is damaged, or the best checkpoint is missing.
        UsageError: the run was started with other settings.
    """
    last = folder / LAST_FILE
    if not last.exists():
        with suppress(WeightsError):  # none, or a damaged one
            _check_settings(settings, read_checkpoint(folder / BEST_FILE).settings)
        return None
    try:
        saved = read_checkpoint(last)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; the run can't be resumed from it: copy {BEST_FILE} over it to resume from "
            "the best epoch, or remove it to start over"
        ) from error
    _check_settings(settings, saved.settings)
    _check_start(settings.start, saved)
    if saved.state.get("best_mae") is not None and not (folder / BEST_FILE).is_file():
        raise best_is_unusable(WeightsError(f"{folder / BEST_FILE} does not exist"))
    return saved


def require_free(folder: Path, *roots: str, start: str = "") -> None:
    """Check that a new run can use a folder.

    Args:
        folder: of the new run.
        roots: of the data sets; "" for one that includes its pictures.
        start: the checkpoint that it starts from; "" for none.

    Raises:
        UsageError: it is inside a data set's folder, which would then include the run's files, or
            contains `start`, or files with the names of a run's files although there is no run.
    """
    for name in (LAST_FILE, BEST_FILE):
        refuse_input(folder / name, [start])
    for root in filter(None, roots):
        refuse_nested(folder, user_path(root))
    if any((folder / name).exists() for name in (LAST_FILE, BEST_FILE, RUN_HASHES)):
        return  # a run was started here, or its last checkpoint was removed to start over
    logs = (STEPS_FILE, EPOCHS_FILE, OLD_EPOCHS_FILE)
    for name in (*logs, EVALUATION_FILE, CURVES_FILE, LEFT_OUT_FILE):
        if (folder / name).exists() and not _is_empty_log(folder / name):
            raise UsageError(
                f"{folder / name} exists although there is no run, and would be overwritten: move "
                "it away, or name another folder"
            )


def require_apart(folder: Path, dataset: Dataset) -> None:
    """Check that a new run's folder holds no picture of a data set, whose root may be a list.

    Raises:
        UsageError: it does; the run's plot would be taken for one of the pictures.
    """
    places = {sample.path.parent for sample in dataset.samples}
    if folder.resolve() in {place.resolve() for place in places}:
        raise UsageError(
            f"--out {folder} is the folder of the data set's pictures, and the run's files would "
            "be mixed with them: name another folder"
        )


def _is_empty_log(log: Path) -> bool:
    """Return whether it is a log with only a header, as after a disk full error at the start."""
    heads = {STEPS_FILE: STEP_COLUMNS, EPOCHS_FILE: EPOCH_COLUMNS}
    try:
        return log.name in heads and log.read_bytes() == csv_line(heads[log.name]).encode()
    except OSError:
        return False


def best_is_unusable(error: WeightsError) -> WeightsError:
    """Return the error for a best checkpoint that can't be read, with advice."""
    return WeightsError(
        f"{error}; copy {LAST_FILE} over it to use the last weights as the best ones, and run the "
        "same command again"
    )


def _check_settings(settings: TrainSettings, saved: TrainSettings) -> None:
    """Check that the settings are those that the run was started with."""
    current, recorded = (_flat(plain_settings(values)) for values in (settings, saved))
    for key in sorted(current.keys() | recorded.keys()):
        free = _EXTRA.sub("data.extra.*.", key) in FREE_SETTINGS
        if not free and current.get(key) != recorded.get(key):
            raise UsageError(
                f"the run in this folder was started with other settings ({key!r} was "
                f"{recorded.get(key)!r:.60}, is {current.get(key)!r:.60}): use the same settings, "
                "or another folder"
            )
    if settings.epochs != saved.epochs and settings.optim.schedule == "cosine":
        raise UsageError(
            f"the run was planned for {saved.epochs} epochs, and its learning rate follows from "
            f"that: it can't be changed to {settings.epochs}"
        )


def _check_start(start: str, saved: Checkpoint) -> None:
    """Check that `start`, if given, is the file that the run was started from."""
    recorded, recorded_path = saved.about.get("started_from"), saved.settings.start
    if not start or start == recorded_path:
        return
    path = user_path(start)
    if recorded_path and path.resolve() == user_path(recorded_path).resolve():
        return
    if isinstance(recorded, Mapping):
        sha256 = recorded.get("sha256")
        with suppress(WeightsError):  # it can't be read
            if sha256_of(path) == sha256:  # the same file under another name
                return
        was = repr(recorded_path) if recorded_path else f"a file of sha256 {sha256!r:.20}"
    else:
        was = "none"
    raise UsageError(
        f"the run in this folder was started from other weights (start was {was}, is {start!r}): "
        "omit start to resume, or name another folder"
    )


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{where}{name}.")
        else:
            flat[where + name] = value
    return flat


def check_contents(folder: Path, hashes: Sequence[str]) -> None:
    """Check that the training pictures are those that the run was started with.

    Raises:
        UsageError: a picture with other content was added.
        AgebenchError: the run's list of its pictures is damaged.
    """
    known = read_training_hashes(folder / RUN_HASHES)
    changed = sum(not known.contains(sha256) for sha256 in hashes)
    if changed:
        raise UsageError(
            f"{changed} of the {len(hashes)} training pictures differ from those that the run in "
            "this folder was started with: use the same pictures, or another folder"
        )


def check_labels(about: Mapping[str, Any], saved: Checkpoint) -> None:
    """Check that labels and contents are those that the run was started with.

    Raises:
        UsageError: those of a part differ.
    """
    known = saved.about.get("contents")
    if not isinstance(known, Mapping):
        return  # a run of an earlier version
    for part, fingerprint in about["contents"].items():
        if fingerprint != known.get(part):
            raise UsageError(
                f"labels or contents of the part {part!r} differ from those that the run in this "
                "folder was started with: use the same pictures, or another folder"
            )


def check_pictures(about: Mapping[str, Any], saved: Checkpoint) -> None:
    """Check that the pictures and the teacher are those that the run was started with.

    Raises:
        UsageError: the split, the number of pictures or the teacher differs.
    """
    for name in ("split", "pictures", "teacher"):
        if about.get(name) != saved.about.get(name):
            what = "another teacher" if name == "teacher" else "other pictures"
            raise UsageError(
                f"the run in this folder was started with {what} ({name!r} was "
                f"{saved.about.get(name)}, is {about.get(name)}): use the earlier ones again, "
                "or another folder"
            )


def evaluation_of(folder: Path) -> dict[str, Any]:
    """Return the evaluation of the run in a folder; {} if it has not ended.

    Raises:
        AgebenchError: the file can't be read; it may record an evaluation on the test part.
    """
    path = folder / EVALUATION_FILE
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
        reason = "it does not contain a JSON object"
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, RecursionError):
        reason = "it is not valid JSON"
    raise AgebenchError(f"{path} can't be read: {reason}: move it away")


def write_left_out(folder: Path, left_out: Mapping[str, Sequence[Problem]]) -> str:
    """Write the list of all pictures that were left out.

    Args:
        folder: of the run.
        left_out: by part, or by the step that left them out.

    Returns:
        A summary in one line; "" if none was left out.
    """
    rows = [
        (part, problem.name, problem.reason)
        for part, problems in left_out.items()
        for problem in problems
    ]
    lines = map(csv_line, [("part", "picture", "reason"), *rows])
    write_whole(folder / LEFT_OUT_FILE, "".join(lines))
    if not rows:
        return ""
    counts = ", ".join(
        f"{len(problems):,} ({part})" for part, problems in left_out.items() if problems
    )
    (reason, count), *others = Counter(reason for _part, _name, reason in rows).most_common()
    why = f"{reason:.80}" + (f" ({count:,} of them)" if others else "")
    return f"pictures left out: {counts}: see {folder / LEFT_OUT_FILE}; {why}"


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The weights of an earlier run.

    Attributes:
        weights: its averaged weights, by name.
        sha256: of the file.
        epochs: that it was trained for.
        split: of its pictures.
        trained_on: its training pictures; None if there is no list next to it.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    epochs: int
    split: object
    trained_on: TrainingHashes | None

    def about(self, val: Sequence[str]) -> dict[str, Any]:
        """Return the facts about the initial weights that a checkpoint stores.

        Args:
            val: SHA-256 of the validation pictures; errors on those that were trained on are too
                low.
        """
        trained = self.trained_on
        return {
            "sha256": self.sha256,
            "epochs": self.epochs,
            "split": self.split,
            "trained_on": None if trained is None else len(trained),
            "val_seen": None if trained is None else sum(map(trained.contains, val)),
        }

    def union(self, hashes: TrainingHashes) -> TrainingHashes:
        """Return the training pictures of the new and the earlier run."""
        if self.trained_on is None:
            return hashes
        return TrainingHashes(hashes.what, hashes.prefixes | self.trained_on.prefixes)


def read_start(path: Path) -> Start:
    """Read a checkpoint that a run starts from.

    Raises:
        WeightsError: there is no file, or it is damaged or not a checkpoint.
        AgebenchError: the list of training pictures next to it is damaged.
    """
    saved = read_checkpoint(path)
    return Start(
        saved.averaged,
        hashlib.sha256(read_regular(path)).hexdigest(),
        len(saved.state.get("history") or ()),
        saved.about.get("split"),
        find_hashes(path, path.parent / RUN_HASHES),
    )


def start_remark(about: Mapping[str, Any]) -> str:
    """Return a remark on the initial weights for the user.

    >>> start_remark({"trained_on": 100, "val_seen": 3})
    'the initial weights were trained on 3 of the validation pictures: their errors will be too low'
    """
    if about["trained_on"] is None:
        return (
            "the training pictures of the initial weights are unknown: they may include validation "
            "pictures"
        )
    if about["val_seen"]:
        return (
            f"the initial weights were trained on {about['val_seen']:,} of the validation "
            "pictures: their errors will be too low"
        )
    return f"started with weights of {about['epochs']:,} epochs"
