"""A matplotlib figure that a notebook shows by itself."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

SCREEN_DPI = 150


class ShownFigure(Figure):
    """A figure whose picture a notebook shows where it is the last value of a cell.

    Otherwise only those do that pyplot made, which keeps them alive and shows them twice.
    """

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=SCREEN_DPI)
        return data.getvalue()
