"""A matplotlib figure that notebooks display without pyplot."""

from __future__ import annotations

import io
from collections.abc import Callable

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

SCREEN_DPI = 150


class ShownFigure(Figure):
    """A figure that a notebook displays if it is the last value of a cell.

    Otherwise this only works for figures made by pyplot, which keeps them in memory and displays
    them twice.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw it; of the pass before it is saved, whose drawing is discarded, do the layout alone.

        matplotlib turns the layout off for the pass that counts.
        """
        layout = self.get_layout_engine()
        if isinstance(layout, ConstrainedLayoutEngine) and self.canvas.is_saving():
            layout.execute(self)
        else:
            super().draw(renderer)

    @property
    def finishing(self) -> list[Callable[[], None]]:
        """Steps that are run once the figure has its final size and layout."""
        steps: list[Callable[[], None]] = self.__dict__.setdefault("_finishing", [])
        return steps

    def finish(self) -> None:
        """Run these steps."""
        if self.finishing:
            self.draw_without_rendering()
        for step in self.finishing:
            step()
        self.finishing.clear()

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=SCREEN_DPI)
        return data.getvalue()
