"""Everything a comparison needs, loaded before it starts, so that it does not stop halfway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agebench.bench.settings import CompareSettings
from agebench.datasets.sampling import limit, sample
from agebench.errors import DatasetError, UsageError, WeightsUnavailableError, suggestion
from agebench.protocols import Dataset, Estimator, FaceDetector
from agebench.registry import load_dataset, load_detector, load_estimator
from agebench.vision.regions import REGIONS


@dataclass(frozen=True, slots=True)
class Contender:
    """An estimator of a comparison, or why it takes no part.

    Attributes:
        name: what it is called in the result: the reference as given, unique.
        estimator: None where it is unavailable.
        reason: why it is unavailable; "" where it is not.
    """

    name: str
    estimator: Estimator | None
    reason: str = ""


def load_contenders(
    estimators: Sequence[str | Estimator], *, skip_unavailable: bool
) -> list[Contender]:
    """Load all estimators.

    Raises:
        UsageError: none was given, or one was given twice.
        WeightsUnavailableError: a model file can't be had and `skip_unavailable` is off, or none
            of the estimators could be loaded.
    """
    if isinstance(estimators, str):
        raise UsageError(f"expected a list of estimators, got one text: use [{estimators!r}]")
    if not estimators:
        raise UsageError("no estimator was given ('agebench ls estimators' lists them)")
    contenders = [_load_one(item, skip_unavailable) for item in estimators]
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


def _load_one(item: str | Estimator, skip_unavailable: bool) -> Contender:
    if not isinstance(item, str):
        if not isinstance(item, Estimator):
            raise UsageError(
                f"expected an estimator or its name, got {type(item).__name__}: "
                "it needs `spec` and `predict`"
            )
        return _checked(Contender(item.spec.name, item))
    name = " ".join(item.split())
    try:
        return _checked(Contender(name, load_estimator(item)))
    except WeightsUnavailableError as error:
        if not skip_unavailable:
            raise WeightsUnavailableError(
                f"{name}: {error} (or leave it out with --skip-unavailable)"
            ) from error
        return Contender(name, None, str(error))


def _checked(contender: Contender) -> Contender:
    """Refuse an estimator that asks for a region that nobody can cut."""
    views = {} if contender.estimator is None else contender.estimator.spec.crop.views
    for view in views.values():
        if view.region not in REGIONS:
            hint = suggestion(view.region, REGIONS)
            raise UsageError(f"{contender.name}: unknown region {view.region!r}: {hint}")
    return contender


def load_pictures(dataset: str | Dataset, root: Path | None, settings: CompareSettings) -> Dataset:
    """List the data set and take the part that the settings ask for.

    Raises:
        UsageError: a root is missing or not wanted.
        DatasetError: there is no usable picture.
    """
    if isinstance(dataset, str):
        dataset = load_dataset(dataset, root)
    if not dataset.samples:
        raise DatasetError(f"data set {dataset.spec.name!r} holds no usable picture")
    if settings.limit is not None:
        return limit(dataset, settings.limit)
    if settings.sample is not None:
        return sample(dataset, settings.sample, settings.seed)
    return dataset


def load_face_detector(detector: str | FaceDetector) -> tuple[str, FaceDetector]:
    """Return the detector's name in the result, and the detector."""
    if isinstance(detector, str):
        return " ".join(detector.split()), load_detector(detector)
    return detector.spec.name, detector
