"""A model on its way into a file: the graph, what it says of itself, and what it must equal."""

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
"""From the crops of n faces to their ages, float64 (n,), by the model that is exported."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """What `agebench.export.writing.export` proves and writes.

    Attributes:
        model: the graph, without metadata; inputs and outputs are those of `spec`.
        spec: the metadata.
        source: what the file is held against.
        label: what to call the source.
        trained: the pictures that the source has seen, where they are known.
    """

    model: onnx.ModelProto
    spec: FileSpec
    source: YearsSource
    label: str
    trained: TrainingHashes | None = None


def years_of(estimator: Estimator) -> YearsSource:
    """Return the ages that an estimator gives, as a function of crops."""

    def years(crops: Crops) -> Floats:
        with foreign_code(estimator, "predict"):
            answers = estimator.predict(crops)
        return np.array([answer.years for answer in answers], np.float64)

    return years
