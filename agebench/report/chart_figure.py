"""A matplotlib figure that a notebook shows by itself."""

from __future__ import annotations

import io
from collections.abc import Callable

from matplotlib.figure import Figure

SCREEN_DPI = 150


class ShownFigure(Figure):
    """A figure whose picture a notebook shows where it is the last value of a cell.

    Otherwise only those do that pyplot made, which keeps them alive and shows them twice.
    """

    @property
    def finishing(self) -> list[Callable[[], None]]:
        """What is done once the figure has its size and its layout."""
        found: list[Callable[[], None]] = self.__dict__.setdefault("_finishing", [])
        return found

    def finish(self) -> None:
        """Do it."""
        if self.finishing:
            self.draw_without_rendering()
        for step in self.finishing:
            step()
        self.finishing.clear()

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=SCREEN_DPI)
        return data.getvalue()
