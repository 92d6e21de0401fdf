"""Named protocols: no copy straddles, nobody moves, labels in doubt are not scored."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from agebench.datasets.base import SampleList
from agebench.duplicates.groups import find_duplicates, fingerprints
from agebench.duplicates.near_search import CURRENT, FIRST
from agebench.errors import DatasetError, UsageError
from agebench.protocols import Dataset, DatasetSpec
from agebench.registry.plugins import load_dataset
from agebench.splits.building import build_split, make_split
from agebench.splits.parts import Split, check_split, part, sizes, unit_interval
from agebench.splits.protocols import PROTOCOLS, PictureContents, find_protocol
from agebench.types import Sample


@dataclass(frozen=True)
class Group:
    members: tuple[str, ...]
    conflicting: bool = False


@cache
def pictures(count: int, name: str = "utkface", seed: int = 1) -> SampleList:
    """Made-up pictures, more of them young than old."""
    ages = random.Random(seed)
    samples = tuple(
        Sample(Path(f"{index:05d}"), f"{index:05d}", float(int(ages.betavariate(2, 4) * 100)))
        for index in range(count)
    )
    return SampleList(DatasetSpec(name, "dex-estimated"), samples)


@cache
def hashes_by_name() -> dict[str, str]:
    generator = random.Random(7)
    return {f"{index:05d}": f"{generator.getrandbits(256):064x}" for index in range(20_000)}


def contents(
    dataset: SampleList, duplicates: Sequence[Group] = (), broken: dict[str, str] | None = None
) -> PictureContents:
    hashes = hashes_by_name()
    return PictureContents(
        {item.name: hashes[item.name] for item in dataset.samples}, duplicates, broken or {}
    )


def only(dataset: Dataset, keep: set[str]) -> SampleList:
    return SampleList(
        dataset.spec, tuple(item for item in dataset.samples if item.name in keep), ()
    )


def pairs(count: int, of: int, *, conflicting: bool) -> list[Group]:
    """Disjoint pairs of pictures."""
    names = [f"{index:05d}" for index in range(of)]
    random.Random(3).shuffle(names)
    return [Group((names[2 * index], names[2 * index + 1]), conflicting) for index in range(count)]


@pytest.mark.parametrize(
    "protocol", ["utkface-full", "utkface-5fold-own", "utkface-21-60-2", "utkface-5fold-own-2"]
)
def test_parts_do_not_change_when_pictures_come_and_go(protocol: str) -> None:
    everything = pictures(5000)
    groups = pairs(300, 5000, conflicting=False)
    whole = make_split(protocol, everything, contents(everything, groups))
    in_groups = {name for group in groups for name in group.members}
    loose = [item.name for item in everything.samples if item.name not in in_groups]
    gone = set(random.Random(5).sample(loose, 500))
    fewer = only(everything, {item.name for item in everything.samples} - gone)
    rest = make_split(protocol, fewer, contents(fewer, groups))
    assert rest.parts == {name: where for name, where in whole.parts.items() if name not in gone}
    assert {item.name for item in rest.unused} == {item.name for item in whole.unused} - gone


def test_parts_hang_on_the_content_and_not_on_the_name() -> None:
    dataset = pictures(50)
    before = make_split("utkface-full", dataset, contents(dataset))
    renamed = tuple(
        Sample(Path("moved") / item.name, f"moved/{item.name}", item.age_years)
        for item in dataset.samples
    )
    known = PictureContents(
        {f"moved/{name}": key for name, key in contents(dataset).sha256.items()}
    )
    after = make_split("utkface-full", SampleList(dataset.spec, renamed), known)
    assert after.parts == {f"moved/{name}": where for name, where in before.parts.items()}


def test_utkface_full_is_pinned() -> None:
    # If this changes, so does every result, and shipped weights have seen test pictures.
    keys = [f"{index:064x}" for index in range(2000)]
    dataset = pictures(2000)
    known = PictureContents(
        {item.name: key for item, key in zip(dataset.samples, keys, strict=True)}
    )
    split = make_split("utkface-full", dataset, known)
    for item, key in zip(dataset.samples, keys, strict=True):
        place = unit_interval("utkface-full", key)
        expected = "train" if place < 0.8 else "val" if place < 0.9 else "test"
        assert split.parts[item.name] == expected
    assert Counter(split.parts.values()) == PINNED_COUNTS
    assert "".join(split.parts[f"{index:05d}"][1] for index in range(24)) == PINNED_START


PINNED_COUNTS = {"train": 1640, "val": 188, "test": 172}
PINNED_START = "errerrrrarrrrrrarrrrrrre"  # second letters: t(r)ain, v(a)l, t(e)st


def test_shares_are_about_80_10_10_and_a_fifth() -> None:
    dataset = pictures(10_000)
    full = Counter(make_split("utkface-full", dataset, contents(dataset)).parts.values())
    # Binomial: standard deviations 40 and 30; 5 of them either way.
    assert abs(full["train"] - 8000) < 200
    assert abs(full["val"] - 1000) < 150
    assert abs(full["test"] - 1000) < 150
    folds = Counter(make_split("utkface-5fold-own", dataset, contents(dataset)).parts.values())
    assert sorted(folds) == [f"fold-{index}" for index in range(5)]
    assert all(abs(count - 2000) < 200 for count in folds.values())


@pytest.mark.parametrize("protocol", ["utkface-full", "utkface-5fold-own", "holdout"])
def test_copies_stay_together(protocol: str) -> None:
    dataset = pictures(3000)
    groups = pairs(1000, 3000, conflicting=False)
    # Chains of copies of copies too, as an unjoined list of pairs would have them.
    groups += [Group((groups[index].members[0], groups[index + 1].members[0])) for index in (0, 1)]
    split = make_split(protocol, dataset, contents(dataset, groups))
    assert len(split.parts) == 3000
    assert check_split(split, groups) == ()
    alone = make_split(protocol, dataset, contents(dataset))
    assert len(check_split(alone, groups)) > 100  # the check itself finds what straddles


def _chains(of: int) -> list[Group]:
    """Pairs, threes and a chain of copies; a fifth of them with labels in doubt."""
    names = [f"{index:05d}" for index in range(of)]
    random.Random(4).shuffle(names)
    starts = range(0, of // 2, 3)
    return [Group(tuple(names[at : at + 2 + at % 2]), conflicting=at % 5 == 0) for at in starts] + [
        Group((names[0], names[3])),
        Group((names[3], names[6])),
    ]


@pytest.mark.parametrize("protocol", ["utkface-full-2", "utkface-21-60-2", "utkface-5fold-own-2"])
def test_no_picture_moves_to_another_part_when_its_copies_come_or_go(protocol: str) -> None:
    """Version 2, as docs/splits.md words it: set aside or brought back, but never moved."""
    everything = pictures(3000)
    groups = _chains(3000)
    whole = make_split(protocol, everything, contents(everything, groups))
    assert check_split(whole, groups) == ()
    back = 0
    for seed in range(4):
        names = random.Random(seed).sample([item.name for item in everything.samples], 1800)
        kept = set(names)
        left = [Group(tuple(m for m in group.members if m in kept)) for group in groups]
        fewer = only(everything, kept)
        rest = make_split(protocol, fewer, contents(fewer, [g for g in left if len(g.members) > 1]))
        both = whole.parts.keys() & rest.parts.keys()
        assert all(whole.parts[name] == rest.parts[name] for name in both)
        back += len(rest.parts.keys() - whole.parts.keys())
    assert back > 50, "the test would show nothing"


def test_version_1_moves_copies_and_version_2_was_made_for_that() -> None:
    everything = pictures(3000)
    groups = pairs(500, 3000, conflicting=False)
    whole = make_split("utkface-full", everything, contents(everything, groups))
    kept = {item.name for item in everything.samples} - {group.members[0] for group in groups}
    fewer = only(everything, kept)
    rest = make_split("utkface-full", fewer, contents(fewer))
    assert any(whole.parts[name] != rest.parts[name] for name in kept)


def test_version_2_scores_nothing_that_version_1_trains_on() -> None:
    """Weights that were trained by version 1 may be scored on the test part of version 2."""
    dataset = pictures(3000)
    groups = _chains(3000)
    more = [*groups, *pairs(300, 3000, conflicting=False)]  # what version 2 finds besides
    first = make_split("utkface-full", dataset, contents(dataset, groups))
    second = make_split("utkface-full-2", dataset, contents(dataset, more))
    tested = {name for name, where in second.parts.items() if where == "test"}
    assert tested < {name for name, where in first.parts.items() if where == "test"}
    # Apart from copies nothing changes.
    alone = set(first.parts) - {name for group in more for name in group.members}
    assert all(second.parts[name] == first.parts[name] for name in alone)


def test_version_2_holds_together_whatever_version_1_does() -> None:
    """Else a picture that version 1 trains on for its copy's sake could be scored by version 2."""
    for name in ("utkface-full", "utkface-21-60", "utkface-5fold-own"):
        assert PROTOCOLS[name].criteria == (FIRST,)
        assert PROTOCOLS[f"{name}-2"].criteria == (CURRENT, FIRST)


