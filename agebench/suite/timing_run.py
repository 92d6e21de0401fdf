"""The one run in which all models of a suite take turns, so that their times can be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from agebench.bench.compare import compare
from agebench.bench.results import RESULT_FILE
from agebench.bench.settings import CompareSettings
from agebench.errors import UsageError
from agebench.estimators.answers import AnswersFile
from agebench.protocols import ProgressStep
from agebench.references import called
from agebench.suite.cells import KEY_LETTERS, RESULTS
from agebench.suite.loaded import Loader, NotThereError
from agebench.suite.plan import SuitePlan
from agebench.types import plain

TIMES = "times"


def find_times(plan: SuitePlan, loader: Loader) -> Path | None:
    """Return where the times of the suite's models lie; None where they have not been taken."""
    if plan.times is None:
        return None
    folder = _folder(plan, loader)
    return folder if (folder / RESULT_FILE).is_file() else None


def time_models(plan: SuitePlan, loader: Loader, progress: ProgressStep) -> Path:
    """Time the models in turns; return where the result lies.

    Left out are models that can't be had, answers from outside, and models that are defined with
    a detector of their own: the others would have to take it too.

    Raises:
        UsageError: no model is left.
        AgebenchError: as `compare`.
    """
    times = plan.times
    models = _timed(plan, loader)
    if times is None or not models:
        raise UsageError("no model of the suite can be timed")
    planned = plan.find_set(times.set)
    pictures, how = loader.pictures(planned), plan.settings
    folder = _folder(plan, loader)
    settings = CompareSettings(
        sample=times.images,
        seed=how.seed,
        batch_size=how.batch_size,
        workers=how.workers,
        threads=how.threads,
        latency_images=times.images,
        protocol=pictures.protocol,
        part=planned.part,
    )
    compare(
        models,
        pictures.dataset,
        detector=planned.detector or None,
        out=folder,
        settings=settings,
        progress=lambda stage, done, total: progress(f"times: {stage}", done, total),
    )
    return folder


def _timed(plan: SuitePlan, loader: Loader) -> list[str]:
    times = plan.times
    chosen = None if times is None or times.contenders is None else {*map(called, times.contenders)}
    found = []
    for contender in plan.contenders:
        if chosen is not None and contender.name not in chosen:
            continue
        try:
            estimator = loader.model(contender).estimator
        except NotThereError:
            continue
        if estimator is None or isinstance(estimator, AnswersFile) or estimator.spec.detector:
            continue
        found.append(contender.model)
    return found


def _folder(plan: SuitePlan, loader: Loader) -> Path:
    specs = [
        [item.name, plain(estimator.spec)]
        for item in plan.contenders
        if item.model in _timed(plan, loader)
        and (estimator := loader.model(item).estimator) is not None
    ]
    decides = json.dumps([plain(plan.times), plain(plan.settings), specs], sort_keys=True)
    key = hashlib.sha256(decides.encode()).hexdigest()[:KEY_LETTERS]
    return loader.out / RESULTS / TIMES / key
