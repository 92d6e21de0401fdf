"""A model to be exported: graph, metadata, and the source that it must equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from agebench.duplicates.training_hashes import TrainingHashes
from agebench.protocols import Estimator
from agebench.runtimes.onnx_metadata import FileSpec
from agebench.types import Crops, Floats
from agebench.util.foreign_code import foreign_code

YearsSource: TypeAlias = Callable[[Crops], Floats]
"""Computes the ages, float64 (n,), of the crops of n faces with the model to be exported."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A model that `agebench.export.writing.export` verifies and writes.

    Attributes:
        model: the graph, without metadata; inputs and outputs are those of `spec`.
        spec: the metadata.
        source: the model that the file is compared with.
        label: name of the source.
        trained: the pictures that the source was trained on, if known.
    """

    model: onnx.ModelProto
    spec: FileSpec
    source: YearsSource
    label: str
    trained: TrainingHashes | None = None


def years_of(estimator: Estimator) -> YearsSource:
    """Return a function from crops to the ages that an estimator predicts."""

    def years(crops: Crops) -> Floats:
        with foreign_code(estimator, "predict"):
            answers = estimator.predict(crops)
        return np.array([answer.years for answer in answers], np.float64)

    return years
