"""Splits: units stay whole and in place, and what does not fit is said."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from agebench.datasets.base import SampleList
from agebench.errors import DatasetError, UsageError
from agebench.protocols import DatasetSpec
from agebench.splits.parts import (
    Split,
    age_of,
    check_split,
    decade_of,
    make_units,
    part,
    select_parts,
    sizes,
    unit_interval,
)
from agebench.types import Problem, Sample


@dataclass(frozen=True)
class Group:
    members: tuple[str, ...]
    conflicting: bool = False


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample(name: str, age: float | None = 30.0, identity: str | None = None) -> Sample:
    return Sample(Path(name), name, age, identity=identity)


def dataset(*samples: Sample) -> SampleList:
    ordered = tuple(sorted(samples, key=lambda item: item.name))
    return SampleList(DatasetSpec("x", "apparent"), ordered, (Problem("bad", "why"),))


def split(**parts: str) -> Split:
    return Split("mine", {name: where.replace("_", "-") for name, where in parts.items()})


def test_a_unit_interval_is_the_start_of_the_hash() -> None:
    digest = hashlib.sha256(b"salt|key").hexdigest()
    assert unit_interval("salt", "key") == pytest.approx(int(digest, 16) / 2**256, abs=1e-15)
    places = [unit_interval("salt", sha(str(index))) for index in range(20_000)]
    assert all(0 <= place < 1 for place in places)
    tenths = Counter(int(place * 10) for place in places)
    # Binomial: mean 2000, standard deviation 42; 5 of them either way.
    assert all(1790 < tenths[tenth] < 2210 for tenth in range(10))
    assert unit_interval("salt", "key") != unit_interval("other", "key")


def test_units_join_what_shares_a_member_a_hash_or_a_group() -> None:
    hashes = {"a": sha("1"), "b": sha("2"), "c": sha("3"), "d": sha("4"), "e": sha("4")}
    samples = [sample(name) for name in "abcdef"]
    groups = [Group(("a", "b")), Group(("b", "c"), conflicting=True)]
    units = {unit.names: unit for unit in make_units(samples, hashes, groups)}
    assert sorted(units) == [("a", "b", "c"), ("d", "e")]  # "f" has no hash
    assert units["a", "b", "c"].key == min(sha("1"), sha("2"), sha("3"))
    assert units["a", "b", "c"].conflicting == {"b", "c"}
    assert not units["d", "e"].conflicting


def test_units_by_identity_join_people_through_their_copies() -> None:
    samples = [sample("a1", 5, "ann"), sample("a2", 40, "ann"), sample("b", 9, "bob"), sample("n")]
    hashes = {item.name: sha(item.name) for item in samples}
    apart = make_units(samples, hashes, [], by_identity=True)
    assert sorted(unit.names for unit in apart) == [("a1", "a2"), ("b",), ("n",)]
    assert {unit.key for unit in apart} == {"person ann", "person bob", sha("n")}
    joined = make_units(samples, hashes, [Group(("a2", "b"))], by_identity=True)
    assert sorted(unit.names for unit in joined) == [("a1", "a2", "b"), ("n",)]
    alone = make_units(samples, hashes, [])
    assert all(len(unit.names) == 1 for unit in alone)


def test_members_outside_of_the_data_set_do_no_harm() -> None:
    units = make_units([sample("a")], {"a": sha("a")}, [Group(("gone", "a", "away"))])
    assert [unit.names for unit in units] == [("a",)]


def test_parts_are_chosen_by_name_sum_and_rest() -> None:
    folds = split(a="fold_0", b="fold_1", c="fold_10", d="fold_2")
    assert folds.part_names == ("fold-0", "fold-1", "fold-2", "fold-10")
    assert select_parts(folds, "fold-1") == {"fold-1"}
    assert select_parts(folds, "not-fold-1") == {"fold-0", "fold-2", "fold-10"}
    usual = split(a="test", b="train", c="val", d="extra")
    assert usual.part_names == ("train", "val", "test", "extra")
    assert select_parts(usual, "train+val") == {"train", "val"}
    assert select_parts(usual, "train+not-train") == {"train", "val", "test", "extra"}
    with pytest.raises(UsageError, match=r"no part 'tets'.*did you mean 'test'"):
        select_parts(usual, "tets")
    with pytest.raises(UsageError, match="no part 'not-fold-7'"):
        select_parts(folds, "not-fold-7")


def test_part_keeps_order_and_spec_and_lists_what_is_absent() -> None:
    pictures = dataset(*(sample(name) for name in "abcd"))
    chosen = part(pictures, split(a="test", c="test", b="train", z="test"), "test")
    assert [item.name for item in chosen.samples] == ["a", "c"]
    assert chosen.spec == pictures.spec
    assert chosen.problems[0] == Problem("bad", "why")
    assert [(item.name, "not in the data set" in item.reason) for item in chosen.problems[1:]] == [
        ("z", True)
    ]
    with pytest.raises(DatasetError, match="no picture in part 'val'"):
        part(pictures, split(a="test", y="val"), "val")


def test_the_fingerprint_covers_everything() -> None:
    base = Split(
        "p", {"a": "train", "b": "test"}, (Problem("c", "why"),), "x", "apparent", {"s": 1}
    )
    same = Split(
        "p", {"b": "test", "a": "train"}, (Problem("c", "why"),), "x", "apparent", {"s": 1}
    )
    assert base.fingerprint == same.fingerprint
    others = [
        Split("q", base.parts, base.unused, "x", "apparent", {"s": 1}),
        Split("p", {"a": "test", "b": "train"}, base.unused, "x", "apparent", {"s": 1}),
        Split("p", base.parts, (), "x", "apparent", {"s": 1}),
        Split("p", base.parts, (Problem("c", "other"),), "x", "apparent", {"s": 1}),
        Split("p", base.parts, base.unused, "y", "apparent", {"s": 1}),
        Split("p", base.parts, base.unused, "x", "birth-age", {"s": 1}),
        Split("p", base.parts, base.unused, "x", "apparent", {"s": 2}),
        Split("p", base.parts, base.unused, "x", "apparent", {"s": 1}, {"a": sha("a")}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("name", ["", "unused", "a+b", "-x", "with space"])
def test_a_part_needs_a_proper_name(name: str) -> None:
    with pytest.raises(ValueError, match="a part needs a name"):
        Split("p", {"a": name})


def test_a_split_must_be_whole() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Split("p", {})
    with pytest.raises(ValueError, match="both unused and in a part"):
        Split("p", {"a": "train"}, (Problem("a", "why"),))


def test_leaks_are_told_across_joined_groups() -> None:
    parts = split(a="train", b="train", c="test", d="test", e="test", f="val")
    groups = [Group(("a", "b")), Group(("b", "c")), Group(("d", "e")), Group(("f", "gone"))]
    (leak,) = check_split(parts, groups)
    assert dict(leak.parts) == {"train": ("a", "b"), "test": ("c",)}
    assert check_split(parts, groups[2:]) == ()
    # By their first picture, whatever the order of the groups and of the parts.
    both = [Group(("e", "f")), Group(("b", "d"))]
    assert [min(map(min, leak.parts.values())) for leak in check_split(parts, both)] == ["b", "e"]
    assert check_split(parts, both) == check_split(parts, both[::-1])


def test_sizes_count_every_picture_once() -> None:
    pictures = dataset(
        sample("a", 9.9),
        sample("b", 10),
        sample("c", 105),
        sample("d", None),
        sample("e", 95),
        sample("f", 19.9),
        sample("g", 11),
    )
    parts = split(a="train", b="test", c="train", d="train", f="test", g="train")
    table = sizes(pictures, parts)
    assert list(table) == ["0-9", "10-19", "90-99", "100-109", "unknown"]
    assert table["0-9"] == {"train": 1, "test": 0, "unused": 0}
    assert table["90-99"] == {"train": 0, "test": 0, "unused": 1}
    assert table["10-19"] == {"train": 1, "test": 2, "unused": 0}
    assert sum(sum(row.values()) for row in table.values()) == 7
    assert decade_of(Sample(Path("r"), "r", None, age_range=(25, 32))) == "20-29"


def test_altered_copies_of_one_original_are_a_unit() -> None:
    def copy(name: str, origin: str, identity: str | None = None) -> Sample:
        return Sample(Path(name), name, 8.0, identity=identity, attributes={"origin": origin})

    samples = [copy("8_1", "8_1"), copy("8_1_rot", "8_1"), copy("8_2", "8_2"), sample("lone")]
    hashes = {item.name: sha(item.name) for item in samples}
    units = {unit.names: unit.key for unit in make_units(samples, hashes, [])}
    assert units == {
        ("8_1", "8_1_rot"): "origin 8_1",
        ("8_2",): "origin 8_2",
        ("lone",): sha("lone"),
    }
    fewer = make_units(samples[1:], hashes, [])
    assert units["8_1", "8_1_rot"] in {unit.key for unit in fewer}
    people = [copy("a", "1", "ann"), copy("b", "1"), copy("c", "2", "ann"), copy("d", "2")]
    (one,) = make_units(
        people, {item.name: sha(item.name) for item in people}, [], by_identity=True
    )
    assert (one.key, one.names) == ("person ann", ("a", "b", "c", "d"))


def test_a_fingerprint_is_the_same_in_every_version() -> None:
    made = Split(
        "holdout",
        {"b.jpg": "test", "\u00e4.jpg": "train", "a.jpg": "train"},
        (Problem("z.jpg", "why"), Problem("c.jpg", "because")),
        "utkface",
        "apparent",
        {"seed": 1, "fractions": "0.8 0.2", "by_identity": 1},
        {"b.jpg": sha("b"), "a.jpg": sha("a")},
    )
    # The hash of a text written down by hand, as `_hash` documents no other.
    rows = (
        f'[["a.jpg", "train", "{sha("a")}"], ["b.jpg", "test", "{sha("b")}"], '
        '["\\u00e4.jpg", "train", ""]]'
    )
    head = (
        '["holdout", "utkface", "apparent", {"by_identity": 1, "fractions": "0.8 0.2", "seed": 1}]'
    )
    unused = '[["c.jpg", "because"], ["z.jpg", "why"]]'
    assert made.fingerprint == sha(f"[{head}, {rows}, {unused}]")


def test_places_of_keys_are_the_same_in_every_version() -> None:
    digest = hashlib.sha256("salt|k\u00e9y".encode()).hexdigest()
    # The first 53 bits: thirteen hexadecimal digits, and one bit of the fourteenth.
    bits = int(digest[:13], 16) * 2 + (int(digest[13], 16) >> 3)
    assert unit_interval("salt", "k\u00e9y") == bits / 2**53
    assert type(unit_interval("salt", "key")) is float


def test_what_is_wrong_with_a_split_is_said() -> None:
    with pytest.raises(ValueError, match=r"letters, digits, '_.-', got 'a b'$"):
        Split("p", {"x": "a b", "y": "train"})
    with pytest.raises(ValueError, match=r"^'c' is both unused and in a part$"):
        Split("p", {"a": "train", "c": "test"}, (Problem("b", ""), Problem("c", "")))
    frozen = split(a="train")
    for mapping in (frozen.parts, frozen.parameters, frozen.sha256):
        with pytest.raises(TypeError):
            mapping["a"] = "test"  # type: ignore[index]  # it is read-only
    with pytest.raises(UsageError, match=r"^protocol 'mine' has no part 'val': "):
        select_parts(split(a="train", b="test"), "train+val")


@pytest.mark.parametrize("name", ["a", "Z9", "0", "a_b.c-d", "test"])
def test_proper_names_of_parts(name: str) -> None:
    assert Split("p", {"a": name}).part_names == (name,)


def test_parts_are_in_the_order_of_their_numbers_wherever_they_stand() -> None:
    names = ["x2-b10", "x10-b1", "x2-b9", "b", "test", "x", "10", "9", "val"]
    made = Split("p", {f"p{at}": name for at, name in enumerate(names)})
    assert made.part_names == ("val", "test", "9", "10", "b", "x", "x2-b9", "x2-b10", "x10-b1")


def test_an_empty_part_names_the_data_set_the_part_and_the_protocol() -> None:
    pictures = dataset(sample("a"))
    with pytest.raises(DatasetError, match=r"'x' has no picture in part 'val' of 'mine'"):
        part(pictures, split(a="test", y="val"), "val")
    chosen = part(pictures, split(a="test", y="test", b="train", k="test"), "test")
    assert [item.name for item in chosen.problems] == ["bad", "k", "y"]
    assert chosen.problems[1].reason.startswith("in part 'test' of 'mine', ")


def test_ages_of_ranges_are_their_middle() -> None:
    def labelled(age: float | None, years: tuple[int, int] | None) -> Sample:
        return Sample(Path("r"), "r", age, age_range=years)

    assert age_of(labelled(None, (25, 34))) == 29.5
    assert decade_of(labelled(None, (25, 34))) == "20-29"
    assert decade_of(labelled(None, (26, 34))) == "30-39"
    assert (age_of(labelled(None, None)), decade_of(labelled(None, None))) == (None, "unknown")
    assert age_of(labelled(0.0, None)) == 0.0
    assert decade_of(labelled(110.5, None)) == "110-119"


def test_units_are_sorted_by_key_and_their_names_too() -> None:
    samples = [sample(name) for name in ("d", "c", "b", "a")]
    hashes = {"a": "3", "b": "1", "c": "3", "d": "2"}
    units = make_units(samples, hashes, [Group(("gone", "d"), conflicting=True)])
    assert [(unit.key, unit.names) for unit in units] == [
        ("1", ("b",)),
        ("2", ("d",)),
        ("3", ("a", "c")),
    ]
    assert [set(unit.conflicting) for unit in units] == [set(), {"d"}, set()]


def test_copies_of_two_people_are_one_unit_named_after_the_first() -> None:
    samples = [sample("a", 5, "zoe"), sample("b", 6, "bob"), sample("c", 7, "zoe")]
    hashes = {item.name: sha(item.name) for item in samples}
    (unit,) = make_units(samples, hashes, [Group(("a", "b"))], by_identity=True)
    assert (unit.key, unit.names) == ("person bob", ("a", "b", "c"))
    units = make_units(samples, hashes, [Group(("a", "b"))])
    assert [unit.names for unit in sorted(units, key=lambda one: one.names)] == [("a", "b"), ("c",)]
    assert {unit.key for unit in units} == {min(sha("a"), sha("b")), sha("c")}


def test_long_chains_of_groups_are_one_unit() -> None:
    names = [f"{at:02d}" for at in range(30)]
    samples = [sample(name) for name in names]
    pairs = [Group((names[at], names[at + 1])) for at in range(29)]
    for groups in (pairs, pairs[::-1], pairs[::2] + pairs[1::2]):
        (unit,) = make_units(samples, {name: sha(name) for name in names}, groups)
        assert unit.names == tuple(names)