def test_of_copies_in_different_parts_those_to_train_on_stay() -> None:
    dataset = pictures(2000)
    drawn = make_split("utkface-full-2", dataset, contents(dataset)).parts
    one = {part: min(name for name in drawn if drawn[name] == part) for part in set(drawn.values())}
    for stays, goes in (("train", "test"), ("train", "val"), ("val", "test")):
        pair = Group((one[stays], one[goes]))
        split = make_split("utkface-full-2", dataset, contents(dataset, [pair]))
        assert split.parts == {name: part for name, part in drawn.items() if name != one[goes]}
        (aside,) = split.unused
        assert (aside.name, stays in aside.reason) == (one[goes], True)


def test_labels_in_doubt_are_trained_on_at_most() -> None:
    dataset = pictures(3000)
    groups = pairs(500, 3000, conflicting=True)
    doubtful = {name for group in groups for name in group.members}
    clean = make_split(
        "utkface-full", dataset, contents(dataset, [Group(g.members) for g in groups])
    )
    split = make_split("utkface-full", dataset, contents(dataset, groups))
    for item in split.unused:
        assert item.name in doubtful
        assert clean.parts[item.name] in item.reason
        assert clean.parts[item.name] != "train"
    assert doubtful - {item.name for item in split.unused} == {
        name for name in doubtful if clean.parts[name] == "train"
    }
    assert {split.parts[name] for name in doubtful if name in split.parts} == {"train"}
    assert split.parts.items() <= clean.parts.items()
    folds = make_split("utkface-5fold-own", dataset, contents(dataset, groups))
    assert {item.name for item in folds.unused} == doubtful


