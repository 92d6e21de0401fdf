"""The one run in which all models of a suite take turns, so that their times can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agebench import __version__
from agebench.errors import UsageError
from agebench.estimators.answers import AnswersFile
from agebench.harness.compare import compare
from agebench.harness.environment import describe_environment
from agebench.harness.loading import Contender
from agebench.harness.results import RESULT_FILE
from agebench.harness.settings import CompareSettings
from agebench.protocols import Estimator, EstimatorSpec, ProgressStep
from agebench.references import called
from agebench.suite.cells import KEY_LETTERS, RESULTS, described, hash_of
from agebench.suite.loaded import Loader, UnavailableError
from agebench.suite.plan import SuitePlan, Times
from agebench.types import AgePrediction, Crops, plain

TIMES = "times"

_NOT_DECIDING = ("memory_bytes", "opencv_threads")
"""Values of the environment left out of the hash: the first varies slightly between boots, the
second is set here."""


def find_times(plan: SuitePlan, loader: Loader) -> Path | None:
    """Return the folder of the times of the suite's models; None if not measured."""
    if plan.times is None:
        return None
    models = _timed(plan, loader)
    if not models:
        return None
    try:
        folder = _folder(plan, plan.times, models, loader)
    except UnavailableError:  # reported where they are measured
        return None
    return folder if (folder / RESULT_FILE).is_file() else None


class _OnAnyFaces:
    """A model that is defined with a detector, timed on the faces of another one.

    Its time per face does not depend on the detector, whose time is not included.
    """

    def __init__(self, model: Estimator) -> None:
        self._model = model
        self._spec = replace(model.spec, detector="")

    @property
    def spec(self) -> EstimatorSpec:
        """The spec of the model, without a detector."""
        return self._spec

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        """Predict with the model."""
        return self._model.predict(crops)


def time_models(plan: SuitePlan, loader: Loader, progress: ProgressStep) -> Path:
    """Time the models in turns, all on the same faces; return the folder of the result.

    Models that are not available, and external answers, are left out.

    Raises:
        UsageError: no model is left.
        AgebenchError: as `compare`.
    """
    times = plan.times
    models = _timed(plan, loader)
    if times is None or not models:
        raise UsageError("no model of the suite can be timed")
    planned = plan.find_set(times.set)
    pictures = loader.pictures(planned)
    folder = _folder(plan, times, models, loader)
    compare(
        models,
        pictures.dataset,
        detector=planned.detector or None,
        out=folder,
        settings=replace(_settings(plan, times), protocol=pictures.protocol),
        progress=lambda stage, done, total: progress(f"times: {stage}", done, total),
    )
    return folder


def _timed(plan: SuitePlan, loader: Loader) -> list[Contender]:
    """Return the models that can be timed."""
    times = plan.times
    chosen = None if times is None or times.contenders is None else {*map(called, times.contenders)}
    found = []
    for contender in plan.contenders:
        if chosen is not None and contender.name not in chosen:
            continue
        try:
            model = loader.model(contender)
        except UnavailableError:
            continue
        estimator = model.estimator
        if estimator is None or isinstance(estimator, AnswersFile):
            continue
        if estimator.spec.detector:
            model = Contender(model.name, _OnAnyFaces(estimator))
        found.append(model)
    return found


def _settings(plan: SuitePlan, times: Times) -> CompareSettings:
    planned = plan.find_set(times.set)
    return CompareSettings(
        sample=times.pictures,
        seed=plan.settings.seed,
        batch_size=plan.settings.batch_size,
        decode_threads=plan.settings.decode_threads,
        threads=plan.settings.threads,
        latency_pictures=times.pictures,
        protocol=planned.protocol,
        part=planned.part,
    )


def _folder(plan: SuitePlan, times: Times, models: Sequence[Contender], loader: Loader) -> Path:
    """Return the folder of the times, named by a hash of all that determines them."""
    planned, settings = plan.find_set(times.set), _settings(plan, times)
    decided = plain(settings)
    decided["workers"] = decided.pop("decode_threads")  # so that existing folders are found
    _, data = loader.size_and_data(planned, settings)
    decides = {
        "agebench": __version__,
        "machine": {
            name: value
            for name, value in describe_environment().items()
            if name not in _NOT_DECIDING
        },
        "models": [
            [model.name, described(model.estimator)]
            for model in models
            if model.estimator is not None
        ],
        "dataset": planned.dataset,
        "detector": loader.detector(planned, models[0]),
        "settings": decided,
        "data": data,
    }
    return loader.out / RESULTS / TIMES / hash_of(decides)[:KEY_LETTERS]
