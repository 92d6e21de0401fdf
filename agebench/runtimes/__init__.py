"""One call for every library that runs a network: `open_model`."""

from __future__ import annotations

from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.opening import open_model

__all__ = ["Model", "ModelSource", "open_model"]
