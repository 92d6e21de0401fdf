"""The command line: one verb per file, arguments only."""

from __future__ import annotations

from agebench.cli.main import main

__all__ = ["main"]
