"""`agebench.prepare_dataset`: writes crops by age group, with a manifest."""

from __future__ import annotations

from pathlib import Path

from agebench.harness.trial import try_models
from agebench.prepare.run import PrepareReport, prepare
from agebench.prepare.settings import PrepareSettings
from agebench.protocols import Dataset, ProgressStep
from agebench.util.progress import shown_progress


def prepare_dataset(
    dataset: str | Dataset,
    out: str | Path,
    *,
    root: str | Path | None = None,
    detector: str | None = None,
    settings: PrepareSettings | None = None,
    split: str | Path | None = None,
    progress: ProgressStep | None = None,
) -> PrepareReport:
    """Cut the faces of a data set into ``OUT/<age group>/<view>/NAME.jpg``, with a manifest.

    If interrupted, the same call resumes.  The folder can be used as the data set "prepared".

    Args:
        dataset: name of a data set with its options, or an object.
        out: new folder, or one to resume in.
        root: folder or file of a data set given by name.
        detector: face detector by name; None takes the default for the data set.
        settings: views, age groups, size and margin of the crops; see `PrepareSettings`.
        split: a split file whose parts the manifest records.
        progress: called with (stage, done, total).  None draws bars in a notebook and on a
            terminal; `agebench.no_progress` draws none.

    Returns:
        The folder and counts of its content; a picture that can't be used is counted in
        ``counts["left_out"]`` by its status, and named with its reason in
        ``manifest_problems.csv``.

    Raises:
        UsageError: the call is wrong, or `out` holds crops of something else.
        DatasetError: there is no usable picture.
        WeightsUnavailableError: the detector's file is not available.
        AgebenchError: `out` can't be written.
    """
    try_models(detectors=[detector])
    with shown_progress(progress) as step:
        return prepare(
            dataset,
            out,
            root=root,
            detector=detector,
            settings=settings,
            split=split,
            progress=step,
        )
