"""How the pictures look that a model was trained on: near copies of them are recognised.

The companion of a list of training hashes (`agebench.datasets.training_hashes`), 24 bytes a
picture (`agebench.vision.looks`), in one file for all models of that list: it is called
training-looks-XXXXXXXXXXXXXXXX.bin after the list's own checksum, and holds it, so that looks of
other pictures are never taken for these.  A list without such a file recognises equal bytes alone.

The file: one line that names the format, one line of JSON (count, known, list_sha256, look,
body_sha256), then a look for each hash of the list, in its order; zeros where it is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agebench.errors import AgebenchError, ImageError
from agebench.files import read_whole, write_whole
from agebench.protocols import ProgressStep, no_progress
from agebench.types import Sample
from agebench.vision.looks import LOOK_BYTES, LOOK_VERSION, Looks, bits_apart, looks_of

MAGIC = b"agebench-training-looks 1\n"
LARGEST_BYTES = 3_000_000_000

SURE_BITS = 24
"""Looks that differ in no more bits are near copies, where there are no pixels to tell.

On UTKFace's chips this finds 537 of the 588 pairs that pixels confirm, and calls 2 others copies
among the 2 x 68 million pairs of 4,062 held-out with 16,713 training pictures (measured with planes
of the same kind from another seed).
"""

CANDIDATE_BITS = 39
"""Looks that differ in no more bits are worth comparing by pixels: 577 of the same 588 pairs."""

MOST_CANDIDATES = 3
"""Training pictures that one picture is compared with by pixels, the nearest ones."""


@dataclass(frozen=True, slots=True)
class LooksLike:
    """A training picture that another picture looks like.

    Attributes:
        prefix: the first eight bytes of the sha256 of the training picture's file.
        bits: in which the two looks differ, of 192.
        mirrored: it looks like that picture in a mirror.
    """

    prefix: bytes
    bits: int
    mirrored: bool


@dataclass(frozen=True, slots=True, eq=False)
class TrainingLooks:
    """The looks of the pictures of a list.

    Attributes:
        prefixes: of the pictures whose look is known, as the list has them.
        looks: theirs, uint64 (n, 3).
    """

    prefixes: tuple[bytes, ...]
    looks: Looks

    def like(self, pair: Looks) -> tuple[LooksLike, ...]:
        """Return the training pictures that a picture may be a copy of, the nearest first.

        Args:
            pair: its look, and its look in a mirror, uint64 (2, 3), as `looks.look_pair` gives it.
        """
        found = []
        for mirrored, look in enumerate(pair):
            apart = bits_apart(look, self.looks)
            near = np.flatnonzero(apart <= CANDIDATE_BITS)
            found += [
                LooksLike(self.prefixes[at], int(apart[at]), bool(mirrored)) for at in near.tolist()
            ]
        return tuple(sorted(found, key=lambda item: (item.bits, item.prefix))[:MOST_CANDIDATES])


def looks_file(folder: Path, list_sha256: str) -> Path:
    """Return where the looks of a list lie.

    Args:
        folder: that the list lies in.
        list_sha256: the list's `body_sha256`.
    """
    return folder / f"training-looks-{list_sha256[:16]}.bin"


def read_looks(folder: Path, list_sha256: str, prefixes: Sequence[bytes]) -> TrainingLooks | None:
    """Read the looks of a list, None where there is no file of them.

    Args:
        folder: that the list lies in.
        list_sha256: the list's `body_sha256`.
        prefixes: its hashes, sorted.

    Raises:
        AgebenchError: the file is there but damaged, or of another list.
    """
    file = looks_file(folder, list_sha256)
    if not file.is_file():
        return None
    expected = f"{str(file)!r} is not a whole file of training looks"
    data = read_whole(file, "training looks", LARGEST_BYTES)
    if not data.startswith(MAGIC):
        raise AgebenchError(f"{expected}: it does not begin with {MAGIC.decode().strip()!r}")
    line, _, body = data[len(MAGIC) :].partition(b"\n")
    try:
        head = json.loads(line)
        of, version, digest = head["list_sha256"], head["look"], head["body_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AgebenchError(f"{expected}: its second line is damaged ({error})") from error
    if of != list_sha256:
        raise AgebenchError(f"{expected}: it is of another list: make it again, or move it away")
    if version != LOOK_VERSION:
        raise AgebenchError(f"{expected} of version {LOOK_VERSION}, but of {version!r:.20}")
    if len(body) != LOOK_BYTES * len(prefixes) or hashlib.sha256(body).hexdigest() != digest:
        raise AgebenchError(f"{expected}: it is cut or changed")
    looks = np.frombuffer(body, np.uint64).reshape(-1, LOOK_BYTES // 8)
    known = np.flatnonzero(looks.any(axis=1))
    return TrainingLooks(tuple(prefixes[at] for at in known.tolist()), looks[known])


def make_looks(
    listed: Iterable[bytes],
    samples: Sequence[Sample],
    *,
    processes: int = 2,
    progress: ProgressStep = no_progress,
) -> dict[bytes, bytes]:
    """Return the looks of the listed pictures that are among the samples, by their hashes' start.

    Args:
        listed: the first eight bytes of the sha256 of each picture's file.
        samples: of data sets that hold them; others among them are passed over.
        processes: pictures that are decoded at once.
        progress: told of each hundred pictures, as stage "looks".
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
    with ThreadPoolExecutor(max(1, processes)) as pool:
        for done, pair in enumerate(pool.map(look, samples), start=1):
            if pair is not None:
                found[pair[0]] = pair[1]
            if done % 100 == 0 or done == len(samples):
                progress("looks", done, len(samples))
    return found


def write_looks(
    folder: Path, list_sha256: str, prefixes: Sequence[bytes], looks: dict[bytes, bytes]
) -> Path:
    """Write the file that `read_looks` reads; arguments as there, and what `make_looks` gave.

    Raises:
        AgebenchError: the file can't be written.
    """
    body = b"".join(looks.get(prefix, bytes(LOOK_BYTES)) for prefix in prefixes)
    head = {
        "count": len(prefixes),
        "known": len(looks),
        "list_sha256": list_sha256,
        "look": LOOK_VERSION,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    file = looks_file(folder, list_sha256)
    write_whole(file, MAGIC + json.dumps(head, sort_keys=True).encode("ascii") + b"\n" + body)
    return file
