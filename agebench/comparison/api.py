"""`agebench.compare`: the harness, with a result that displays itself and progress bars."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agebench.comparison.result import CompareResult, shown
from agebench.harness import compare as bench
from agebench.harness.kept_detections import usually_kept
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, Estimator, FaceDetector, ProgressStep
from agebench.util.progress import shown_progress


def compare(
    estimators: Sequence[str | Estimator],
    dataset: str | Dataset,
    *,
    root: str | Path | None = None,
    detector: str | FaceDetector | None = None,
    out: str | Path | None = None,
    settings: CompareSettings | None = None,
    progress: ProgressStep | None = None,
    fresh_detections: bool = False,
) -> CompareResult:
    """Measure several estimators on the same faces.

    Args:
        estimators: references such as ``"hse-mobilenet"``, or objects with the `Estimator`
            interface.
        dataset: name of a data set, or an object with the `Dataset` interface.
        root: folder or file of a data set given by name.
        detector: reference or object; it runs once per picture.  None takes the one
            that an estimator is defined with, if any (``recipe=tutorial``), else "aligned" for data
            sets of aligned chips and "yolov8-face" for others; the result states which and why.
        out: folder for result.json and predictions.csv; None writes nothing.
        settings: see `CompareSettings`.
        progress: called with (stage, done, total) as the passes proceed.  None draws bars in a
            notebook and on a terminal, and nothing elsewhere; `agebench.no_progress` draws none.
        fresh_detections: detect all faces again.  Otherwise faces that an earlier run found in the
            same pictures with the same detector are taken from the cache, which the result states;
            times never come from there.

    Returns:
        All figures; a notebook shows the best estimator, a figure and the ranking.

    Raises:
        UsageError: the call is wrong.
        WeightsUnavailableError: a model file is not available; nothing has run yet.
        AgebenchError: any other failure.

    >>> from agebench import compare
    >>> compare(["constant"], "csv", root="no/such.csv", detector="aligned")
    Traceback (most recent call last):
        ...
    agebench.errors.DatasetError: ...
    """
    with ExitStack() as stack:
        kept = None if fresh_detections else stack.enter_context(usually_kept(_warn))
        step = stack.enter_context(shown_progress(progress))
        measured = bench.compare(
            estimators,
            dataset,
            root=root,
            detector=detector,
            out=out,
            settings=settings,
            progress=step,
            detections=kept,
        )
    return shown(measured)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=6)  # the caller of `compare`, if it fails when opened
