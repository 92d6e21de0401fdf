"""How good a facial age estimator really is, and how fast.

The documented use::

    from agebench import Estimator, compare, load_detector, load_estimator

Importing this package loads neither OpenCV nor torch: its names, which the stub file beside this
one lists, come on first use.
"""

from __future__ import annotations

import os

import lazy_loader

__version__ = "0.1.0"

# ONNX Runtime from 1.31 sends what it is used for (the model's file name, the interpreter's path,
# texts of errors) and keeps files in the home and temporary folders; it looks here when it is
# imported, and what it offers to call later comes too late.  Anyone who has set it has decided.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