def test_21_to_60_is_a_part_of_full() -> None:
    dataset = pictures(3000)
    known = contents(dataset, pairs(200, 3000, conflicting=True))
    full = make_split("utkface-full", dataset, known)
    middle = make_split("utkface-21-60", dataset, known)
    ages = {item.name: item.age_years or 0 for item in dataset.samples}
    inside = {name for name, where in full.parts.items() if 21 <= ages[name] < 61}
    assert middle.parts == {name: full.parts[name] for name in sorted(inside)}
    assert {21.0, 60.0} <= {ages[name] for name in inside}
    assert len(middle.parts) + len(middle.unused) == 3000


def test_pictures_that_cannot_be_read_are_unused() -> None:
    dataset = pictures(200)
    known = contents(dataset, broken={"00003": "it is truncated"})
    split = make_split("utkface-full", dataset, known)
    assert [(item.name, item.reason) for item in split.unused] == [("00003", "it is truncated")]
    del known.sha256["00004"]  # type: ignore[attr-defined]  # a dict in this test
    reasons = {item.name: item.reason for item in make_split("holdout", dataset, known).unused}
    assert reasons == {"00003": "it is truncated", "00004": "its content hash is not known"}


def test_leave_one_person_out() -> None:
    people = {"001": (2, 5, 40), "002": (7,), "010": (1, 3)}
    samples = [
        Sample(Path("x"), f"{who}A{age:02d}.JPG", float(age), identity=who)
        for who, ages in people.items()
        for age in ages
    ]
    nobody = Sample(Path("x"), "zzz.JPG", 4.0)
    dataset = SampleList(DatasetSpec("fgnet", "birth-age"), (*samples, nobody))
    split = make_split("fgnet-lopo", dataset)
    assert split.part_names == ("person-001", "person-002", "person-010")
    assert [item.name for item in split.unused] == ["zzz.JPG"]
    for who, ages in people.items():
        scored = part(dataset, split, f"person-{who}").samples
        trained = part(dataset, split, f"not-person-{who}").samples
        assert {item.identity for item in scored} == {who}
        assert len(scored) == len(ages)
        assert {item.identity for item in trained} == set(people) - {who}
        assert len(scored) + len(trained) == len(samples)


