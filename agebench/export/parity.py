"""The gate that every exported file passes: the same ages as its source, under every runtime.

Each runtime answers crops in batches of 1, 2, 7 and 64, with all views and with each one missing
in turn where the model does without; its ages are held against those of the source model.
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
"""What a file is tried under: runtime and device."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a file's ages may be from its source's, years.

    Attributes:
        max_years: for no face more than this.
        mean_years: on average over the faces of a batch size.
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
    "float16": Tolerance(0.5, 0.1),
    "int8": Tolerance(5.0, 0.75),
}
"""What is allowed unless the caller says otherwise.

Float32 differs by the order in which numbers are added.  Half precision has 11 bits for each
activation; with 8 bits single faces may move by years, so that the mean is what counts there.
"""

NEEDED: dict[Precision, frozenset[str]] = {
    "float32": frozenset({"onnxruntime", "cv2dnn"}),
    "float16": frozenset({"onnxruntime"}),
    "int8": frozenset({"onnxruntime"}),
}
"""Runtimes that must load a file of that precision."""


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One runtime, batch size and missing view.

    Attributes:
        runtime: what ran the file.
        batch: faces per run.
        missing: the view that was withheld; "" for none.
        faces: how many were compared.
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
    """What the gate found.

    Attributes:
        label: the source model.
        crops: what they were, in words.
        spread_years: standard deviation of the source's ages: parity on ages that are all the
            same would prove nothing.
        tolerance: what was allowed.
        rows: all comparisons.
        skipped: runtime and device that are not here, and why.
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
        """The worst row that is above the tolerance; None where all passed."""
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
        """Raise unless everything is within the tolerance.

        Raises:
            ModelError: names runtime, batch, view and figures.
        """
        row = self.failed
        if row is not None:
            without = f", {row.missing!r} missing" if row.missing else ""
            raise ModelError(
                f"the exported file differs from {self.label} by up to {row.max_years:.4g} years "
                f"(mean {row.mean_years:.4g}) under {row.runtime.runtime}:{row.runtime.device} "
                f"{row.runtime.version}, batch {row.batch}{without}; allowed are "
                f"{self.tolerance.max_years:g} (mean {self.tolerance.mean_years:g}): nothing was "
                "written"
            )


def variants(crops: Crops, spec: FileSpec) -> Iterator[tuple[str, Crops]]:
    """Yield the crops as they are, then with each view missing where the model allows it.

    Faces that would be left without any view are left out.
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
    """Hold a file's ages against its source's under every runtime that is here.

    Args:
        path: the exported file.
        source: ages by the model it was made from.
        crops: of at least one face.
        label: what to call the source.
        described: what the crops are, in words.
        tolerance: None for that of the file's precision.

    Raises:
        ModelError: a runtime that must read the file can't, or the source answers otherwise than
            with one finite age per face.
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
            opened.append(AgeFile(path, runtime, device, batch=max(BATCHES)))
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
        # Fewer faces than a batch holds come several times.
        order = np.resize(np.arange(len(crops)), max(len(crops), batch))
        answers = [
            file.answer(crops.take(order[start : start + batch]))[0]
            for start in range(0, len(order), batch)
        ]
        off = np.abs(np.concatenate(answers) - expected[order])
        yield ParityRow(
            file.runtime, batch, missing, len(crops), float(off.max()), float(off.mean())
        )
