"""The doctor's findings as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agebench.doctor.diagnosis import LABEL_DESCRIPTIONS, Diagnosis, SharedPicture
from agebench.duplicates.groups import DuplicateGroup
from agebench.errors import inert

MAX_LISTED = 5
"""Most findings of one kind listed in the terminal; the JSON has all."""

BAR_CELLS = 40

OWN_SETS = frozenset({"csv", "folders", "names"})
"""Data sets of the user's own pictures: only the user knows where their ages come from."""


def print_report(
    diagnosis: Diagnosis,
    other: Diagnosis | None,
    shared: Sequence[SharedPicture],
    console: Console,
) -> None:
    """Print the findings, most important last."""
    for one in filter(None, (diagnosis, other)):
        _print_diagnosis(one, console)
    if other is not None:
        _print_shared(diagnosis, other, shared, console)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(inert(text), style=style), soft_wrap=True)


def _print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    _line(console, f"{diagnosis.dataset}: {diagnosis.root}", "bold")
    _line(console, f"ages are {LABEL_DESCRIPTIONS[diagnosis.label_kind]}")
    if diagnosis.label_kind == "unknown" and diagnosis.dataset in OWN_SETS:
        others = " pattern=..." if diagnosis.dataset == "names" else ""
        option = f'--dataset "{diagnosis.dataset}{others} label_kind=birth-age"'
        _line(console, f"if you know their origin, state it: {option}")
    for note in diagnosis.notes:
        _line(console, f"note: {note}")
    console.print(_count_table(diagnosis))
    console.print(age_table(diagnosis.ages, diagnosis.ranges))
    _list(console, "left out", [f"{item.name}: {item.reason}" for item in diagnosis.problems])
    broken = [f"{item.name}: {item.reason}" for item in diagnosis.broken]
    _list(console, "can't be decoded", broken)
    suspicious = [
        f"{item.age_years} years, {item.pictures} pictures: {item.reason}"
        for item in diagnosis.suspicious
    ]
    _list(console, "ages to look at", suspicious)
    _list(console, "copies with different ages", map(_group_line, diagnosis.conflicting))


def _list(console: Console, title: str, lines: Iterable[str]) -> None:
    """Print a title and the first lines, if there are any."""
    listed = list(lines)
    if not listed:
        return
    _line(console, f"{title}: {len(listed)}", "bold")
    for line in listed[:MAX_LISTED]:
        _line(console, f"  {line}")
    if len(listed) > MAX_LISTED:
        _line(console, f"  and {len(listed) - MAX_LISTED} more (--json lists all)")


def _age(age: float | None) -> str:
    return "?" if age is None else f"{age:g}"


def _group_line(group: DuplicateGroup) -> str:
    members = zip(group.members, group.ages, strict=True)
    return f"{group.age_gap_years:g} years apart, {group.kind}: " + ", ".join(
        f"{name} ({_age(age)})" for name, age in members
    )


def _count_table(diagnosis: Diagnosis) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    identical, near = diagnosis.identical, diagnosis.near
    table.add_row("pictures named and labelled", f"{diagnosis.pictures:,}")
    table.add_row("of these decoded", f"{diagnosis.decoded:,}")
    for kind, count in sorted(Counter(item.kind for item in diagnosis.broken).items()):
        table.add_row(f"  not decoded: {kind}", f"{count:,}")
    table.add_row("left out by name or place", f"{len(diagnosis.problems):,}")
    table.add_row("without any age", f"{diagnosis.unlabelled:,}")
    table.add_row("different sizes", f"{len(diagnosis.sizes):,}")
    table.add_row("groups of identical files", f"{len(identical):,}")
    table.add_row("  with different ages", f"{_conflicts(identical):,}")
    if diagnosis.near_searched:
        table.add_row("groups with near-identical copies", f"{len(near):,}")
        table.add_row("  with different ages", f"{_conflicts(near):,}")
    else:
        table.add_row("near-identical copies", "not searched")
    return table


def _conflicts(groups: Iterable[DuplicateGroup]) -> int:
    return sum(group.conflicting for group in groups)


def age_table(ages: Mapping[int, int], ranges: Mapping[str, int]) -> Table:
    """Return a histogram by five years, and by range if labels are ranges."""
    table = Table("age", title="Pictures by age", title_justify="left")
    table.add_column("pictures", justify="right")
    table.add_column("")
    by_five: Counter[int] = Counter()
    for year, count in ages.items():
        by_five[year // 5 * 5] += count
    rows = {f"{low}-{low + 4}": by_five[low] for low in range(0, max(by_five, default=-1) + 1, 5)}
    rows |= {f"{text} (range)": count for text, count in ranges.items()}
    most = max(rows.values(), default=1)
    for label, count in rows.items():
        table.add_row(label, f"{count:,}", "█" * round(count / most * BAR_CELLS))
    return table


def _print_shared(
    here: Diagnosis, there: Diagnosis, shared: Sequence[SharedPicture], console: Console
) -> None:
    if not shared:
        searched = "identical or near-identical" if here.near_searched else "identical"
        _line(console, f"No {searched} picture is in both sets.", "bold")
        return
    counts = Counter(item.kind for item in shared)
    mine = sum(len(item.here) for item in shared)
    theirs = sum(len(item.there) for item in shared)
    _line(
        console,
        f"LEAK: {len(shared):,} pictures are in both sets ({counts['identical']:,} identical, "
        f"{counts['near']:,} near-identical): {mine:,} files of {here.dataset}, {theirs:,} of "
        f"{there.dataset}. A model trained on one set can't be tested on them in the other.",
        "bold red",
    )
    lines = [
        f"{item.kind}: {item.here[0]} ({_age(item.ages_here[0])}) = "
        f"{item.there[0]} ({_age(item.ages_there[0])})"
        for item in shared
    ]
    _list(console, "in both sets, largest difference of age first", lines)
