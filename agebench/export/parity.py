"""The parity check: an exported file must give the same ages as its source under every runtime.

Each runtime predicts ages in batches of 1, 2, 7 and 64, with all views and, if the model supports
missing views, without each one in turn; the ages are compared with those of the source model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agebench.errors import AgebenchError, DeviceError, MissingDependencyError, ModelError
from agebench.export.candidate import YearsSource
from agebench.protocols import RuntimeInfo
from agebench.runtimes.age_file import AgeFile
from agebench.runtimes.onnx_metadata import FileSpec, Precision
from agebench.types import Crops, Floats, plain

BATCHES = (1, 2, 7, 64)

RUNTIMES: tuple[tuple[str, str], ...] = (
    ("onnxruntime", "cpu"),
    ("onnxruntime", "cuda"),
    ("cv2dnn", "cpu"),
)
"""Runtimes and devices under which a file is run."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Allowed difference of a file's ages from its source's, years.

    Attributes:
        max_years: of any face.
        mean_years: of the mean over the faces, for each batch size.
    """

    max_years: float = 0.01
    mean_years: float = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.max_years < 120 and 0 < self.mean_years < 120):
            raise ValueError(
                "a tolerance must be above 0 and below 120 years, got "
                f"{self.max_years:g} (mean {self.mean_years:g})"
            )


TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(0.01, 0.01),
    "float16-weights": Tolerance(0.5, 0.1),
    "float16": Tolerance(0.5, 0.1),
    "int8": Tolerance(5.0, 0.75),
}
"""The default tolerance of each precision.