@pytest.mark.parametrize("stratify", [True, False])
def test_holdout_keeps_people_together(stratify: bool) -> None:
    ages = random.Random(2)
    samples = tuple(
        Sample(Path("x"), f"{index:05d}", float(ages.randrange(70)), identity=f"{index % 90:03d}")
        for index in range(1000)
    )
    dataset = SampleList(DatasetSpec("mine", "birth-age"), samples)
    split = make_split("holdout", dataset, contents(dataset), {"stratify": stratify})
    parts = defaultdict(set)
    for item in samples:
        parts[item.identity].add(split.parts[item.name])
    assert all(len(where) == 1 for where in parts.values())
    assert set(split.parts.values()) == {"train", "val", "test"}
    assert not split.unused  # other ages of one person are no conflict


def test_holdout_has_the_share_of_every_decade() -> None:
    dataset = pictures(4000, "mine")
    options = {"fraction": 0.2, "val_fraction": 0.05, "seed": 3}
    split = make_split("holdout", dataset, contents(dataset), options)
    owed = {"test": 0.0, "val": 0.0}
    for row in sizes(dataset, split).values():
        total = sum(row.values())
        for name, share in (("test", 0.2), ("val", 0.05)):
            owed[name] += share * total - row[name]
            # Whole pictures only, and what is lacking is made up for in the next decade.
            assert abs(owed[name]) <= 0.5 + 1e-9
    groups = pairs(600, 4000, conflicting=False)
    grouped = make_split("holdout", dataset, contents(dataset, groups), options)
    assert Counter(grouped.parts.values())["test"] == pytest.approx(800, abs=2)


def test_holdout_depends_on_its_seed_and_hardly_on_other_pictures() -> None:
    dataset = pictures(4000, "mine")
    whole = make_split("holdout", dataset, contents(dataset))
    other = make_split("holdout", dataset, contents(dataset), {"seed": 1})
    assert sum(whole.parts[name] != other.parts[name] for name in whole.parts) > 500
    gone = set(random.Random(5).sample(sorted(whole.parts), 400))
    fewer = only(dataset, set(whole.parts) - gone)
    near = make_split("holdout", fewer, contents(fewer))
    assert sum(whole.parts[name] != near.parts[name] for name in near.parts) < 100
    steady = {"stratify": False}
    before = make_split("holdout", dataset, contents(dataset), steady)
    after = make_split("holdout", fewer, contents(fewer), steady)
    assert after.parts.items() <= before.parts.items()


def test_holdout_without_validation() -> None:
    dataset = pictures(500, "mine")
    split = make_split(
        "holdout", dataset, contents(dataset), {"val_fraction": "0", "fraction": "0.3"}
    )
    assert Counter(split.parts.values()) == {"train": 350, "test": 150}
    assert split.parameters["fraction"] == 0.3


@pytest.mark.parametrize(
    ("protocol", "name", "options", "message"),
    [
        ("utk-full", "utkface", {}, "unknown protocol 'utk-full'.*utkface-full"),
        ("utkface-full", "fgnet", {}, "is for the data set 'utkface', got 'fgnet'"),
        ("utkface-full", "utkface", {"seed": 1}, "has no option 'seed'"),
        ("holdout", "x", {"fracton": 0.2}, "did you mean 'fraction'"),
        ("holdout", "x", {"fraction": "half"}, "fraction=half.*0.1"),
        ("holdout", "x", {"fraction": 0.0}, "above 0"),
        ("holdout", "x", {"fraction": float("nan")}, "above 0"),
        ("holdout", "x", {"fraction": 0.6, "val_fraction": 0.4}, "less than 1"),
        ("holdout", "x", {"val_fraction": -0.1}, "from 0"),
        ("holdout", "x", {"seed": "1.5"}, "seed=1.5"),
        ("holdout", "x", {"seed": 1.5}, "seed=1.5"),
        ("holdout", "x", {"seed": True}, "seed=True"),
        ("holdout", "x", {"stratify": "maybe"}, "stratify=maybe"),
    ],
)
def test_wrong_calls_are_told_before_anything_is_read(
    protocol: str, name: str, options: dict[str, str | int | float], message: str
) -> None:
    dataset = pictures(20, name)  # its files do not exist
    with pytest.raises(UsageError, match=message):
        make_split(protocol, dataset, contents(dataset), options)
    if message not in ("above 0", "less than 1", "from 0"):
        with pytest.raises(UsageError, match=message):
            build_split(protocol, dataset, options)


