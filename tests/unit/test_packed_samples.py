"""Samples in columns are the samples that were given, and take little memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.datasets.base import SampleList, finished, limit
from agebench.datasets.csv_list import load as load_csv
from agebench.datasets.packed import PackedSamples
from agebench.protocols import DatasetSpec
from agebench.types import Sample

SPEC = DatasetSpec("made-up", "unknown")

_TEXTS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8)
_NAMES = st.lists(_TEXTS, min_size=1, max_size=3).map("/".join)
_AGES = st.floats(0, 120)
_NUMBERS = st.floats(-1e6, 1e6)
_BOXES = st.tuples(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS).filter(
    lambda box: box[0] < box[2] and box[1] < box[3]
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Draw a sample with any of its fields, the ages of some of them integers."""
    name = draw(_NAMES)
    folder = Path(draw(st.sampled_from(["", "/data", "/", "a/b", ".."])))
    low, high = sorted(draw(st.tuples(st.integers(0, 120), st.integers(0, 120))))
    return Sample(
        folder / draw(st.sampled_from([name, "other/" + name, name + "x", "."])),
        name,
        draw(st.one_of(st.none(), _AGES, st.integers(0, 120))),
        draw(st.sampled_from([None, (low, high)])),
        draw(st.one_of(st.none(), _TEXTS, st.just(""))),
        draw(st.dictionaries(st.sampled_from("abc"), _TEXTS)),
        draw(st.sampled_from([None, Path("/points") / name, Path()])),
        draw(st.one_of(st.none(), _BOXES)),
    )


def described(sample: Sample) -> str:
    """Return all of a sample, the order of its attributes and the kinds of its numbers too."""
    return repr((sample, list(sample.attributes.items())))


@given(st.lists(samples(), max_size=12))
def test_what_is_packed_comes_back_as_it_was(given_samples: list[Sample]) -> None:
    packed = PackedSamples(given_samples)
    assert [described(item) for item in packed] == [described(item) for item in given_samples]
    assert packed == tuple(given_samples)
    assert tuple(given_samples) == packed
    assert list(packed.names()) == [item.name for item in given_samples]
    assert packed[1:-1] == tuple(given_samples[1:-1])
    if given_samples:
        assert packed[-1] == given_samples[-1]
        assert packed != given_samples[:-1]


@dataclass(frozen=True, slots=True)
class Seen(Sample):
    """A sample of a class of its own."""

    where: str = "here"


def test_what_does_not_fit_into_columns_is_kept_as_it_is() -> None:
    path = Path("a.png")
    odd = [
        Seen(path, "a.png", 1.0, where="there"),
        Sample(PurePosixPath("b.png"), "b.png", 2.0),  # type: ignore[arg-type]
        Sample(path, "c.png", 3.0, attributes={"number": 7}),  # type: ignore[dict-item]
        Sample(path, "d.png", None, (1.5, 2.5)),  # type: ignore[arg-type]
    ]
    packed = PackedSamples(odd)
    assert all(mine is given for mine, given in zip(packed, odd, strict=True))


def test_a_list_can_be_added_to_after_it_was_read() -> None:
    packed = PackedSamples([Sample(Path("x/a.png"), "a.png", 1.0, identity="she")])
    packed.append(Sample(Path("x/b.png"), "b.png", 2.0, identity="she"))
    packed.append(Sample(Path("y/c.png"), "c.png", 3.0, identity="he"))
    assert [item.identity for item in packed] == ["she", "she", "he"]
    assert [str(item.path) for item in packed] == ["x/a.png", "x/b.png", "y/c.png"]


def test_a_data_set_refuses_what_is_not_sorted_whatever_it_is_given() -> None:
    two = [Sample(Path("b"), "b", 1.0), Sample(Path("a"), "a", 2.0)]
    with pytest.raises(ValueError, match="sorted by unique names"):
        SampleList(SPEC, two)
    assert SampleList(SPEC, two[::-1]) == finished(SPEC, Path(), iter(two), ())


def test_a_listed_picture_takes_a_fraction_of_its_objects() -> None:
    count = 1000

    def made() -> Iterator[Sample]:
        for number in range(count):
            name = f"part{number % 3}/{number:09d}.jpg.chip.jpg"
            yield Sample(
                Path("/data/of/someone") / name,
                name,
                float(number % 90),
                identity=f"person {number // 10}",
                attributes={"gender": "fm"[number % 2], "race": "Asian", "origin": name[6:15]},
            )

    gc.collect()
    tracemalloc.start()
    listed = finished(SPEC, Path(), made(), ())
    few = limit(listed, count - 1)
    gc.collect()
    traces = tracemalloc.take_snapshot().traces
    tracemalloc.stop()
    # Without the table of all names that pathlib interned: one block, which doubles now and then.
    kept = sum(
        trace.size
        for trace in traces
        if trace.size < 1 << 20 or "pathlib" not in trace.traceback[0].filename
    )
    assert len(listed) + len(few) == 2 * count - 1
    # As objects they took 1,400 bytes each; 250 of what is here are their texts.
    assert kept < 400 * 2 * count


def test_a_csv_list_is_not_held_as_objects_while_it_is_read(tmp_path: Path) -> None:
    count = 1000
    (tmp_path / "a.png").write_bytes(b"")
    rows = "".join(f"a.png,{n % 90},{n},{n + 1},{n + 2},{n + 3}\n" for n in range(count))
    (tmp_path / "list.csv").write_text(f"path,age,x0,y0,x1,y1\n{rows}")
    load_csv(tmp_path / "list.csv")
    tracemalloc.start()
    listed = load_csv(tmp_path / "list.csv")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listed) == count
    assert most < 700 * count
