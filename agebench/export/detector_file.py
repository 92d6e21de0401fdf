"""Export of face detectors; every output row of the file is compared with Darknet's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agebench.conversion.darknet_onnx import (
    IMAGE,
    MAX_SIDE_PX,
    ROWS,
    ExportedDetector,
    NetworkVersion,
    darknet_model,
    read_detector_file,
    sides_fit,
)
from agebench.errors import DeviceError, MissingDependencyError, ModelError
from agebench.export.parity import RUNTIMES
from agebench.export.writing import Written, proven, serialise, write_with_companions
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_metadata import SourceFile
from agebench.runtimes.opening import open_model
from agebench.types import Floats, plain
from agebench.util.files import check_target

BATCHES = (1, 2, 7)
TOLERANCE_PX = 0.05
TOLERANCE_SCORE = 1e-4
_PICTURES = 7


@dataclass(frozen=True, slots=True)
class DetectorParityRow:
    """One runtime and batch size.

    Attributes:
        runtime: that ran the file.
        batch: pictures per run.
        pictures: number of pictures compared.
        box_px: largest difference of a coordinate of a box, input pixels.
        score: largest difference of an objectness or score.
    """

    runtime: RuntimeInfo
    batch: int
    pictures: int
    box_px: float
    score: float


@dataclass(frozen=True, slots=True)
class DetectorParity:
    """Result of the parity check; see `agebench.export.parity.ParityReport`."""

    label: str
    crops: str
    rows: tuple[DetectorParityRow, ...]
    skipped: tuple[tuple[str, str], ...]
    tolerance_px: float = TOLERANCE_PX
    tolerance_score: float = TOLERANCE_SCORE

    @property
    def passed(self) -> bool:
        """Whether every row is within the tolerances."""
        return all(
            row.box_px <= self.tolerance_px and row.score <= self.tolerance_score
            for row in self.rows
        )

    def to_json(self) -> str:
        """Return it as indented JSON with a line feed at the end."""
        return json.dumps({**plain(self), "passed": self.passed}, indent=2) + "\n"

    def require(self) -> None:
        """Check that every row is within the tolerances.

        Raises:
            ModelError: one is not; the message names the worst runtime.
        """
        if not self.passed:
            worst = max(self.rows, key=lambda row: max(row.box_px, row.score))
            raise ModelError(
                f"the exported file differs from {self.label} by up to {worst.box_px:.3g} px and "
                f"a score of {worst.score:.3g} under {worst.runtime.runtime} "
                f"{worst.runtime.version}, batch {worst.batch}; at most {self.tolerance_px:g} px "
                f"and {self.tolerance_score:g} are allowed: nothing was written"
            )


@dataclass(frozen=True, slots=True)
class DarknetFiles:
    """A detector's files, to be exported as one.

    Attributes:
        version: which of the networks of yoloface-500k, or "own".
        cfg: text of the layout.
        weights: file with the weights.
        sources: both files, as named in the exported file.
        licence: of the weights.
        size_hw: height and width of the input, pixels.
    """

    version: NetworkVersion
    cfg: str
    weights: Path
    sources: tuple[SourceFile, ...]
    licence: str
    size_hw: tuple[int, int]


def export_detector(
    files: DarknetFiles, out: Path, *, check: bool = True
) -> Written[DetectorParity]:
    """Write a Darknet detector as one ONNX file, and the report of the parity check next to it.

    Raises:
        ModelError: a file can't be converted, or the boxes differ: nothing is written.
        AgebenchError: the file can't be written.
    """
    check_target(out)
    if not sides_fit(files.size_hw):
        height, width = files.size_hw
        raise ModelError(
            f"the layout's [net] has width {width} and height {height}, expected multiples of 8 "
            f"from 8 to {MAX_SIDE_PX}"
        )
    model, rows = darknet_model(files.cfg, files.weights, files.size_hw)
    spec = ExportedDetector(
        name="yoloface-500k",
        version=files.version,
        size_hw=files.size_hw,
        rows=rows,
        sources=files.sources,
        licence=files.licence,
    )
    content = serialise(model, spec, "face-detector")

    def prove(path: Path) -> DetectorParity | None:
        read_detector_file(path)
        if not check:
            return None
        report = compare_detector(path, files)
        report.require()
        return report

    return write_with_companions(out, content, proven(content, out.name, prove))


def compare_detector(path: Path, files: DarknetFiles) -> DetectorParity:
    """Compare a file's output rows with those of the Darknet files under cv2.dnn.

    Every row is compared, whatever its score, so that the pictures need not contain faces.
    """
    random = np.random.default_rng(7)
    height, width = files.size_hw
    coarse = random.integers(0, 256, (_PICTURES, 3, -(-height // 32), -(-width // 32)))
    pictures = coarse.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    pictures = np.clip(pictures + random.normal(0, 12, pictures.shape), 0, 255).astype(np.float32)
    darknet = open_model(ModelSource("darknet", files.weights, config=files.cfg))
    expected = np.stack(
        [
            np.concatenate(list(darknet.run({"": picture[None, ::-1] / np.float32(255)}).values()))
            for picture in pictures
        ]
    ).astype(np.float64)
    rows: list[DetectorParityRow] = []
    skipped: list[tuple[str, str]] = []
    for runtime, device in RUNTIMES:
        try:
            model = open_model(
                ModelSource("onnx", path, outputs=(ROWS,)), runtime=runtime, device=device
            )
        except (DeviceError, MissingDependencyError) as error:
            skipped.append((f"{runtime}:{device}", str(error)))
            continue
        for batch in BATCHES:
            parts = [
                model.run({IMAGE: pictures[start : start + batch]})[ROWS]
                for start in range(0, _PICTURES, batch)
            ]
            got = np.concatenate(parts).astype(np.float64)
            box_px, score = _differences(got, expected, files.size_hw)
            rows.append(DetectorParityRow(model.info, batch, _PICTURES, box_px, score))
    label = f"Darknet's {files.weights.name} under cv2.dnn"
    return DetectorParity(label, f"{_PICTURES} generated pictures", tuple(rows), tuple(skipped))


def _differences(got: Floats, expected: Floats, size_hw: tuple[int, int]) -> tuple[float, float]:
    if got.shape != expected.shape:
        raise ModelError(f"expected rows of shape {expected.shape}, got {got.shape} from the file")
    off = np.abs(got - expected)
    box_px = float((off[..., :4] * (size_hw[::-1] * 2)).max())
    # A score near the threshold may be set to 0 in one and not in the other.
    both = (got[..., 5] > 0) == (expected[..., 5] > 0)
    return box_px, float(max(off[..., 4].max(), off[..., 5][both].max(initial=0.0)))
