"""Runtimes for networks behind one function: `open_model`."""

from __future__ import annotations

from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.opening import open_model

__all__ = ["Model", "ModelSource", "open_model"]
