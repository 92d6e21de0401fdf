"""Progress bars of the command line: those of a terminal, on stderr."""

from agebench.progress import progress_bars

__all__ = ["progress_bars"]