def test_nothing_usable_is_an_error() -> None:
    dataset = pictures(3)
    with pytest.raises(DatasetError, match=r"no picture in any part.*not known"):
        make_split("utkface-full", dataset)


def test_every_protocol_says_what_it_is() -> None:
    for name, rule in PROTOCOLS.items():
        assert find_protocol(name) is rule
        assert rule.name == name
        assert rule.summary


Ages = dict[str, float | None]


def _ages(dataset: Dataset) -> Ages:
    return {item.name: item.age_years for item in dataset.samples}


def _nothing_straddles(split: Split, ages: Ages, known: PictureContents) -> None:
    assert check_split(split, known.duplicates) == ()
    by_hash = defaultdict(list)
    for name, key in known.sha256.items():
        by_hash[key].append(name)
    for names in by_hash.values():
        where = {split.parts.get(name, "unused") for name in names}
        assert len(where - {"unused"}) <= 1
        if len({ages[name] for name in names}) > 1:
            assert not where & {"val", "test"}
            assert not any(part_name.startswith("fold") for part_name in where)


NAMES = ("utkface-full", "utkface-5fold-own", "utkface-21-60")


@pytest.mark.shared
@pytest.mark.slow
def test_no_copy_straddles_in_utkface(utkface_chips: SampleList) -> None:
    dataset = utkface_chips
    prints = fingerprints(dataset.samples)
    sha256 = {item.name: item.sha256 for item in prints}

    identical = find_duplicates(dataset.samples, prints, near=False)
    assert len(identical) == 342  # as counted elsewhere
    assert sum(group.conflicting for group in identical) == 187

    copies = find_duplicates(dataset.samples, prints, criteria=FIRST)
    known = PictureContents(sha256, copies)
    splits = {name: make_split(name, dataset, known) for name in NAMES}
    ages = _ages(dataset)
    for split in splits.values():
        _nothing_straddles(split, ages, known)
    # The parts that shipped weights were trained on, to the last picture.
    first = splits["utkface-full"]
    assert first.fingerprint.startswith("f4f1160d80820688")
    assert Counter(first.parts.values()) == {"train": 16984, "val": 2076, "test": 2023}

    # Version 2 on a fifth of the pictures with all that have a copy by version 1: what becomes of
    # a picture hangs on its copies alone.
    known_copies = {name for group in copies for name in group.members}
    fifth = {name for at, name in enumerate(sorted(sha256)) if at % 5 == 0} | known_copies
    some = only(dataset, fifth)
    by_name = {item.name: item for item in prints}
    own = [by_name[item.name] for item in some.samples]
    assert fingerprints(some.samples) == own  # as they were remembered
    duplicates = [
        group
        for criteria in find_protocol("utkface-full-2").criteria
        for group in find_duplicates(some.samples, own, criteria=criteria)
    ]
    known_2 = PictureContents({item.name: item.sha256 for item in own}, duplicates)
    assert len({name for group in duplicates for name in group.members}) > len(known_copies)
    for name in NAMES:
        _nothing_straddles(make_split(f"{name}-2", some, known_2), ages, known_2)
    # Weights that were trained by version 1 have seen none of its test part.
    second = make_split("utkface-full-2", some, known_2)
    tested = {name for name, where in second.parts.items() if where == "test"}
    assert tested < {name for name, where in first.parts.items() if where == "test"}
    # Apart from copies nothing changes.
    loose = fifth - {name for group in duplicates for name in group.members}
    assert {second.parts[name] == first.parts[name] for name in loose} == {True}


@pytest.mark.shared
def test_leave_one_person_out_of_fgnet(shared_dir: Path) -> None:
    dataset = load_dataset("fgnet", shared_dir / "data" / "fgnet")
    split = build_split("fgnet-lopo", dataset)
    assert len(split.part_names) == 20
    assert len(split.parts) == 251
    for where in split.part_names:
        people = {item.identity for item in part(dataset, split, where).samples}
        assert people == {where.removeprefix("person-")}
