"""How good a facial age estimator really is, and how fast.

The documented use::

    from agebench import Estimator, compare, load_detector, load_estimator

Importing this package loads neither OpenCV nor torch: the names below come on first use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agebench.comparison.api import compare
    from agebench.comparison.result import CompareResult
    from agebench.errors import AgebenchError
    from agebench.harness.settings import CompareSettings
    from agebench.prediction.api import predict
    from agebench.prediction.predictor import AgePredictor
    from agebench.prediction.tables import PredictBatch
    from agebench.protocols import (
        Dataset,
        DatasetSpec,
        DetectorSpec,
        Estimator,
        EstimatorSpec,
        FaceDetector,
        no_progress,
    )
    from agebench.registry.plugins import load_dataset, load_detector, load_estimator
    from agebench.types import (
        AgeBins,
        AgePrediction,
        Crops,
        CropSpec,
        Face,
        FaceFrame,
        Sample,
        ViewSpec,
    )

__version__ = "0.1.0"

# ONNX Runtime from 1.31 sends what it is used for (the model's file name, the interpreter's path,
# texts of errors) and keeps files in the home and temporary folders; it looks here when it is
# imported, and what it offers to call later comes too late.  Whoever has set it has decided.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "agebench.harness.settings": ("CompareSettings",),
    "agebench.comparison.api": ("compare",),
    "agebench.comparison.result": ("CompareResult",),
    "agebench.errors": ("AgebenchError",),
    "agebench.prediction.api": ("predict",),
    "agebench.prediction.predictor": ("AgePredictor",),
    "agebench.prediction.tables": ("PredictBatch",),
    "agebench.protocols": (
        "Dataset",
        "DatasetSpec",
        "DetectorSpec",
        "Estimator",
        "EstimatorSpec",
        "FaceDetector",
        "no_progress",
    ),
    "agebench.registry.plugins": ("load_dataset", "load_detector", "load_estimator"),
    "agebench.types": (
        "AgeBins",
        "AgePrediction",
        "CropSpec",
        "Crops",
        "Face",
        "FaceFrame",
        "Sample",
        "ViewSpec",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AgeBins",
    "AgePrediction",
    "AgePredictor",
    "AgebenchError",
    "CompareResult",
    "CompareSettings",
    "CropSpec",
    "Crops",
    "Dataset",
    "DatasetSpec",
    "DetectorSpec",
    "Estimator",
    "EstimatorSpec",
    "Face",
    "FaceDetector",
    "FaceFrame",
    "PredictBatch",
    "Sample",
    "ViewSpec",
    "__version__",
    "compare",
    "load_dataset",
    "load_detector",
    "load_estimator",
    "no_progress",
    "predict",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'agebench' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
