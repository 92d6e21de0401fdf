"""The result of `agebench.compare`: its figures, and methods to display and export them."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agebench.errors import UsageError, inert
from agebench.harness.reading import measured
from agebench.harness.results import CompareResult as MeasuredResult
from agebench.harness.results import output_folder
from agebench.metrics.number_format import counted, number
from agebench.report.charts import chart
from agebench.report.joining import Joined, join
from agebench.report.snippet import render_snippet
from agebench.report.tables import summary
from agebench.report.writing import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from agebench.report.chart_parts import Columns


import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agebench.errors import MissingDependencyError

if TYPE_CHECKING:
    from types import ModuleType

    from pandas import DataFrame


_NAMED = 3
"""Number of estimators that the short form names."""


class CompareResult(MeasuredResult):
    """All figures of one comparison.

    In a notebook it shows the best estimator, error against latency and the ranking.  The `plot_`
    methods return matplotlib figures (extra ``notebook``), as wide as one or two columns of a
    printed page: 89 or 183 mm.  `to_json()` returns the content of result.json.

    Attributes:
        estimators: one entry each, in the order given; `mae_years` is its mean absolute error.
        records: one per picture, in the order of their names.
        common: number of pictures that every ranked estimator gave an age for.
        latency: of the stages that all estimators share; None without timing.
        about: versions, machine, command, data set, detector, settings.
        analysis: tests, groups, calibration, age thresholds; see docs/result-schema.md.
        timing: comparisons of times; None without timing.

    >>> from agebench import CompareSettings, compare
    >>> settings = CompareSettings(limit=20, latency_pictures=0)
    >>> result = compare(["constant"], "sample", settings=settings)
    >>> result
    <CompareResult: sample, 20 pictures; MAE in years: constant 10.19>
    """

    @cached_property
    def _joined(self) -> Joined:
        # As read from a file, so that the display does not depend on whether it was saved.
        return join([measured(self)])

    def __repr__(self) -> str:
        pictures = counted(len(self.records), "picture")
        scored = [item for item in self.estimators if item.mae_years is not None]
        ranked = sorted(scored, key=lambda item: item.mae_years or 0.0)
        shown = [f"{item.name} {number(item.mae_years)}" for item in ranked[:_NAMED]]
        if len(ranked) > _NAMED:
            shown.append(f"{len(ranked) - _NAMED} more")
        errors = f"MAE in years: {', '.join(shown)}" if shown else "no error in years"
        return inert(f"<CompareResult: {self.about['dataset']['name']}, {pictures}; {errors}>")

    def __copy__(self) -> CompareResult:
        return self

    def __reduce__(self) -> str:
        raise UsageError(
            "a CompareResult holds loaded models and can't be pickled or copied: expected what its "
            "to_json(), to_dataframe() or save() give"
        )

    def _repr_html_(self) -> str:
        return render_snippet(self._joined)

    def to_dataframe(self, rows: Literal["estimators", "predictions"] = "estimators") -> DataFrame:
        """Return the figures as a pandas table, unrounded.

        Args:
            rows: "estimators" gives one row each, best first, with the columns of report.csv;
                "predictions" one per picture and estimator, with those of predictions.csv.

        Raises:
            MissingDependencyError: pandas is not installed.
            UsageError: `rows` is neither.

        For example ``result.to_dataframe()[["estimator", "mae_years"]]``.
        """
        if rows == "estimators":
            return estimators_table(summary(self._joined))
        if rows == "predictions":
            return predictions_table(self.table_lines())
        raise UsageError(f"expected rows='estimators' or 'predictions', got {rows!r}")

    def save(self, folder: str | Path) -> Path:
        """Write result.json and predictions.csv into `folder`, which is created if missing.

        Returns:
            The path of result.json.  Each file is written completely or not at all.

        Raises:
            AgebenchError: the folder can't be written to.
        """
        with output_folder(folder):
            return super().save(folder)

    def report(self, path: str | Path) -> Path:
        """Write the report, a self-contained HTML page.

        Args:
            path: a file that ends in ``.html``, or a folder that report.html is written into;
                created if missing.

        Returns:
            The page's path.

        Raises:
            UsageError: the file's name has another ending.
            AgebenchError: it can't be written.
        """
        target = Path(path)
        if target.suffix.lower() == ".html":
            return write_report(self._joined, target.parent, name=target.stem)[0]
        if target.suffix and not target.is_dir():
            raise UsageError(
                f"the report is an HTML page: expected a name that ends in .html, or a folder, got "
                f"{target.name!r}"
            )
        return write_report(self._joined, target)[0]

    def plot_ranking(self, columns: Columns = 2) -> Figure:
        """Return the mean absolute error of each estimator with its 95 % interval."""
        return self._chart("ranking", columns)

    def plot_error_against_latency(self, columns: Columns = 2) -> Figure:
        """Return mean absolute error against the median time per picture.

        Raises:
            AgebenchError: nothing was timed.
        """
        return self._chart("error-against-latency", columns)

    def plot_error_by_age(self, columns: Columns = 2) -> Figure:
        """Return the mean absolute error by true age, in steps of five years.

        Raises:
            AgebenchError: no step has 20 pictures.
        """
        return self._chart("error-by-age", columns)

    def plot_cumulative_scores(self, columns: Columns = 2) -> Figure:
        """Return the cumulative scores: fractions of pictures within a number of years."""
        return self._chart("cumulative-scores", columns)

    def plot_predicted_against_true(self, columns: Columns = 2) -> Figure:
        """Return the density of predicted against true ages, one panel per estimator."""
        return self._chart("predicted-against-true", columns)

    def plot_bias_by_group(self, columns: Columns = 2) -> Figure:
        """Return the signed bias of every sufficiently large group as a heat map."""
        return self._chart("bias-by-group", columns)

    def plot_calibration(self, columns: Columns = 2) -> Figure:
        """Return the coverage of the predicted intervals.

        Raises:
            AgebenchError: no estimator gives a distribution over ages.
        """
        return self._chart("calibration", columns)

    def plot_age_thresholds(self, columns: Columns = 2) -> Figure:
        """Return how many are wrongly let pass and stopped by buffer, one panel per threshold."""
        return self._chart("age-thresholds", columns)

    def plot_latency(self, columns: Columns = 2) -> Figure:
        """Return the distribution of each estimator's time per picture.

        Raises:
            AgebenchError: nothing was timed.
        """
        return self._chart("latency", columns)

    def _chart(self, name: str, columns: Columns) -> Figure:
        if columns not in (1, 2):
            raise UsageError(f"expected columns=1 or 2, got {columns!r}")
        return chart(self._joined, name, columns)


def shown(measured: MeasuredResult) -> CompareResult:
    """Return a result of `agebench.harness` as one that displays itself."""
    return CompareResult(**{item.name: getattr(measured, item.name) for item in fields(measured)})


def estimators_table(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return one row per estimator.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    table: DataFrame = _pandas().DataFrame([dict(row) for row in rows])
    return table


def predictions_table(lines: Iterable[str]) -> DataFrame:
    """Return the lines of predictions.csv as a table: one row per picture and estimator.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    # A name such as "nan" or "007.jpg" stays text; empty cells of figures become NaN.
    names = ("picture", "estimator", "identity", "status", "reason", "sha256")
    texts = dict.fromkeys(names, str)
    table: DataFrame = _pandas().read_csv(
        io.StringIO("".join(lines)), dtype=texts, na_values=[""], keep_default_na=False
    )
    return table


def _pandas() -> ModuleType:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError(
            f"data frames need pandas ({error}): pip install 'agebench[notebook]'"
        ) from error
    return pd
