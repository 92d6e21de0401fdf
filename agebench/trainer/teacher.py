"""A teacher's answers to training pictures: computed once, stored in a file, a second target.

The method is Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015: the
student learns the distribution that a larger network, or the mean of several, predicts.  The
teacher sees the original pictures, the student augmented ones.

The file is a safetensors file (numbers and text, no code): ``hashes`` uint8 (n, 8), the first bytes
of the SHA-256 of each picture's file, and ``probabilities`` float16 (n, bins), one bin per year
from ``youngest`` to ``oldest`` in its metadata, in which ``what`` describes the teacher.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from agebench.duplicates.training_hashes import PREFIX_BYTES
from agebench.errors import AgebenchError, UsageError
from agebench.references import user_path
from agebench.train.face_cache import TrainingFaces
from agebench.train.sections import TeacherSettings
from agebench.train.settings import TrainSettings
from agebench.util.files import read_whole, write_whole
from agebench.util.tensor_files import in_fixed_order

FORMAT = "agebench-teacher 1"
LARGEST_BYTES = 4_000_000_000
SUM_TOLERANCE = 0.02
"""Tolerance for the sum of a hundred probabilities in half precision."""


@dataclass(frozen=True, slots=True, eq=False)
class TeacherAnswers:
    """Distributions by picture.

    Attributes:
        what: description of the teacher.
        sha256: of the file.
        youngest, oldest: ages of the first and the last bin, years.
        probabilities: float16 (n, bins); each row sums to 1.
        rows: index of the row by the first eight bytes of the picture's SHA-256.
    """

    what: str
    sha256: str
    youngest: int
    oldest: int
    probabilities: npt.NDArray[np.float16]
    rows: Mapping[bytes, int]

    def of(self, hashes: Sequence[str]) -> npt.NDArray[np.float16]:
        """Return the answers to pictures, float16 (n, bins), with rows of 0 for missing ones.

        Args:
            hashes: SHA-256 of their files, hex digits.
        """
        found = np.zeros((len(hashes), self.probabilities.shape[1]), np.float16)
        for index, sha256 in enumerate(hashes):
            row = self.rows.get(bytes.fromhex(sha256[: 2 * PREFIX_BYTES]))
            if row is not None:
                found[index] = self.probabilities[row]
        return found


def write_answers(
    path: Path,
    what: str,
    hashes: Sequence[str],
    probabilities: npt.NDArray[Any],
    ages: tuple[int, int],
) -> None:
    """Write a file that `read_teacher_answers` reads.

    Args:
        path: the file.
        what: description of the teacher.
        hashes: SHA-256 of the pictures' files, hex digits.
        probabilities: (n, bins), one bin per year.
        ages: of the first and the last bin, years.

    Raises:
        ValueError: the shapes do not match.
        AgebenchError: the file can't be written.
    """
    youngest, oldest = ages
    if probabilities.shape != (len(hashes), oldest - youngest + 1):
        raise ValueError(
            f"expected {len(hashes)} rows of {oldest - youngest + 1} probabilities, got "
            f"{probabilities.shape}"
        )
    prefixes = b"".join(bytes.fromhex(sha256[: 2 * PREFIX_BYTES]) for sha256 in hashes)
    arrays: dict[str, npt.NDArray[Any]] = {
        "hashes": np.frombuffer(prefixes, np.uint8).reshape(-1, PREFIX_BYTES),
        "probabilities": np.ascontiguousarray(probabilities, np.float16),
    }
    head = {"what": what, "youngest": youngest, "oldest": oldest}
    content = save_arrays(arrays, {"format": FORMAT, "agebench": json.dumps(head)})
    write_whole(path, in_fixed_order(content))


def read_teacher_answers(path: Path) -> TeacherAnswers:
    """Read a teacher's answers.

    Raises:
        AgebenchError: there is no such file, it is of a different kind, or it is damaged.
    """
    data = read_whole(path, "a teacher's answers", LARGEST_BYTES)
    expected = f"{path} does not contain a teacher's answers"
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        if metadata["format"] != FORMAT:
            raise AgebenchError(f"{expected}: its format is {metadata['format']!r:.60}")
        head = json.loads(metadata["agebench"])
        what, youngest, oldest = str(head["what"]), int(head["youngest"]), int(head["oldest"])
        arrays = load_arrays(data)
        prefixes, taught = arrays["hashes"], arrays["probabilities"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AgebenchError(
            f"{expected}, or is damaged ({type(error).__name__}): create it with "
            "benchmarks/teacher_answers.py"
        ) from error
    bins = oldest - youngest + 1
    shapes = (len(prefixes), PREFIX_BYTES) == prefixes.shape and prefixes.dtype == np.uint8
    if not shapes or taught.shape != (len(prefixes), bins) or taught.dtype != np.float16:
        raise AgebenchError(
            f"{expected}: expected hashes and half-precision probabilities of {bins} ages, got "
            f"{prefixes.shape} and {taught.shape} of {taught.dtype}"
        )
    sums = taught.sum(axis=1, dtype=np.float64)
    if not (np.all(taught >= 0) and np.all(np.abs(sums - 1) < SUM_TOLERANCE)):
        raise AgebenchError(f"{expected}: a row is not a distribution that sums to 1")
    rows = {prefix.tobytes(): row for row, prefix in enumerate(prefixes)}
    digest = hashlib.sha256(data).hexdigest()
    return TeacherAnswers(what, digest, youngest, oldest, taught, rows)


def read_teacher(settings: TrainSettings) -> TeacherAnswers | None:
    """Read the answers that a run's settings name; None if they name none.

    Raises:
        AgebenchError: the file can't be read or is damaged.
        UsageError: the teacher's ages differ from the network's.
    """
    if not settings.teacher.file:
        if settings.teacher != TeacherSettings():
            raise UsageError("teacher.weight has no effect without teacher.file: name the file")
        return None
    teacher = read_teacher_answers(user_path(settings.teacher.file))
    ages = (settings.model.youngest, settings.model.oldest)
    if ages != (teacher.youngest, teacher.oldest):
        raise UsageError(
            f"teacher.file has ages {teacher.youngest} to {teacher.oldest}, the network has "
            f"{ages[0]} to {ages[1]}: compute the answers again, or set model.youngest and "
            "model.oldest"
        )
    return teacher


def about_answers(faces: TrainingFaces, teacher: TeacherAnswers | None) -> dict[str, Any]:
    """Return the facts about the teacher, if any, that a checkpoint stores."""
    if teacher is None or faces.answers is None:
        return {}
    known = int(faces.answers.any(axis=1).sum())
    return {"teacher": {"what": teacher.what, "sha256": teacher.sha256, "pictures": known}}


def with_answers(faces: TrainingFaces, teacher: TeacherAnswers) -> TrainingFaces:
    """Return the faces with the teacher's answer to each.

    Args:
        faces: the pictures.
        teacher: with answers to all or some of them.

    Raises:
        UsageError: it has no answer to any of them.
    """
    answers = teacher.of(faces.hashes)
    if not answers.any():
        raise UsageError(
            "teacher.file has no answer for any training picture: it was created from other "
            "pictures; create it from these"
        )
    return replace(faces, answers=answers)
