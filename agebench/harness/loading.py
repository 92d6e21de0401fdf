"""Loading everything a comparison needs before it starts, so that it does not fail halfway."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from agebench.duplicates.training_hashes import KnowsItsTraining, TrainingHashes
from agebench.errors import (
    AgebenchError,
    ContractError,
    DatasetError,
    MissingDependencyError,
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
    """An estimator of a comparison, or the reason why it is not available.

    Attributes:
        name: its unique name in the result: the reference as given.
        estimator: None if it is not available.
        reason: why it is not available; "" if it is.
        trained: the pictures that it was trained on, if it lists them.
        load: loads a second copy; None if an object was given.
    """

    name: str
    estimator: Estimator | None
    reason: str = ""
    trained: TrainingHashes | None = None
    load: Callable[[], Estimator] | None = None


def reads_back_its_runtime(model: object) -> bool:
    """Return whether an estimator or detector is agebench's own, as `runtimes` opened it.

    Its `RuntimeInfo` was then read back from the library after loading.  That of a class from
    another package is recorded unchecked.
    """
    return type(model).__module__.partition(".")[0] == __package__.partition(".")[0]


def check_names(
    estimators: Sequence[str | Estimator | Contender], detector: str | FaceDetector | None
) -> None:
    """Check what can be checked before any model file is looked for.

    Raises:
        UsageError: no estimator was given, they are no list, or a name is malformed or unknown.
    """
    if isinstance(estimators, str):
        raise UsageError(f"expected a list of estimators, got one string: use [{estimators!r}]")
    if not estimators:
        raise UsageError("no estimator was given ('agebench ls estimators' lists them)")
    if not isinstance(cast("object", estimators), Collection):
        got = type(estimators).__name__
        raise UsageError(
            f"expected a list of estimators, got {got}: put even a single one in a list"
        )
    for item in estimators:
        if isinstance(item, str):
            require_registered(ESTIMATORS, item)
    if isinstance(detector, str):
        require_registered(DETECTORS, detector)


def load_contenders(
    estimators: Sequence[str | Estimator | Contender], *, skip_unavailable: bool
) -> list[Contender]:
    """Load all estimators that are not loaded yet.

    A model whose file crashes its parser is listed as not available whatever `skip_unavailable` is,
    and the others are measured.

    Raises:
        UsageError: one was given twice, or needs a region that does not exist.
        WeightsUnavailableError: a model file is not available and `skip_unavailable` is off, or
            none of the estimators could be loaded.
        MissingDependencyError: a model's library is not installed and `skip_unavailable` is off.
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
        UsageError: it needs a region that does not exist.
        WeightsUnavailableError: a model file is not available and `skip_unavailable` is off.
        MissingDependencyError: the same of a library.
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
    except (WeightsUnavailableError, MissingDependencyError) as error:
        if not skip_unavailable:
            raise type(error)(
                f"{name}: {str(error).removesuffix('.')} (or leave it out with --skip-unavailable, "
                "in Python skip_unavailable=True)"
            ) from error
        return Contender(name, None, str(error))


def _checked(contender: Contender) -> Contender:
    """Refuse an estimator whose spec has an unknown region or can't be written to a result.

    A class from another package may have any spec: better to fail now than after a long run.
    """
    if contender.estimator is not None:
        spec = contender.estimator.spec
        require_regions(contender.name, spec.crop)
        try:
            read_record(json.loads(json.dumps(plain(spec))), Spec)
        except (StructureError, TypeError) as error:
            raise ContractError(
                f"{contender.name}: its spec can't be written to a result: {error}"
            ) from error
    return replace(contender, trained=_training_hashes(contender))


def _training_hashes(contender: Contender) -> TrainingHashes | None:
    """Return the pictures an estimator was trained on, before anything slow starts."""
    estimator = cast("object", contender.estimator)  # it may implement the second protocol too
    if not isinstance(estimator, KnowsItsTraining):
        return None
    try:
        with foreign_code(estimator, "training_hashes"):
            trained = cast("object", estimator.training_hashes())
    except AgebenchError:
        raise
    except Exception as error:  # a foreign estimator may fail in any way
        raise ContractError(
            f"{contender.name}: training_hashes() failed: {type(error).__name__}: {error}"
        ) from error
    if trained is not None and not isinstance(trained, TrainingHashes):
        raise ContractError(
            f"{contender.name}: training_hashes() must return TrainingHashes or None, got "
            f"{type(trained).__name__}"
        )
    return trained


def load_pictures(
    dataset: str | Dataset, root: Path | None, protocol: str | None
) -> tuple[Dataset, SplitMaker | None]:
    """List the data set, and check the protocol that splits it.

    Returns:
        All pictures, and the function that splits them, if a protocol was given.

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
        raise DatasetError(f"data set {dataset.spec.name!r} has no usable picture")
    return dataset, None if protocol is None else find_split(dataset, protocol)
