"""Everything a comparison needs, loaded before it starts, so that it does not stop halfway."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from agebench.duplicates.training_hashes import KnowsItsTraining, TrainingHashes
from agebench.errors import (
    AgebenchError,
    ContractError,
    DatasetError,
    UsageError,
    WeightsUnavailableError,
)
from agebench.harness.contents_setup import Spec
from agebench.harness.selection import SplitMaker, find_split
from agebench.harness.trial import crash_of
from agebench.protocols import Dataset, Estimator, FaceDetector
from agebench.references import called
from agebench.registry.plugins import (
    DETECTORS,
    ESTIMATORS,
    load_dataset,
    named_estimator,
    require_registered,
)
from agebench.types import plain
from agebench.util.foreign_code import foreign_code
from agebench.util.record_fields import StructureError
from agebench.util.typed_records import read_record
from agebench.vision.regions import require_regions


@dataclass(frozen=True, slots=True)
class Contender:
    """An estimator of a comparison, or why it takes no part.

    Attributes:
        name: what it is called in the result: the reference as given, unique.
        estimator: None where it is unavailable.
        reason: why it is unavailable; "" where it is not.
        trained: the pictures that it was trained on, where it knows them.
        load: makes a second copy of it; None for an object that was given as it is.
    """

    name: str
    estimator: Estimator | None
    reason: str = ""
    trained: TrainingHashes | None = None
    load: Callable[[], Estimator] | None = None


def reads_back_its_runtime(model: object) -> bool:
    """Return whether an estimator or detector is agebench's own, as `runtimes` opened it.

    Its `RuntimeInfo` was then read back from the library after loading.  What a class from
    elsewhere says of itself is taken down as said: nobody has looked.
    """
    return type(model).__module__.partition(".")[0] == __package__.partition(".")[0]


def check_names(
    estimators: Sequence[str | Estimator | Contender], detector: str | FaceDetector | None
) -> None:
    """Check whatever can be checked before any model file is looked for.

    Raises:
        UsageError: no estimator was given, or a name is malformed or unknown.
    """
    if isinstance(estimators, str):
        raise UsageError(f"expected a list of estimators, got one text: use [{estimators!r}]")
    if not estimators:
        raise UsageError("no estimator was given ('agebench ls estimators' lists them)")
    for item in estimators:
        if isinstance(item, str):
            require_registered(ESTIMATORS, item)
    if isinstance(detector, str):
        require_registered(DETECTORS, detector)


def load_contenders(
    estimators: Sequence[str | Estimator | Contender], *, skip_unavailable: bool
) -> list[Contender]:
    """Load all estimators but those that are loaded already.

    A model whose file crashes its parser is listed as unavailable, whatever `skip_unavailable`
    says, and the others go on.

    Raises:
        UsageError: one was given twice, or asks for a region that does not exist.
        WeightsUnavailableError: a model file is not available and `skip_unavailable` is off, or
            none of the estimators could be loaded.
    """
    contenders = [load_contender(item, skip_unavailable=skip_unavailable) for item in estimators]
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"estimator {name!r} is given twice: give it once")
    if all(contender.estimator is None for contender in contenders):
        raise WeightsUnavailableError(
            "no estimator is available: "
            + "; ".join(f"{contender.name}: {contender.reason}" for contender in contenders)
        )
    return contenders


def load_contender(item: str | Estimator | Contender, *, skip_unavailable: bool) -> Contender:
    """Load one estimator; see `load_contenders`.

    Raises:
        UsageError: it asks for a region that does not exist.
        WeightsUnavailableError: a model file is not available and `skip_unavailable` is off.
    """
    if isinstance(item, Contender):
        return _checked(item)
    if not isinstance(item, str):
        return _checked(Contender(*named_estimator(item)))
    name = called(item)
    crash = crash_of(item)
    if crash:
        return Contender(name, None, crash)
    try:
        loaded = Contender(*named_estimator(item), load=lambda: named_estimator(item)[1])
        return _checked(loaded)
    except WeightsUnavailableError as error:
        if not skip_unavailable:
            raise WeightsUnavailableError(
                f"{name}: {str(error).removesuffix('.')} (or leave it out with --skip-unavailable)"
            ) from error
        return Contender(name, None, str(error))


def _checked(contender: Contender) -> Contender:
    """Refuse an estimator that asks for a region that nobody can cut, or that no result can hold.

    A class from elsewhere may have a spec of its own making: better now than after a long run.
    """
    if contender.estimator is not None:
        spec = contender.estimator.spec
        require_regions(contender.name, spec.crop)
        try:
            read_record(json.loads(json.dumps(plain(spec))), Spec)
        except (StructureError, TypeError) as error:
            raise ContractError(
                f"{contender.name}: its spec can't stand in a result: {error}"
            ) from error
    return replace(contender, trained=_training_hashes(contender))


def _training_hashes(contender: Contender) -> TrainingHashes | None:
    """Ask an estimator for the pictures it was trained on, before anything long begins."""
    estimator = cast("object", contender.estimator)  # it may keep the second protocol too
    if not isinstance(estimator, KnowsItsTraining):
        return None
    try:
        with foreign_code(estimator, "training_hashes"):
            trained = cast("object", estimator.training_hashes())
    except AgebenchError:
        raise
    except Exception as error:  # a stranger's estimator may fail in any way
        raise ContractError(
            f"{contender.name}: training_hashes() failed: {type(error).__name__}: {error}"
        ) from error
    if trained is not None and not isinstance(trained, TrainingHashes):
        raise ContractError(
            f"{contender.name}: training_hashes() must give TrainingHashes or None, got "
            f"{type(trained).__name__}"
        )
    return trained


def load_pictures(
    dataset: str | Dataset, root: Path | None, protocol: str | None
) -> tuple[Dataset, SplitMaker | None]:
    """List the data set, and check the protocol that it is to be split by.

    Returns:
        All pictures, and what splits them, if that was asked for.

    Raises:
        UsageError: a root is missing or not wanted, or the protocol is unknown.
        DatasetError: there is no usable picture, or the split file does not fit.
    """
    if isinstance(dataset, str):
        dataset = load_dataset(dataset, root)
    if not isinstance(cast("object", dataset), Dataset):
        raise UsageError(
            f"expected a data set or its name, got {type(dataset).__name__}: "
            "it needs `spec`, `samples` and `problems`"
        )
    if not dataset.samples:
        raise DatasetError(f"data set {dataset.spec.name!r} holds no usable picture")
    return dataset, None if protocol is None else find_split(dataset, protocol)
