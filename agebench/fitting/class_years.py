"""Fits the table that converts an estimator's classes to years, on a training part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agebench.errors import DatasetError, UsageError
from agebench.fitting.labelled_crops import cut_samples
from agebench.harness.loading import load_pictures
from agebench.harness.selection import part_of, take_pictures
from agebench.harness.settings import CompareSettings
from agebench.metrics.age_classes import YEARS_RULES, YearsRule, fit_class_years
from agebench.metrics.class_years import ClassYears, make_class_years, require_training_part
from agebench.protocols import Dataset, Estimator, FaceDetector, ProgressStep, no_progress
from agebench.references import parse_reference
from agebench.registry.plugins import ESTIMATORS, load_estimator, named_detector, takes_option
from agebench.splits.parts import select_parts
from agebench.types import Crops, Floats, Sample
from agebench.util.foreign_code import predicted_ages
from agebench.vision.faces import LeftOut


@dataclass(slots=True)
class _Answers:
    """An estimator's predictions for the pictures of a part."""

    samples: list[Sample] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    probabilities: list[Floats] = field(default_factory=list)

    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for sample, key in zip(self.samples, self.sha256, strict=True):
            digest.update(f"{sample.name}|{sample.age_years}|{key}\n".encode())
        return digest.hexdigest()


def fit_years(
    estimator: str | Estimator,
    dataset: str | Dataset,
    *,
    root: str | Path | None = None,
    detector: str | FaceDetector = "yolov8-face",
    settings: CompareSettings,
    progress: ProgressStep = no_progress,
) -> ClassYears:
    """Fit the years of an estimator's classes on a training part.

    Args:
        estimator: with classes; the table is for its ``years`` rule.
        dataset: name or object.
        root: of the data set, if it is given by name.
        detector: as in `compare`.
        settings: protocol and part are required; limit, sample and seed may reduce the part.
        progress: called during the work.

    Raises:
        UsageError: there is no protocol, the part is used for measuring, or the estimator has no
            classes, already has a table or does not support one.
        DatasetError: no picture of the part gave an answer.
    """
    if settings.protocol is None or settings.part is None:
        raise UsageError("fitting years needs a protocol and a training part: give both")
    require_training_part(settings.part)
    folder = None if root is None else Path(root)
    loaded = load_estimator(estimator) if isinstance(estimator, str) else estimator
    rule = _rule(loaded)
    if isinstance(estimator, str):
        _require_table_option(estimator)
    pictures, maker = load_pictures(dataset, folder, settings.protocol)
    _, face_detector = named_detector(detector)
    pictures, split = take_pictures(pictures, maker, settings, progress)
    for scored in () if split is None else select_parts(split, settings.part) & {"test", "val"}:
        require_training_part(scored)  # "not-fold-0" of a split that also has a test part
    left_out = LeftOut()
    answers = _predict(loaded, face_detector, pictures.samples, settings, progress, left_out)
    if not answers.samples or split is None:
        raise DatasetError(
            f"no picture of part {settings.part!r} gave an answer to fit to{left_out}"
        )
    spec = loaded.spec
    assert spec.classes is not None  # noqa: S101 - _rule refuses the others
    true = [sample.age_years or 0.0 for sample in answers.samples]
    probabilities = np.stack(answers.probabilities)
    years = fit_class_years(probabilities, true, spec.classes, rule)
    likeliest = np.bincount(probabilities.argmax(axis=1), minlength=len(spec.classes))
    fitted_on = {
        "protocol": split.protocol,
        "part": part_of(settings),
        "pictures": len(answers.samples),
        "content_sha256": answers.content_hash(),
        "label_kind": pictures.spec.label_kind,
        "likeliest": tuple(likeliest.tolist()),
    }
    return make_class_years(spec, years.tolist(), fitted_on)


def _rule(estimator: Estimator) -> YearsRule:
    spec = estimator.spec
    if spec.classes is None or spec.bins != spec.classes:
        raise UsageError(f"{spec.name} has no age classes, so there are no years to fit")
    if spec.settings.get("table"):
        raise UsageError(f"{spec.name} already has a table of years: load it without one")
    for rule in YEARS_RULES:
        if spec.decode == rule:
            return rule
    raise UsageError(
        f"{spec.name} turns classes into years by {spec.decode!r}: only "
        f"{' and '.join(YEARS_RULES)} can be fitted"
    )


def _require_table_option(reference: str) -> None:
    """Refuse an estimator that does not take the table as an option.

    This does not apply to objects, which may use the table in their own way.
    """
    name = parse_reference(reference).name
    if not takes_option(ESTIMATORS, name, "table"):
        raise UsageError(f"{name!r} has no option 'table', so the table of years could not be used")


def _predict(
    estimator: Estimator,
    detector: FaceDetector,
    samples: Sequence[Sample],
    settings: CompareSettings,
    progress: ProgressStep,
    left_out: LeftOut,
) -> _Answers:
    """Return the probabilities for every picture with an age and a face."""
    answers = _Answers()
    usable = [sample for sample in samples if sample.age_years is not None]
    waiting: list[Crops] = []

    def flush() -> None:
        if waiting:
            for answer in predicted_ages(estimator, Crops.join(waiting)):
                if answer.probabilities is None:
                    raise UsageError(f"{estimator.spec.name} gives no probabilities to fit to")
                answers.probabilities.append(answer.probabilities)
            waiting.clear()

    crop = estimator.spec.crop
    cut = cut_samples(crop, detector, usable, settings, progress, "fit-years", left_out)
    for item, crops in cut:
        answers.samples.append(item.sample)
        answers.sha256.append(item.sha256)
        waiting.append(crops)
        if len(waiting) >= settings.batch_size:
            flush()
    flush()
    return answers
