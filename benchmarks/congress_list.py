"""A list of portraits of members of the US Congress with bounds on their ages, for the set `csv`.

    python -m benchmarks.congress_list MEMBER_PHOTOS current-2013.yaml ... current-2025.yaml \
        -o LISTS/congress

MEMBER_PHOTOS is a copy of https://github.com/voteview/member_photos; the YAML files are
`legislators-current.yaml` of https://github.com/unitedstates/congress-legislators as of one date in
each Congress, which together name those who served in these years, with the date of birth and all
terms.  Both are largely in the public domain.

An official portrait is not dated, but was taken at about the time when somebody served: between
`BEFORE_YEARS` before the first term and the end of the last one (or `COLLECTED`, for those who
still serve).  Writes `list.csv` (path, low, high, identity), to be read as `csv low=low high=high
identity=identity`.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Person: TypeAlias = Mapping[str, Any]
"""As in the YAML files."""

BEFORE_YEARS = 1
WIDEST_YEARS = 25
"""Longer careers say too little about the age."""

COLLECTED = date(2025, 6, 18)
"""Of the newest photographs."""


def completed_years(born: date, day: date) -> int:
    """Return the age on a day.

    >>> completed_years(date(1960, 7, 2), date(2000, 7, 1))
    39
    """
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def bounds(person: Person) -> tuple[int, int]:
    """Return the lowest and the highest age in completed years at which a portrait was taken."""
    born = date.fromisoformat(person["bio"]["birthday"])
    start = min(date.fromisoformat(term["start"]) for term in person["terms"])
    end = min(COLLECTED, max(date.fromisoformat(term["end"]) for term in person["terms"]))
    return completed_years(born, start) - BEFORE_YEARS, completed_years(born, end)


def by_number(files: Iterable[Path]) -> dict[int, Person]:
    """Return everybody in the files, by ICPSR number; a later file replaces an earlier one."""
    people: dict[int, Person] = {}
    for path in files:
        for person in yaml.load(path.read_bytes(), yaml.CSafeLoader):
            if "icpsr" in person["id"] and "birthday" in person["bio"]:
                people[int(person["id"]["icpsr"])] = person
    return people


def rows(photos: Path, people: Mapping[int, Person]) -> Iterator[tuple[Path, int, int, int]]:
    """Yield picture, lowest and highest age, and number of everybody with a portrait."""
    with (photos / "members.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number, picture = int(row["icpsr"]), photos / row["image"]
            if number in people and picture.is_file():
                low, high = bounds(people[number])
                if 0 < high - low <= WIDEST_YEARS:
                    yield picture, low, high, number


def main() -> None:
    """Read the command line and write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("terms", type=Path, nargs="+", help="from the oldest to the newest")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    people = by_number(args.terms)
    found = sorted(rows(args.photos, people))
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "low", "high", "identity"])
        for picture, low, high, number in found:
            writer.writerow(
                [Path(os.path.relpath(picture, args.out)).as_posix(), low, high, number]
            )
    print(f"{len(people):,} people, {len(found):,} portraits with bounds")


if __name__ == "__main__":
    main()
