"""Look for training pictures that are copies of test pictures: near-copy hashes across sets.

    python -m benchmarks.leaks --train csv=LIST/train/list.csv --train csv=FAIRFACE.csv \
        --test fgnet=FGNET --test "folder pattern"=ROOT --name leaks

Each set is NAME[ OPTIONS]=ROOT, as `agebench compare` takes them.  Pairs of a training and a test
picture that look alike (agebench.duplicates.groups: candidates by hash, confirmed by pixels,
mirrored ones too) are
written to benchmarks/results/NAME.json by their names; ages and predictions are not used.
Different crops of one photograph are not found.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

from agebench.duplicates.groups import find_duplicates, fingerprints
from agebench.registry.plugins import load_dataset
from agebench.types import Sample
from agebench.util.files import write_whole

RESULTS = Path(__file__).parent / "results"


def listed(texts: list[str], role: str) -> list[Sample]:
    """Return the samples of sets given as NAME=ROOT, named by role, set and place."""
    found = list[Sample]()
    for number, text in enumerate(texts):
        name, equals, root = text.rpartition("=")
        if not equals:
            raise SystemExit(f"expected NAME=ROOT, got {text!r}")
        for item in load_dataset(name, root).samples:
            found.append(replace(item, name=f"{role}/{number}/{item.name}"))
    return found


def main() -> None:
    """Read the command line, compare and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="append", required=True)
    parser.add_argument("--test", action="append", required=True)
    parser.add_argument("--name", default="leaks")
    args = parser.parse_args()
    train, test = listed(args.train, "train"), listed(args.test, "test")
    samples = [*train, *test]
    prints = fingerprints(samples, threads=1)
    pairs = [
        (first, second, group.kind)
        for group in find_duplicates(samples, prints, threads=1)
        for first, second in product(group.members, group.members)
        if first.startswith("train/") and second.startswith("test/")
    ]
    about = {"train": len(train), "test": len(test), "pairs": pairs}
    write_whole(RESULTS / f"{args.name}.json", json.dumps(about, indent=1) + "\n")
    print(f"{len(train):,} against {len(test):,} pictures: {len(pairs)} pairs")
    for first, second, kind in pairs:
        print(f"{kind} {first} {second}")


if __name__ == "__main__":
    main()
