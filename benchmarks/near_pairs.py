"""How many pairs judged by eye are classified correctly: near copies found, other pairs rejected.

    python -m benchmarks.near_pairs --root UTKFACE

benchmarks/near_pairs.csv lists pairs of UTKFace's chips by the first 16 digits of their sha256 and
what was seen: "copy" (one photograph, or two of one sitting that can hardly be distinguished) or
"other" (two photographs of different people or moments).  They are pairs that `doctor` confirmed
(all 34 mirrored ones, all hard ones, 20 others), pairs that looks found, and the 50 that pixels
rejected most narrowly and that could be judged by eye: not a random sample of all copies, which
nobody knows.  Each pair is judged by the doctor's two steps (hash, pixels), by the looks alone,
among those that come with the package, and by the looks and then the pixels.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np

from agebench.api.doctor import open_dataset
from agebench.duplicates.look_search import Query, search
from agebench.duplicates.training_hashes import find_hashes
from agebench.harness.environment import describe_call
from agebench.harness.near_copies import is_copy
from agebench.modelfiles.manifest import bundled_dir
from agebench.types import Image
from agebench.util.files import write_whole
from agebench.util.progress import progress_bars
from agebench.vision.images import read_image
from agebench.vision.looks import Looks, looks_of
from agebench.vision.similarity import thumbnail
from benchmarks.near_copies import MODEL, RESULTS, hashes_agree, prefix_of

PAIRS = Path(__file__).with_name("near_pairs.csv")
WAYS = ("doctor", "looks_alone", "looks_and_pixels")


def recognised_by(first: Image, second: Image, looks: Looks) -> dict[str, bool]:
    """Return which ways consider the second picture a copy of the first.

    Args:
        first: uint8 (height, width, 3).
        second: the same.
        looks: that the first one's is put among, uint64 (n, 3).
    """
    own = looks_of([thumbnail(first)])[0]
    found = search(Query.of(second), np.concatenate([looks, own]))
    mine = [match for match in found if match.index == len(looks)]
    return {
        "doctor": hashes_agree(first, second),
        "looks_alone": any(match.is_sure for match in mine),
        "looks_and_pixels": any(is_copy(second, first, match) for match in mine),
    }


def main() -> None:
    """Judge every pair in every way, and count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, type=Path, help="folder of UTKFace")
    args = parser.parse_args()
    trained = find_hashes(bundled_dir() / MODEL)
    if trained is None or trained.looks is None:
        raise SystemExit(f"{MODEL} comes without looks")
    by_prefix = {
        prefix_of(item.path).hex(): item for item in open_dataset("utkface", args.root).samples
    }
    place = {prefix.hex(): at for at, prefix in enumerate(trained.looks.prefixes)}
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    with PAIRS.open(encoding="ascii", newline="") as file, progress_bars() as progress:
        pairs = list(csv.DictReader(file))
        for done, pair in enumerate(pairs, start=1):
            first, second = (read_image(by_prefix[pair[end]].path) for end in ("first", "second"))
            known = [place[pair[end]] for end in ("first", "second") if pair[end] in place]
            others = np.delete(trained.looks.looks, known, axis=0)
            ways = recognised_by(first, second, others)
            kind = f"{pair['seen']}, {pair['drawn_from']}"
            counts[kind, "pairs"] += 1
            for way in WAYS:
                counts[kind, way] += ways[way]
            if ways["looks_and_pixels"] != (pair["seen"] == "copy"):
                wrong.append({**pair, **ways})
            progress("pairs", done, len(pairs))
    kinds = sorted({kind for kind, _ in counts})
    content = describe_call() | {
        seen: {what: counts[seen, what] for what in ("pairs", *WAYS)} for seen in kinds
    }
    write_whole(
        RESULTS / "near_pairs.json", json.dumps(content | {"wrong": wrong}, indent=1) + "\n"
    )
    for seen in kinds:
        print(seen, content[seen])


if __name__ == "__main__":
    main()
