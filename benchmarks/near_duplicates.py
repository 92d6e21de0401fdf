"""How many of the near-identical pairs that the doctor confirms are wrong, judged by eye.

First draw a random sample of confirmed pairs, on sheets outside of the repository:
    python benchmarks/near_duplicates.py ROOT --sheets FOLDER
then look at them and record the judgement:
    python benchmarks/near_duplicates.py ROOT --sheets FOLDER --wrong 0 --unsure 1 --out FILE
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import beta

from agebench.api.doctor import open_dataset
from agebench.doctor.pictures import SheetTile, contact_sheets, png_bytes
from agebench.duplicates import groups as duplicates
from agebench.duplicates.groups import Fingerprint, find_duplicates, fingerprints
from agebench.duplicates.near_search import CURRENT, NearPair
from agebench.errors import AgebenchError
from agebench.protocols import Dataset
from agebench.types import Sample, plain
from agebench.util.files import write_whole
from agebench.vision.similarity import hash_version


def distinct(
    samples: Sequence[Sample], prints: Sequence[Fingerprint]
) -> tuple[list[Sample], list[Fingerprint]]:
    """Return one sample per content, so that identical files make no pairs."""
    firsts = {print_.sha256: index for index, print_ in reversed(list(enumerate(prints)))}
    kept = sorted(firsts.values())
    return [samples[index] for index in kept], [prints[index] for index in kept]


def draw(samples: Sequence[Sample], pairs: Sequence[NearPair], folder: Path) -> int:
    """Write the sheets; return how many."""
    rows = [
        [
            SheetTile(samples[pair.first].path, (f"pair {number}, {pair.distance_bits} bits",)),
            SheetTile(
                samples[pair.second].path,
                (f"detail {pair.detail:.3f}{' mirrored' * pair.mirrored}",),
            ),
        ]
        for number, pair in enumerate(pairs, start=1)
    ]
    sheets = contact_sheets(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for number, sheet in enumerate(sheets, start=1):
        write_whole(folder / f"pairs_{number}.png", png_bytes(sheet))
    return len(sheets)


def upper_bound(wrong: int, judged: int) -> float:
    """Return the upper end of the 95 % interval (Clopper-Pearson) of a share."""
    if wrong == judged:
        return 1.0
    return float(beta.ppf(0.975, wrong + 1, judged - wrong))


def record(
    dataset: Dataset, prints: Sequence[Fingerprint], seconds: float, pairs: Sequence[NearPair]
) -> dict[str, Any]:
    """Return the counts; no names, for the pictures are not ours to list."""
    identical = find_duplicates(dataset.samples, prints, near=False)
    groups = find_duplicates(dataset.samples, prints)
    near = [group for group in groups if group.kind == "near"]
    return {
        "dataset": dataset.spec.name,
        "pictures": len(prints),
        "identical_groups": len(identical),
        "identical_groups_with_different_ages": sum(group.conflicting for group in identical),
        "near_groups": len(near),
        "near_groups_with_different_ages": sum(group.conflicting for group in near),
        "all_groups": len(groups),
        "pictures_in_groups": sum(len(group.members) for group in groups),
        "near_pairs": len(pairs),
        "seconds": {"fingerprints_and_pairs": round(seconds, 1)},
        "criteria": plain(CURRENT),
        "versions": {"hash": hash_version(), "agebench": version("agebench")},
    }


def main(arguments: list[str] | None = None) -> int:
    """Draw the sheets, write the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--dataset", help="kind of data set; guessed if not given")
    parser.add_argument("--sheets", type=Path, required=True, help="folder, not in the repository")
    parser.add_argument("--pairs", type=int, default=100, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wrong", type=int, help="of these: not one photograph")
    parser.add_argument("--unsure", type=int, default=0, help="of these: undecided by eye")
    parser.add_argument("--out", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    if (options.wrong is None) != (options.out is None):
        parser.error("--wrong and --out go together")
    try:
        dataset = open_dataset(options.dataset, options.root)
        start = time.perf_counter()
        prints = fingerprints(dataset.samples, use_cache=False)
        samples, single = distinct(dataset.samples, prints)
        pairs = duplicates.near_links(samples, single)
        seconds = time.perf_counter() - start
        judged = min(options.pairs, len(pairs))
        drawn = random.Random(options.seed).sample(pairs, judged)
        sheets = draw(samples, drawn, options.sheets)
        print(f"{len(pairs)} pairs, {judged} of them on {sheets} sheets in {options.sheets}")
        if options.out is not None:
            bad = options.wrong + options.unsure
            figures = record(dataset, prints, seconds, pairs)
            figures["judged"] = {
                "pairs": judged,
                "seed": options.seed,
                "wrong": options.wrong,
                "unsure": options.unsure,
                "error_rate": options.wrong / judged if judged else math.nan,
                "error_rate_upper_95_unsure_as_wrong": round(upper_bound(bad, judged), 4),
            }
            write_whole(options.out, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    except AgebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
