"""Files in half precision or 8 bits, and their accuracy, speed and size.

All keep float32 for inputs, outputs, the normalisation of pixels and the decoding to years, where
small rounding errors would change ages by years.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from agebench.errors import MissingDependencyError, ModelError
from agebench.export.candidate import Candidate
from agebench.export.half import halve, store_in_half
from agebench.export.parity import variants
from agebench.export.writing import serialise
from agebench.metrics.age_errors import mae
from agebench.runtimes.age_file import AgeFile, feeds_of
from agebench.runtimes.base import use_threads
from agebench.runtimes.onnx_metadata import AGE, PRESENT, PROBABILITIES
from agebench.types import Crops, Floats
from agebench.util.process_pool import usable_cores

TIMED_BATCHES = (1, 16)
_TIMED_RUNS = 30
MIN_CALIBRATION_FACES = 16
LARGE_WEIGHTS = 4096
"""Number of weights from which a float32 tensor may be stored in half precision."""

_DECODING = frozenset({"Softmax", "ArgMax", "Gather"})
# Values of the decoding and of the masks for missing views, by their names in exported graphs.
_KEPT = frozenset(
    {AGE, PROBABILITIES, "below", "short_of_half", "steep_step", "step", "differences"}
    | {"there", "gone", "mask", "fill", "seen", "joined", "joint", "dense", "head", "ranks", "fc8"}
)


@dataclass(frozen=True, slots=True)
class Price:
    """A file of lower precision compared with the float32 one.

    Attributes:
        faces: number of faces on which the errors were measured.
        mae_before, mae_after: mean absolute errors, years; None without known ages.
        moved_years: mean absolute difference of the two files' ages.
        milliseconds: per batch size, median time of a run before and after, onnxruntime on CPU.
        bytes_before, bytes_after: sizes of the models.
    """

    faces: int
    mae_before: float | None
    mae_after: float | None
    moved_years: float
    milliseconds: dict[int, tuple[float, float]]
    bytes_before: int
    bytes_after: int


def to_float16(candidate: Candidate) -> Candidate:
    """Return the candidate in half precision.

    Raises:
        ModelError: a weight is too large.
    """
    kept = kept_nodes(candidate.model)
    halved = halve(candidate.model, kept)
    onnx.checker.check_model(halved, full_check=True)
    return replace(candidate, model=halved, spec=replace(candidate.spec, precision="float16"))


def to_half_weights(candidate: Candidate) -> Candidate:
    """Return the candidate with its large weights stored in half precision.

    They are converted to float32 when the file is loaded, so it runs as fast as before, and under
    the same runtimes.
    """
    model = onnx.ModelProto()
    model.CopyFrom(candidate.model)
    store_in_half(model, LARGE_WEIGHTS)
    onnx.checker.check_model(model, full_check=True)
    spec = replace(candidate.spec, precision="float16-weights")
    return replace(candidate, model=model, spec=spec)


def to_int8(candidate: Candidate, calibration: Crops) -> Candidate:
    """Return the candidate with 8-bit weights and activations of the convolutions.

    Static quantisation with scales per channel; weights have 7 bits, because instructions of
    older processors overflow with 8.  Large weights that stay in float32 are stored in half
    precision.

    Args:
        candidate: in float32.
        calibration: crops of real faces, which determine the range of each activation.

    Raises:
        ModelError: there are too few faces.
        MissingDependencyError: onnxruntime's quantisation can't be imported.
    """
    if len(calibration) < MIN_CALIBRATION_FACES:
        raise ModelError(
            f"8-bit quantisation needs at least {MIN_CALIBRATION_FACES} faces for calibration, got "
            f"{len(calibration)}: give twice as many pictures, half of which measure its cost"
        )
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingDependencyError(f"8-bit quantisation needs onnxruntime: {error}") from error
    names = list(candidate.spec.crop.views)
    # Also faces with a missing view, whose activations have different ranges.
    shown = Crops.join([crops for _, crops in variants(calibration, candidate.spec)])
    reader = _reader(feeds_of(shown, names, PRESENT in candidate.spec.input_shapes))
    # The quantiser modifies its input, and warns unless this property says that the graph was
    # preprocessed (shapes inferred, normalisation folded).
    marked = onnx.ModelProto()
    marked.CopyFrom(candidate.model)
    onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory(prefix="agebench-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            marked,
            str(path),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(kept_nodes(candidate.model)),
        )
        model = onnx.load(str(path))
    _drop_foreign(model)
    store_in_half(model, LARGE_WEIGHTS)
    onnx.helper.set_model_props(model, {})
    return replace(candidate, model=model, spec=replace(candidate.spec, precision="int8"))


def _drop_foreign(model: onnx.ModelProto) -> None:
    """Remove the operator sets that the quantiser imports but does not use."""
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used | {""}]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def kept_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of nodes that stay in float32: raw pixels, masks and the decoding."""
    inputs = {item.name for item in model.graph.input}
    return {
        node.name
        for node in model.graph.node
        if node.op_type in _DECODING
        or _KEPT.intersection(node.output)
        or (node.op_type in ("Sub", "Mul", "Slice", "Flatten") and inputs.intersection(node.input))
        or any(output.endswith("_scaled") for output in node.output)
    }


