"""Clean LongevityNet: write a list of the pictures to train on, with their ages.

    python -m benchmarks.clean_longevitynet LONGEVITYNET/datasets -o LIST_FOLDER

The set (https://github.com/trialan/longevitynet) names its pictures by the years of birth, of death
and of the photograph; the last is sometimes the year of something else.  A picture is kept if

- its name gives the years, the photograph was not taken after the death, and the age is 1 to 105;
- no earlier file has the same bytes;
- `yunet` finds exactly one face;
- not both `multicrop-resnet` and `hse-mobilenet` miss the age by more than 12 years to the same
  side, after subtracting each one's median error in that decade (old people look too young to
  both).

Someone born in the year b is y - b or y - b - 1 years old in a photograph of the year y: the list
says y - b - 0.5.  One in ten people is held out, by a hash of the name.  The script writes
`train/list.csv` and `held-out/list.csv` (path, age, identity, sha256), for the data set `csv`; and
`held-out-unchecked/list.csv`, which includes the pictures that the two models contradict: a
leaderboard with these models must not leave out what is hard for them.

    python -m benchmarks.clean_longevitynet LONGEVITYNET/datasets -o LIST_FOLDER \
        --kept pretrained/multicrop-resnet.training-hashes.bin

writes the list of what a network was trained on, the same `train/list.csv`, without any model.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agebench.duplicates.training_hashes import read_training_hashes
from agebench.registry.plugins import load_detector, load_estimator
from agebench.trainer.pictures import sha256_if_readable
from agebench.types import Sample
from benchmarks.teachers import Floats, ask

NAME = re.compile(r"(?P<who>.*)_birth:(?P<born>\d+)_death:(?P<died>\d+)_data:(?P<taken>\d+)_")
MEMBERS = ("multicrop-resnet", "hse-mobilenet")
TOLERANCE_YEARS = 12.0
LEAST_PER_DECADE = 20
HELD_OUT_BELOW = 26  # of 256: one in ten


def listed(root: Path) -> list[Sample]:
    """Return the pictures whose names give a possible age, without byte-identical copies."""
    seen, found = set[str](), []
    for path in sorted(root.rglob("*.jp*g")):
        years = NAME.match(path.name)
        if years is None:
            continue
        born, died, taken = (int(years[part]) for part in ("born", "died", "taken"))
        if taken > died or not 1 <= taken - born <= 105:
            continue
        name = path.relative_to(root).as_posix()
        item = Sample(path, name, taken - born - 0.5, identity=years["who"])
        digest = sha256_if_readable(item)
        if digest not in seen:
            seen.add(digest)
            found.append(item)
    return found


def held_out(identity: str) -> bool:
    """Say whether a person is kept for validation."""
    return hashlib.sha256(identity.encode()).digest()[0] < HELD_OUT_BELOW


def contradicted(means: Floats, ages: Floats) -> npt.NDArray[np.bool_]:
    """Return which labels all estimators contradict to the same side, (n,).

    Args:
        means: (estimators, n), what each says, years.
        ages: (n,), the labels.
    """
    errors = means - ages
    decades = np.minimum(ages // 10, 9).astype(int)
    for decade in np.unique(decades):
        rows = decades == decade
        if rows.sum() > LEAST_PER_DECADE:
            errors[:, rows] -= np.median(errors[:, rows], axis=1, keepdims=True)
    above, below = errors > TOLERANCE_YEARS, errors < -TOLERANCE_YEARS
    return np.asarray(above.all(axis=0) | below.all(axis=0))


def write_list(folder: Path, rows: Iterable[tuple[Sample, str]]) -> int:
    """Write a list with paths relative to it; return the number of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "age", "identity", "sha256"])
        for item, digest in rows:
            path = Path(os.path.relpath(item.path, folder)).as_posix()
            writer.writerow([path, item.age_years, item.identity, digest])
            count += 1
    return count


def main() -> None:
    """Read the command line, ask the estimators and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="training hashes: list those, ask nobody")
    args = parser.parse_args()
    samples = listed(args.root)
    if args.kept is not None:
        known = read_training_hashes(args.kept)
        digests = [sha256_if_readable(item) for item in samples]
        rows = [row for row in zip(samples, digests, strict=True) if known.contains(row[1])]
        print(f"train: {write_list(args.out / 'train', rows):,} pictures")
        return
    estimators = [load_estimator(name) for name in MEMBERS]
    with Progress() as bars:
        bar = bars.add_task("Asking", total=len(samples))
        answers = ask(samples, load_detector("yunet"), estimators, lambda: bars.advance(bar))
    ages = np.array([item.age_years for item in answers.samples], np.float64)
    one = answers.faces == 1
    wrong = np.zeros(len(one), np.bool_)
    wrong[one] = contradicted(answers.means()[:, one], ages[one])
    kept = one & ~wrong
    out = np.array([held_out(item.identity or "") for item in answers.samples])
    rows = list(zip(answers.samples, answers.hashes, strict=True))
    lists = (("train", kept & ~out), ("held-out", kept & out), ("held-out-unchecked", one & out))
    for name, chosen in lists:
        picked = [rows[index] for index in np.flatnonzero(chosen)]
        count = write_list(args.out / name, picked)
        print(f"{name}: {count:,} pictures")
    print(
        f"{len(samples):,} usable names; no face in {len(samples) - len(one):,}, several in "
        f"{int((~one).sum()):,}; contradicted {int(wrong.sum()):,}"
    )


if __name__ == "__main__":
    main()
