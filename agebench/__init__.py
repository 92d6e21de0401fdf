"""Measures the accuracy and speed of facial age estimators.

Typical use::

    from agebench import Estimator, compare, load_detector, load_estimator

Importing this package loads neither OpenCV nor torch: its names, listed in the stub file next to
this one, are loaded on first use.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import lazy_loader

__version__ = "0.1.0"

# ONNX Runtime 1.31 and later sends telemetry (the model's file name, the interpreter's path, error
# texts) and stores files in the home and temporary folders.  It reads this variable when it is
# imported; its functions to disable telemetry take effect too late.  A user's own value is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_public_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]

_MODULES = ("errors", "protocols", "testing", "types")
"""Documented modules, which type checkers find without an import of their own.  They are not in
`__all__`, where `types` would hide the standard library's."""


def __getattr__(name: str) -> ModuleType | object:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    found: object = _public_name(name)
    return found
