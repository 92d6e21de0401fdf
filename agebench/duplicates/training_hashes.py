"""A model's training pictures as hashes, small enough to be shipped with its weights.

Of each picture the first eight bytes of the sha256 of its file are kept: 24,000 pictures take
190 kB, and the chance that any of a million other pictures is taken for one of them is about one
in a billion.  Only identical bytes are recognised by it.  Near copies, which were saved, resized,
mirrored or cropped again, are recognised if perceptual hashes are next to the list
(`agebench.duplicates.training_looks`).  Another photograph of the same person is not recognised.  A
count of 0 is therefore no proof.

The file: one line that names the format, one line of JSON (what, count, body_sha256 of all sorted
prefixes, and model_sha256 where it is of one model file), then the sorted prefixes, eight bytes
each.  Models that share pictures store them once: a list may name others in its folder
("others", their body_sha256).  Then a bit for each prefix that these have, sorted, tells whether it
is on this list too, and only the remaining prefixes follow.  Earlier files without any prefixes
stand for those of the list with the same body_sha256.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from agebench.duplicates.training_looks import (
    TrainingLooks,
    looks_in,
    make_looks,
    merged_looks,
    write_looks,
)
from agebench.errors import AgebenchError, UsageError
from agebench.modelfiles.weights import sha256_of
from agebench.protocols import ProgressStep, no_progress
from agebench.types import Sample
from agebench.util.files import is_sha256, read_whole, write_whole
from agebench.util.regular_files import open_regular

MAGIC = b"agebench-training-hashes 1\n"
PREFIX_BYTES = 8
RUN_HASHES = "training-hashes.bin"
"""File in the folder of a training run with the pictures that its checkpoints have seen."""

LARGEST_BYTES = 1_000_000_000
"""Larger files are refused: this holds a hundred million pictures."""

_HEAD_BYTES = 4096  # of a list, that name its checksum


def _prefix(sha256: str) -> bytes:
    if not is_sha256(sha256):
        raise ValueError(f"expected a sha256 of 64 hex digits in lower case, got {sha256!r}")
    return bytes.fromhex(sha256[: 2 * PREFIX_BYTES])


@dataclass(frozen=True, slots=True)
class TrainingHashes:
    """A set of pictures, by their content.

    Attributes:
        what: their source, such as "utkface-full/train".
        prefixes: the first eight bytes of each sha256.
        looks: perceptual hashes of the pictures; None if not known.
        near_copies: the first eight bytes of each sha256 of pictures that are not in the set but
            known to be near copies of some that are; they are not written to files.

    >>> trained = TrainingHashes.of("mine/train", ["ab" * 32])
    >>> trained.contains("ab" * 32), trained.contains("cd" * 32)
    (True, False)
    """

    what: str
    prefixes: frozenset[bytes]
    looks: TrainingLooks | None = field(default=None, compare=False)
    near_copies: frozenset[bytes] = frozenset()

    @staticmethod
    def of(what: str, sha256: Iterable[str], near_copies: Iterable[str] = ()) -> TrainingHashes:
        """Create the set from full hashes, 64 hex digits each.

        Args:
            what: source of the pictures.
            sha256: of the pictures.
            near_copies: of others that are known to be near copies.

        Raises:
            ValueError: one is not such a hash.
        """
        near = frozenset(map(_prefix, near_copies))
        return TrainingHashes(what, frozenset(map(_prefix, sha256)), near_copies=near)

    def __len__(self) -> int:
        return len(self.prefixes)

    def contains(self, sha256: str) -> bool:
        """Return whether the picture with this hash (64 hex digits) is in the set.

        Raises:
            ValueError: `sha256` is not such a hash.
        """
        return _prefix(sha256) in self.prefixes

    def has_near_copy(self, sha256: str) -> bool:
        """Return whether the picture with this hash (64 hex digits) is a known near copy.

        Raises:
            ValueError: `sha256` is not such a hash.
        """
        return _prefix(sha256) in self.near_copies

    @property
    def body_sha256(self) -> str:
        """Checksum of the hashes: 64 hex digits."""
        return hashlib.sha256(b"".join(sorted(self.prefixes))).hexdigest()

    def write_looks_beside(
        self,
        folder: Path,
        samples: Sequence[Sample],
        progress: ProgressStep = no_progress,
        *,
        elsewhere: Collection[bytes] = frozenset(),
    ) -> tuple[Path, int]:
        """Write the pictures' perceptual hashes, for all lists in a folder that have some of them.

        Args:
            folder: of the list.
            samples: of data sets that hold the pictures.
            progress: called as it proceeds.
            elsewhere: a set of prefixes of pictures whose looks another file of the folder has.

        Returns:
            The file, and how many of the pictures were found.

        Raises:
            AgebenchError: the file can't be written.
        """
        wanted = self.prefixes.difference(elsewhere)
        looks = make_looks(wanted, samples, progress=progress)
        return write_looks(folder, self.body_sha256, sorted(self.prefixes), looks), len(looks)

    def write(self, path: str | Path) -> None:
        """Write the file that `read_training_hashes` reads.

        Raises:
            AgebenchError: the file can't be written.
        """
        write_whole(Path(path), self.to_bytes())

    def to_bytes(self, model_sha256: str = "", *, others: Sequence[TrainingHashes] = ()) -> bytes:
        """Return the file's content.

        Args:
            model_sha256: of its model file; "" for any model.
            others: lists that are stored whole in the same folder; their pictures are not repeated.
        """
        head: dict[str, object] = {
            "what": self.what,
            "count": len(self.prefixes),
            "body_sha256": self.body_sha256,
        }
        stored = _union(other.prefixes for other in others)
        body = b"".join(sorted(self.prefixes.difference(stored)))
        if others:
            head["others"] = [other.body_sha256 for other in others]
            body = np.packbits([prefix in self.prefixes for prefix in stored]).tobytes() + body
        if model_sha256:
            head["model_sha256"] = model_sha256
        line = json.dumps(head, sort_keys=True).encode("ascii")
        return MAGIC + line + b"\n" + body


def read_training_hashes(path: str | Path) -> TrainingHashes:
    """Read a file that `TrainingHashes.write` made.

    Raises:
        AgebenchError: there is no such file, it is another kind of file, or it is damaged.
    """
    return _read(Path(path))[0]


def _read(file: Path) -> tuple[TrainingHashes, str]:
    """Return the pictures, and the sha256 of their model, or ""."""
    expected = f"{str(file)!r} is not a complete file of training hashes"
    data = read_whole(file, "training hashes", LARGEST_BYTES)
    if not data.startswith(MAGIC):
        raise AgebenchError(f"{expected}: it does not begin with {MAGIC.decode().strip()!r}")
    line, _, body = data[len(MAGIC) :].partition(b"\n")
    try:
        head = json.loads(line)
        what, count, digest = str(head["what"]), head["count"], str(head["body_sha256"])
        model = str(head.get("model_sha256", ""))
        others = list(dict.fromkeys(map(str, head.get("others", ()))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AgebenchError(f"{expected}: its second line is damaged ({error})") from error
    if others:
        prefixes = _shared(file, others, body)
    elif not body and count:
        prefixes = _stored_whole(file, digest)
    else:
        prefixes = _split(body)
    whole = isinstance(count, int) and len(prefixes) == count
    if not whole or hashlib.sha256(b"".join(sorted(prefixes))).hexdigest() != digest:
        raise AgebenchError(f"{expected}: it states {count} pictures, but is truncated or changed")
    return TrainingHashes(what, frozenset(prefixes)), model


def _split(body: bytes) -> list[bytes]:
    return [body[start : start + PREFIX_BYTES] for start in range(0, len(body), PREFIX_BYTES)]


def _union(lists: Iterable[Iterable[bytes]]) -> list[bytes]:
    """Return the prefixes that any of the lists has, sorted."""
    return sorted(frozenset[bytes]().union(*lists))


def _shared(file: Path, others: Sequence[str], body: bytes) -> list[bytes]:
    """Return the prefixes of a list that names others, from what follows its head."""
    stored = _union(_stored_whole(file, other) for other in others)
    length = -(-len(stored) // 8)
    bits = np.unpackbits(np.frombuffer(body[:length], np.uint8))[: len(stored)]
    return [stored[at] for at in np.flatnonzero(bits).tolist()] + _split(body[length:])


def _stored_whole(file: Path, digest: str) -> list[bytes]:
    """Return the prefixes of the list of a file's folder that stores all of this checksum."""
    for other in _lists_naming(file.parent, digest):
        data = read_whole(other, "training hashes", LARGEST_BYTES)
        body = data.removeprefix(MAGIC).partition(b"\n")[2]
        if hashlib.sha256(body).hexdigest() == digest:
            return _split(body)
    raise AgebenchError(
        f"{str(file)!r} refers to training pictures in another list of its folder (checksum "
        f"{digest[:12]}...), which is missing or damaged: put that list into the folder"
    )


