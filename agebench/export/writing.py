"""Writes a candidate to a file, if the file is equal to its source."""

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
from agebench.util.files import check_target, write_together, write_whole

GENERATED_FACES = 64
_SEED = 20


class CheckReport(Protocol):
    """Result of a parity check."""

    def to_json(self) -> str:
        """Return it as JSON for the file next to the model."""
        ...


_Report = TypeVar("_Report", bound=CheckReport)


@dataclass(frozen=True, slots=True)
class Written(Generic[_Report]):
    """A file that was written.

    Attributes:
        path: the model.
        size_bytes: its size.
        report: result of the parity check; None if it was skipped.
        report_path: file of the report; None without one.
        list_path: list of the training pictures; None without one.
    """

    path: Path
    size_bytes: int
    report: _Report | None
    report_path: Path | None
    list_path: Path | None = None


def report_beside(path: Path) -> Path:
    """Return the path of a model's report: ``model.parity.json`` for ``model.onnx``."""
    return path.with_name(f"{path.stem}.parity.json")


def serialise(model: onnx.ModelProto, spec: object, kind: Kind = "age-estimator") -> bytes:
    """Return the file's bytes: the model with `spec` as its metadata, checked by `onnx.checker`.

    Raises:
        AgebenchError: the model is too large for an ONNX file.
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
    """Write a candidate as one ONNX file, and the report of the parity check next to it.

    Args:
        candidate: to be written.
        out: the file; an existing one is replaced only if the check passes.
        crops: for the comparison; None for generated ones.
        described: description of the crops.
        tolerance: None for that of the precision.
        check: False skips the parity check; the file is loaded once, and no report is written.

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
    """Call `prove` with a temporary file that has this name and content; return its result."""
    with tempfile.TemporaryDirectory(prefix="agebench-export-") as folder:
        path = Path(folder) / name
        write_whole(path, content)
        return prove(path)


def write_with_companions(
    out: Path, content: bytes, report: _Report | None, trained: TrainingHashes | None = None
) -> Written[_Report]:
    """Write the model, its report and the list of its training pictures.

    Companions of an earlier file are removed.  Each contains the model's sha256.  The model is
    renamed last: if the run is interrupted in between, a list may belong to another model, which
    its sha256 shows, but no model has an outdated list.

    Raises:
        AgebenchError: one can't be written; existing files are unchanged.
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
    report_path = None if report is None else beside
    return Written(out, len(content), report, report_path, None if trained is None else listed)
