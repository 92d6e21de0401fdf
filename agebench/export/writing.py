"""From a candidate to a file that was proven equal, or to no file at all."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import onnx

from agebench.duplicates.training_hashes import TrainingHashes, hashes_beside
from agebench.errors import AgebenchError
from agebench.export.candidate import Candidate
from agebench.export.parity import ParityReport, Tolerance, compare_file
from agebench.runtimes.age_file import AgeFile, generated
from agebench.runtimes.onnx_metadata import Kind, to_properties
from agebench.types import Crops
from agebench.util.files import check_target, write_together

GENERATED_FACES = 64
_SEED = 20


class CheckReport(Protocol):
    """What a parity gate found, whatever was compared."""

    def to_json(self) -> str:
        """Return it as text for the file beside the model."""
        ...


_Report = TypeVar("_Report", bound=CheckReport)


@dataclass(frozen=True, slots=True)
class Written(Generic[_Report]):
    """A file that was written.

    Attributes:
        path: the model.
        size_bytes: its size.
        report: what the gate found; None where it was left out.
        report_path: where that lies; None without one.
    """

    path: Path
    size_bytes: int
    report: _Report | None
    report_path: Path | None


def report_beside(path: Path) -> Path:
    """Return where the report of a model lies: ``model.parity.json`` beside ``model.onnx``."""
    return path.with_name(f"{path.stem}.parity.json")


def serialise(model: onnx.ModelProto, spec: object, kind: Kind = "age-estimator") -> bytes:
    """Return the file's bytes: the model with `spec` as its metadata, checked again as a whole.

    Raises:
        AgebenchError: the model is larger than an ONNX file may be.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.helper.set_model_props(whole, to_properties(spec, kind))
    try:
        content: bytes = whole.SerializeToString(deterministic=True)
    except ValueError as error:  # above 2 GiB
        raise AgebenchError(f"the model is too large for an ONNX file: {error}") from error
    onnx.checker.check_model(content, full_check=True)
    return content


def export(
    candidate: Candidate,
    out: Path,
    *,
    crops: Crops | None = None,
    described: str = "",
    tolerance: Tolerance | None = None,
    check: bool = True,
) -> Written[ParityReport]:
    """Write a candidate as one ONNX file, with the report of the parity gate beside it.

    Args:
        candidate: what to write.
        out: the file; one that is there is replaced, but only by one that passed.
        crops: to compare with; None for generated ones.
        described: what the crops are, in words.
        tolerance: None for that of the precision.
        check: False leaves the gate out; the file is still loaded once, and no report written.

    Raises:
        ModelError: a runtime can't load the file, or its ages differ: nothing is written.
        AgebenchError: the file can't be written.
    """
    check_target(out)
    content = serialise(candidate.model, candidate.spec)
    compared = (
        crops if crops is not None else generated(candidate.spec.crop, GENERATED_FACES, _SEED)
    )
    text = described or f"{len(compared)} generated crops, seed {_SEED}"

    def prove(path: Path) -> ParityReport | None:
        if not check:
            AgeFile(path)
            return None
        report = compare_file(
            path,
            candidate.source,
            compared,
            label=candidate.label,
            described=text,
            tolerance=tolerance,
        )
        report.require()
        return report

    report = proven(content, out.name, prove)
    return write_with_companions(out, content, report, candidate.trained)


def proven(content: bytes, name: str, prove: Callable[[Path], _Report | None]) -> _Report | None:
    """Have `prove` look at the bytes as a file of that name, in a folder that goes away again."""
    with tempfile.TemporaryDirectory(prefix="agebench-export-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return prove(path)


def write_with_companions(
    out: Path, content: bytes, report: _Report | None, trained: TrainingHashes | None = None
) -> Written[_Report]:
    """Write the model, its report and what it has seen; those of an earlier file go away.

    Each companion holds the model's sha256.  The model gets its name last: a run that is stopped
    between two names leaves a list that says that it is of another model, never a model whose
    list is an older one's.

    Raises:
        AgebenchError: one can't be written; what was there is as it was.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    listed, beside = hashes_beside(out), report_beside(out)
    files: list[tuple[Path, str | bytes]] = []
    if trained is not None:
        files.append((listed, trained.to_bytes(sha256)))
    if report is not None:
        content_json = {"model_sha256": sha256, **json.loads(report.to_json())}
        files.append((beside, json.dumps(content_json, indent=2) + "\n"))
    write_together([*files, (out, content)])
    if trained is None:
        listed.unlink(missing_ok=True)
    if report is None:
        beside.unlink(missing_ok=True)
    return Written(out, len(content), report, None if report is None else beside)