def _reader(feeds: dict[str, npt.NDArray[np.float32]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    count = len(next(iter(feeds.values())))

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """Provides one face at a time."""

        def __init__(self) -> None:
            self._rows = self._each()

        def _each(self) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
            for row in range(count):
                yield {name: value[row : row + 1] for name, value in feeds.items()}

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._rows, None)

    return Reader()


def price_of(before: Candidate, after: Candidate, crops: Crops, ages: Floats | None) -> Price:
    """Return `measure_price` of two candidates, written to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="agebench-price-") as folder:
        paths = [Path(folder) / name for name in ("before.onnx", "after.onnx")]
        for path, candidate in zip(paths, (before, after), strict=True):
            path.write_bytes(serialise(candidate.model, candidate.spec))
        return measure_price(paths[0], paths[1], crops, ages)


def measure_price(before: Path, after: Path, crops: Crops, ages: Floats | None) -> Price:
    """Compare two files under onnxruntime on the CPU: errors on faces, and time, interleaved.

    Args:
        before: the float32 file.
        after: the other one.
        crops: faces that the second was not calibrated on.
        ages: their true ages, float64 (n,), years; None if unknown.
    """
    with use_threads(usable_cores()):
        files = [AgeFile(path, "onnxruntime", "cpu") for path in (before, after)]
    answers = [file.answer(crops)[0] for file in files]
    errors: list[float | None] = [
        None if ages is None else mae(ages, np.clip(answer, 0.0, 120.0)) for answer in answers
    ]
    times = {batch: _interleaved(files, crops, batch) for batch in TIMED_BATCHES}
    return Price(
        len(crops),
        errors[0],
        errors[1],
        float(np.abs(answers[0] - answers[1]).mean()),
        times,
        before.stat().st_size,
        after.stat().st_size,
    )


def _interleaved(files: list[AgeFile], crops: Crops, batch: int) -> tuple[float, float]:
    part = crops.take(np.resize(np.arange(len(crops)), batch))
    runs: list[Callable[[], object]] = [lambda file=file: file.answer(part) for file in files]  # type: ignore[misc]  # mypy can't infer the type of a default
    samples: list[list[float]] = [[], []]
    for turn in range(_TIMED_RUNS + 3):
        pairs = list(zip(runs, samples, strict=True))
        for run, kept in pairs if turn % 2 else reversed(pairs):
            start = time.perf_counter()
            run()
            if turn >= 3:
                kept.append((time.perf_counter() - start) * 1e3)
    first, second = (float(np.median(kept)) for kept in samples)
    return first, second