In float32, only the order of sums differs.  Half precision has 11 bits per weight or activation;
with 8 bits the ages of single faces may differ by years, so the mean matters more.
"""

NEEDED: dict[Precision, frozenset[str]] = {
    "float32": frozenset({"onnxruntime", "cv2dnn"}),
    "float16-weights": frozenset({"onnxruntime", "cv2dnn"}),
    "float16": frozenset({"onnxruntime"}),
    "int8": frozenset({"onnxruntime"}),
}
"""Runtimes that must be able to load a file of that precision."""


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One runtime, batch size and missing view.

    Attributes:
        runtime: that ran the file.
        batch: faces per run.
        missing: the view that was removed; "" for none.
        faces: number of faces compared.
        max_years, mean_years: absolute difference of ages from the source's.
    """

    runtime: RuntimeInfo
    batch: int
    missing: str
    faces: int
    max_years: float
    mean_years: float


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Result of the parity check.

    Attributes:
        label: the source model.
        crops: description of the crops.
        spread_years: standard deviation of the source's ages: if all were the same, equality
            would prove nothing.
        tolerance: the allowed difference.
        rows: all comparisons.
        skipped: runtimes and devices that are not available, and why.
    """

    label: str
    crops: str
    spread_years: float
    tolerance: Tolerance
    rows: tuple[ParityRow, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    checked_by: str = "onnx.checker, full_check=True (shape inference)"
    precision: Precision = "float32"
    notes: tuple[str, ...] = field(default=())

    @property
    def worst(self) -> ParityRow:
        """The row with the largest difference of one face."""
        return max(self.rows, key=lambda row: row.max_years)

    @property
    def failed(self) -> ParityRow | None:
        """The worst row that is above the tolerance; None if there is none."""
        over = [
            row
            for row in self.rows
            if not (
                row.max_years <= self.tolerance.max_years
                and row.mean_years <= self.tolerance.mean_years
            )
        ]
        return max(over, key=lambda row: row.max_years) if over else None

    def to_json(self) -> str:
        """Return it as indented JSON with a line feed at the end."""
        return json.dumps({**plain(self), "passed": self.failed is None}, indent=2) + "\n"

    def require(self) -> None:
        """Check that everything is within the tolerance.

        Raises:
            ModelError: it is not; the message names runtime, batch, view and differences.
        """
        row = self.failed
        if row is not None:
            without = f", {row.missing!r} missing" if row.missing else ""
            raise ModelError(
                f"the exported file differs from {self.label} by up to {row.max_years:.4g} years "
                f"(mean {row.mean_years:.4g}) under {row.runtime.runtime}:{row.runtime.device} "
                f"{row.runtime.version}, batch {row.batch}{without}; at most "
                f"{self.tolerance.max_years:g} (mean {self.tolerance.mean_years:g}) are allowed: "
                "nothing was written"
            )


def variants(crops: Crops, spec: FileSpec) -> Iterator[tuple[str, Crops]]:
    """Yield the crops unchanged, then without each view if the model supports missing views.

    Faces that would have no view left are omitted.
    """
    yield "", crops
    if spec.missing == "learned":
        for name in spec.crop.views:
            others = [flags for view, flags in crops.present.items() if view != name]
            kept = np.flatnonzero(np.any(others, axis=0))
            yield name, crops.take(kept).without(name)


def compare_file(
    path: Path,
    source: YearsSource,
    crops: Crops,
    *,
    label: str,
    described: str,
    tolerance: Tolerance | None = None,
) -> ParityReport:
    """Compare a file's ages with its source's under onnxruntime and cv2.dnn.

    Args:
        path: the exported file.
        source: computes the ages of the model that it was made from.
        crops: of at least one face.
        label: name of the source.
        described: description of the crops.
        tolerance: None for that of the file's precision.

    Raises:
        ModelError: a runtime that must read the file can't, or the source does not give one
            finite age per face.
    """
    opened, skipped = _open_all(path)
    spec = opened[0].spec
    rows: list[ParityRow] = []
    spread = 0.0
    for missing, part in variants(crops, spec):
        if not len(part):
            continue
        expected = _ages(source, part, label)
        spread = max(spread, float(expected.std()))
        rows += [row for file in opened for row in _rows(file, part, expected, missing)]
    if not rows:
        raise ModelError(f"{path.name} can't be compared with {label}: there are no faces")
    allowed = tolerance or TOLERANCES[spec.precision]
    return ParityReport(
        label, described, spread, allowed, tuple(rows), skipped, precision=spec.precision
    )


def _open_all(path: Path) -> tuple[list[AgeFile], tuple[tuple[str, str], ...]]:
    opened: list[AgeFile] = []
    skipped: list[tuple[str, str]] = []
    for runtime, device in RUNTIMES:
        try:
            opened.append(AgeFile(path, runtime, device, batch=max(BATCHES), as_stored=True))
        except (DeviceError, MissingDependencyError) as error:
            skipped.append((f"{runtime}:{device}", str(error)))
        except AgebenchError as error:
            precision: Precision = opened[0].spec.precision if opened else "float32"
            if runtime in NEEDED[precision]:
                raise
            reason = str(error).replace(str(path), "the file")
            skipped.append((f"{runtime}:{device}", reason))
    if not opened:
        raise ModelError(f"no runtime is installed to check {path.name} with: install onnxruntime")
    return opened, tuple(skipped)


def _ages(source: YearsSource, crops: Crops, label: str) -> Floats:
    ages = np.asarray(source(crops), np.float64)
    if ages.shape != (len(crops),) or not np.isfinite(ages).all():
        raise ModelError(f"{label} must give {len(crops)} finite ages, got shape {ages.shape}")
    return ages


def _rows(file: AgeFile, crops: Crops, expected: Floats, missing: str) -> Iterator[ParityRow]:
    for batch in BATCHES:
        # If there are fewer faces than in a batch, they are repeated.
        order = np.resize(np.arange(len(crops)), max(len(crops), batch))
        answers = [
            file.answer(crops.take(order[start : start + batch]))[0]
            for start in range(0, len(order), batch)
        ]
        off = np.abs(np.concatenate(answers) - expected[order])
        yield ParityRow(
            file.runtime, batch, missing, len(crops), float(off.max()), float(off.mean())
        )
