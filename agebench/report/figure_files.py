"""The report's figures as files for papers and slides, in one- and two-column width."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from agebench.protocols import ProgressStep, no_progress
from agebench.report.chart_parts import Columns
from agebench.report.charts import CHARTS, KINDS, charts, encoded
from agebench.report.joining import Joined
from agebench.util.files import check_target, make_folder, write_whole


def write_figures(
    joined: Joined, folder: str | Path, progress: ProgressStep = no_progress
) -> list[Path]:
    """Write all figures of the results as SVG, PDF and PNG, each in two widths.

    ``ranking-1col.pdf`` is 89 mm wide, ``ranking-2col.pdf`` 183 mm; PNG files have 300 dpi.  Equal
    results give equal bytes.

    Args:
        joined: the results.
        folder: to write into; created if missing.
        progress: called after each figure.

    Returns:
        The files, sorted by name.

    Raises:
        AgebenchError: a file can't be written.
        MissingDependencyError: matplotlib is not installed.
    """
    target = Path(folder)
    make_folder(target, f"the folder {str(folder)!r}")
    widths: tuple[Columns, ...] = get_args(Columns)
    written = []
    total = len(CHARTS) * len(widths)
    for at, columns in enumerate(widths):
        for name, figure in charts(joined, columns):
            for kind in KINDS:
                path = target / f"{name}-{columns}col.{kind}"
                check_target(path)
                write_whole(path, encoded(figure, kind))
                written.append(path)
            progress("figures", at * len(CHARTS) + list(CHARTS).index(name) + 1, total)
    progress("figures", total, total)
    return sorted(written)