def _lists_naming(folder: Path, body_sha256: str) -> list[Path]:
    lists = sorted(folder.glob("*training-hashes.bin"))
    return [file for file in lists if body_sha256.encode() in _first_bytes(file)]


def hashes_beside(model: Path) -> Path:
    """Return the path of the list of a model file's training pictures.

    >>> hashes_beside(Path("runs/best.safetensors")).name
    'best.training-hashes.bin'
    """
    return model.with_name(f"{model.stem}.training-hashes.bin")


def refuse_list_of_another(model: Path) -> None:
    """Refuse to write a model where its list would replace that of a file with another ending.

    Raises:
        UsageError: the list there is of such a file, which could not be used without it.
    """
    listed = hashes_beside(model)
    head = _first_bytes(listed)
    for other in model.parent.glob(f"{glob.escape(model.stem)}.*") if head else ():
        if other != model and other.is_file() and sha256_of(other).encode() in head:
            raise UsageError(
                f"{listed.name} lists the training pictures of {other} and would be overwritten "
                f"with those of {model.name}: name another file"
            )


def find_hashes(model: Path, *others: Path) -> TrainingHashes | None:
    """Read the list next to a model file, or the first existing one of `others`; None without.

    Perceptual hashes come from all files of looks in its folder.

    Raises:
        AgebenchError: a list or a file of looks is damaged, or it is of another model.
    """
    there = (path for path in (hashes_beside(model), *others) if path.is_file())
    found = next(there, None)
    if found is None:
        return None
    trained, of = _read(found)
    if of and of != sha256_of(model):
        raise AgebenchError(
            f"{found} lists the training pictures of a file other than {model.name} (sha256 "
            f"{of[:12]}...): one of the two was replaced alone, or an export was stopped halfway: "
            "export the model again, or move the list away"
        )
    return replace(trained, looks=_looks_beside(found.parent, trained))


def _looks_beside(folder: Path, trained: TrainingHashes) -> TrainingLooks | None:
    """Return the perceptual hashes of a list's pictures, from all files of looks in its folder.

    Looks are stored in the order of one list; with that list in the folder they serve all others.
    """
    parts, own = [], trained.body_sha256
    for file in looks_in(folder):
        same = file.list_sha256 == own
        of = trained if same else _list_of(folder, file.list_sha256)
        if of is not None:
            parts.append(file.of(sorted(of.prefixes)).only(trained.prefixes))
    return merged_looks(parts)


def _list_of(folder: Path, body_sha256: str) -> TrainingHashes | None:
    """Return the list of a folder with this checksum, None if there is none."""
    named = map(read_training_hashes, _lists_naming(folder, body_sha256))
    return next((found for found in named if found.body_sha256 == body_sha256), None)


def _first_bytes(file: Path) -> bytes:
    with suppress(OSError), open_regular(file) as opened:  # an unrelated list may be unreadable
        return opened.read(_HEAD_BYTES)
    return b""


@runtime_checkable
class KnowsItsTraining(Protocol):
    """An estimator that lists the pictures it was trained on."""

    def training_hashes(self) -> TrainingHashes | None:
        """Return them, or None if they are not known."""
        ...
