"""A list of the pictures of a data set that a network was trained on, by its training hashes.

    python -m benchmarks.kept_list --dataset "fairface part=train" --root FAIRFACE \
        --hashes pretrained/multicrop-resnet-small.training-hashes.bin -o LIST_FOLDER

Writes `list.csv` (path, age) for the data set `csv`: a recipe is made again from the public
source without the list of names being kept anywhere.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from rich.progress import track

from agebench.duplicates.training_hashes import read_training_hashes
from agebench.registry.plugins import load_dataset
from agebench.trainer.pictures import sha256_if_readable
from agebench.types import Sample


def age_of(item: Sample) -> str:
    """Return a label as the data set `csv` reads it: "34" or "30-39"; "" if there is none."""
    if item.age_years is not None:
        return f"{item.age_years:g}"
    return "" if item.age_range is None else "{}-{}".format(*item.age_range)


def main() -> None:
    """Read the command line and write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--hashes", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    known = read_training_hashes(args.hashes)
    samples = load_dataset(args.dataset, args.root).samples
    digests = map(sha256_if_readable, track(samples, "Hashing"))
    kept = [item for item, digest in zip(samples, digests, strict=True) if known.contains(digest)]
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "age"])
        for item in kept:
            writer.writerow([Path(os.path.relpath(item.path, args.out)).as_posix(), age_of(item)])
    print(f"{len(kept):,} of {len(samples):,} pictures")


if __name__ == "__main__":
    main()
