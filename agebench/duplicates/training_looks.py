"""Perceptual hashes ("looks") of a model's training pictures, to recognise near copies of them.

The companion of a list of training hashes (`agebench.duplicates.training_hashes`), 24 bytes a
picture (`agebench.vision.looks`).  The file is called training-looks-XXXXXXXXXXXXXXXX.bin after the
list's checksum, and contains it, so that looks of other pictures are never confused with these.  It
serves every list in its folder that has some of the same pictures (`training_hashes.find_hashes`).
Pictures without looks are recognised only by identical bytes.

The file: one line that names the format, one line of JSON (count, known, list_sha256, look,
body_sha256, sparse), then a bit for each hash of the list, in its order, that tells whether its
look is known, then the known looks.  Files of earlier versions, without "sparse": true, have no
bits but a look for every hash, zeros where it is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agebench.duplicates.decode_threads import mapped_by, usual_threads
from agebench.duplicates.look_search import Match, Query, search
from agebench.errors import AgebenchError, ImageError
from agebench.protocols import ProgressStep, no_progress
from agebench.types import Sample
from agebench.util.files import read_whole, write_whole
from agebench.vision.looks import LOOK_BYTES, LOOK_VERSION, Looks, looks_of

MAGIC = b"agebench-training-looks 1\n"
LARGEST_BYTES = 3_000_000_000
_NAMES = "training-looks-*.bin"


@dataclass(frozen=True, slots=True)
class LooksLike:
    """A training picture that is similar to another picture.

    Attributes:
        prefix: the first eight bytes of the sha256 of the training picture's file.
        match: how similar, and after which transformation of the other picture.
    """

    prefix: bytes
    match: Match


@dataclass(frozen=True, slots=True, eq=False)
class TrainingLooks:
    """The looks of the pictures of a list.

    Attributes:
        prefixes: of the pictures whose look is known, as in the list.
        looks: of these pictures, uint64 (n, 3).
    """

    prefixes: tuple[bytes, ...]
    looks: Looks

    def only(self, wanted: Collection[bytes]) -> TrainingLooks:
        """Return the looks of some of the pictures.

        Args:
            wanted: a set of their prefixes; unknown ones are ignored.
        """
        kept = [at for at, prefix in enumerate(self.prefixes) if prefix in wanted]
        return TrainingLooks(tuple(self.prefixes[at] for at in kept), self.looks[kept])

    def like(self, query: Query) -> tuple[LooksLike, ...]:
        """Return the training pictures that a picture may be a copy of, the best match first."""
        found = search(query, self.looks)
        return tuple(LooksLike(self.prefixes[match.index], match) for match in found)


def looks_file(folder: Path, list_sha256: str) -> Path:
    """Return the path of the looks of a list.

    Args:
        folder: of the list.
        list_sha256: the list's `body_sha256`.
    """
    return folder / f"training-looks-{list_sha256[:16]}.bin"


@dataclass(frozen=True, slots=True)
class LooksFile:
    """A file of looks as it was read; its list identifies the pictures.

    Attributes:
        path: of the file.
        list_sha256: the list's `body_sha256`.
        body_sha256: what the looks must hash to.
        body: what follows the JSON.
        sparse: whether looks that are not known are left out.
    """

    path: Path
    list_sha256: str
    body_sha256: str
    body: bytes
    sparse: bool

    def __post_init__(self) -> None:
        if looks_file(self.path.parent, self.list_sha256) != self.path:
            raise _damaged(
                self.path, "it belongs to another list: create it again, or move it away"
            )

    def of(self, prefixes: Sequence[bytes]) -> TrainingLooks:
        """Return the looks by the hashes of the list, sorted.

        Raises:
            AgebenchError: they are damaged.
        """
        known, body = self._known(len(prefixes))
        whole = len(body) == LOOK_BYTES * len(known)
        if not whole or hashlib.sha256(self.body).hexdigest() != self.body_sha256:
            raise _damaged(self.path, "it is truncated or changed")
        looks = np.frombuffer(body, np.uint64).reshape(-1, LOOK_BYTES // 8)
        there = np.flatnonzero(looks.any(axis=1))
        return TrainingLooks(tuple(prefixes[at] for at in known[there].tolist()), looks[there])

    def _known(self, count: int) -> tuple[npt.NDArray[np.intp], bytes]:
        """Return the places in the list of the looks that follow, and these."""
        if not self.sparse:
            return np.arange(count), self.body
        length = -(-count // 8)
        bits = np.frombuffer(self.body[:length], np.uint8)
        return np.flatnonzero(np.unpackbits(bits)[:count]), self.body[length:]


def looks_in(folder: Path) -> list[LooksFile]:
    """Read all files of looks in a folder, each once.

    Raises:
        AgebenchError: one is damaged, or named after another list.
    """
    return [_read(file) for file in sorted(folder.glob(_NAMES))]


def _damaged(file: Path, why: str) -> AgebenchError:
    return AgebenchError(f"{str(file)!r} is not a complete file of training looks: {why}")


def _read(file: Path) -> LooksFile:
    data = read_whole(file, "training looks", LARGEST_BYTES)
    if not data.startswith(MAGIC):
        raise _damaged(file, f"it does not begin with {MAGIC.decode().strip()!r}")
    line, _, body = data[len(MAGIC) :].partition(b"\n")
    try:
        head = json.loads(line)
        digests, version = (str(head["list_sha256"]), str(head["body_sha256"])), head["look"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, f"its second line is damaged ({error})") from error
    if version != LOOK_VERSION:
        raise _damaged(file, f"expected version {LOOK_VERSION}, got {version!r:.20}")
    return LooksFile(file, *digests, body, head.get("sparse") is True)


def merged_looks(parts: Iterable[TrainingLooks]) -> TrainingLooks | None:
    """Return the looks of several files as one, each picture once; None without any picture."""
    given = list(parts)
    prefixes = [prefix for part in given for prefix in part.prefixes]
    row = {prefix: at for at, prefix in enumerate(prefixes)}
    if not row:
        return None
    listed = tuple(sorted(row))
    looks = np.concatenate([part.looks for part in given])
    return TrainingLooks(listed, looks[[row[prefix] for prefix in listed]])


def make_looks(
    listed: Iterable[bytes],
    samples: Sequence[Sample],
    *,
    progress: ProgressStep = no_progress,
) -> dict[bytes, bytes]:
    """Return the looks of the listed pictures that are among the samples, by their hashes' start.

    Args:
        listed: the first eight bytes of the sha256 of each picture's file.
        samples: of data sets that hold them; others are ignored.
        progress: called for each hundred pictures, as stage "looks".
    """
    wanted = frozenset(listed)

    def look(sample: Sample) -> tuple[bytes, bytes] | None:
        from agebench.vision.images import decode_image, read_file
        from agebench.vision.similarity import thumbnail

        with suppress(ImageError):
            data = read_file(sample.path)
            prefix = hashlib.sha256(data).digest()[:8]
            if prefix in wanted:
                upright, _ = looks_of([thumbnail(decode_image(data, sample.name))])
                return prefix, upright.tobytes()
        return None

    found: dict[bytes, bytes] = {}
    with mapped_by(usual_threads(samples)) as mapped:
        for done, pair in enumerate(mapped(look, samples), start=1):
            if pair is not None:
                found[pair[0]] = pair[1]
            if done % 100 == 0 or done == len(samples):
                progress("looks", done, len(samples))
    return found


def write_looks(
    folder: Path, list_sha256: str, prefixes: Sequence[bytes], looks: dict[bytes, bytes]
) -> Path:
    """Write a file that `looks_in` reads.

    Args:
        folder: of the list.
        list_sha256: the list's `body_sha256`.
        prefixes: its hashes, sorted.
        looks: from `make_looks`.

    Raises:
        AgebenchError: the file can't be written.
    """
    known = [prefix in looks for prefix in prefixes]
    body = np.packbits(known).tobytes() + b"".join(
        looks[prefix] for prefix in prefixes if prefix in looks
    )
    head = {
        "count": len(prefixes),
        "known": len(looks),
        "list_sha256": list_sha256,
        "look": LOOK_VERSION,
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "sparse": True,
    }
    file = looks_file(folder, list_sha256)
    write_whole(file, MAGIC + json.dumps(head, sort_keys=True).encode("ascii") + b"\n" + body)
    return file
