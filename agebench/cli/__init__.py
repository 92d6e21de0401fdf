"""The command line: one verb per file, arguments only."""

from __future__ import annotations

import sys

try:
    from agebench.cli.main import main
except KeyboardInterrupt:  # nothing has begun
    sys.exit(130)

__all__ = ["main"]
