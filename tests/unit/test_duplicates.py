"""Identical and near-identical pictures, grouped; and what is remembered of them."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agebench.datasets import utkface
from agebench.duplicates import groups as duplicates
from agebench.duplicates import near_search
from agebench.duplicates.decode_threads import SMALL_BYTES, Mapped, mapped_by, usual_threads
from agebench.duplicates.groups import (
    DuplicateGroup,
    Fingerprint,
    find_duplicates,
    fingerprints,
    labels_conflict,
    near_links,
)
from agebench.duplicates.near_search import CURRENT, FIRST, Criteria, NearPair
from agebench.modelfiles.weights import cache_dir
from agebench.types import Image, Sample
from agebench.vision.opencv import cv2
from tests.unit.blobs import blobs, jpeg


class Folder:
    """Pictures written below a folder, as samples sorted by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.samples: list[Sample] = []

    def add(self, name: str, data: bytes, age: float | None = None) -> None:
        path = self.root / name
        path.write_bytes(data)
        os.utime(path, (1_000_000, 1_000_000))  # settled: recent files are not remembered
        self.samples = sorted([*self.samples, Sample(path, name, age)], key=lambda s: s.name)

    def prints(self) -> list[Fingerprint]:
        return fingerprints(self.samples)

    def groups(
        self, *, near: bool = True, criteria: Criteria = CURRENT
    ) -> tuple[DuplicateGroup, ...]:
        return find_duplicates(self.samples, self.prints(), near=near, criteria=criteria)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return Folder(tmp_path / "data")


def test_fingerprints_keep_order_and_say_why_not(folder: Folder) -> None:
    whole = jpeg(blobs(1))
    folder.add("a.jpg", whole)
    folder.add("b.jpg", whole[: len(whole) // 2])
    folder.add("c.jpg", b"<!DOCTYPE html><p>no")
    folder.add("d.jpg", b"version https://git-lfs.github.com/spec/v1\n")
    folder.add("e.jpg", b"")
    backwards = fingerprints(folder.samples[::-1])
    assert [print_.name for print_ in backwards] == ["e.jpg", "d.jpg", "c.jpg", "b.jpg", "a.jpg"]
    empty, lfs, html, truncated, good = backwards
    assert (good.width, good.height, good.reason) == (200, 200, "")
    assert good.sha256 == hashlib.sha256(whole).hexdigest()
    assert "truncated" in truncated.reason
    assert truncated.sha256 == hashlib.sha256(whole[: len(whole) // 2]).hexdigest()
    assert "HTML" in html.reason
    assert "LFS" in lfs.reason
    assert "empty" in empty.reason
    assert empty.sha256 == ""
    assert [p.perceptual is None for p in backwards] == [True, True, True, True, False]
    assert str(folder.root) not in html.reason


def test_a_pipe_and_a_missing_file_do_not_hang_or_fail(folder: Folder) -> None:
    os.mkfifo(folder.root / "pipe.jpg")
    samples = [Sample(folder.root / name, name, 3) for name in ("gone.jpg", "pipe.jpg")]
    gone, pipe = fingerprints(samples)
    assert gone.perceptual is None
    assert "a special file" in pipe.reason
    assert find_duplicates(samples, [gone, pipe]) == ()


def test_identical_bytes_with_their_ages(folder: Folder) -> None:
    one, two = jpeg(blobs(1)), jpeg(blobs(2))
    folder.add("c.jpg", one, 30)
    folder.add("a.jpg", one, 25)
    folder.add("b.jpg", one)
    folder.add("d.jpg", two, 25)
    (group,) = folder.groups()
    assert group == DuplicateGroup(
        ("a.jpg", "b.jpg", "c.jpg"),
        "identical",
        hashlib.sha256(one).hexdigest(),
        (25, None, 30),
        conflicting=True,
    )
    assert group.age_gap_years == 5


def test_identical_stubs_are_no_pictures_and_no_group(folder: Folder) -> None:
    folder.add("a.jpg", b"<html></html>")
    folder.add("b.jpg", b"<html></html>")
    folder.add("c.jpg", b"")
    folder.add("d.jpg", b"")
    assert folder.groups() == ()


def test_copies_that_were_saved_resized_or_brightened_again_are_found(folder: Folder) -> None:
    image = blobs(1)
    small = np.asarray(cv2.resize(image, (90, 90), interpolation=cv2.INTER_AREA), np.uint8)
    copies = {
        "original": jpeg(image),
        "saved again": jpeg(image, 60),
        "resized": jpeg(small),
        "darker": jpeg(np.asarray(image * 0.6, np.uint8)),
        "shifted": jpeg(np.roll(image, 2, axis=1)),
    }
    for number, data in enumerate(copies.values()):
        folder.add(f"copy{number}.jpg", data, 20)
    folder.add("mirrored.jpg", jpeg(np.ascontiguousarray(image[:, ::-1])))
    for seed in range(2, 12):
        folder.add(f"other{seed}.jpg", jpeg(blobs(seed)))
    (group,) = folder.groups(criteria=FIRST)
    assert group.members == tuple(f"copy{number}.jpg" for number in range(5))
    assert group.kind == "near"
    assert not group.conflicting
    assert group.key == min(hashlib.sha256(data).hexdigest() for data in copies.values())
    assert folder.groups(near=False) == ()
    (with_mirrored,) = folder.groups()
    assert with_mirrored.members == (*group.members, "mirrored.jpg")


def test_a_mirrored_copy_is_told_from_an_upright_one(folder: Folder) -> None:
    folder.add("0.jpg", jpeg(blobs(1)))
    folder.add("1.jpg", jpeg(np.ascontiguousarray(blobs(1)[:, ::-1]), 70))
    folder.add("2.jpg", jpeg(blobs(1), 70))
    links = near_links(folder.samples, folder.prints())
    assert len(links) == 2, "as many as it takes to join three"
    assert all(link.mirrored == (1 in (link.first, link.second)) for link in links)
    assert all(link.detail >= 0.9 and link.distance_bits <= 4 for link in links)


def portrait(seed: int) -> Image:
    """Return a textured oval before a black backdrop: one mask in common, nothing else."""
    oval = np.zeros((200, 200), np.uint8)
    cv2.ellipse(oval, (100, 100), (75, 95), 0, 0, 360, 255, -1)
    return np.where(oval[:, :, None] > 0, blobs(seed) // 2 + 110, 0).astype(np.uint8)


def test_other_pictures_of_the_same_layout_are_candidates_but_not_confirmed(
    folder: Folder,
) -> None:
    for seed in range(12):
        folder.add(f"{seed:02}.jpg", jpeg(portrait(seed)))
    found = near_links(folder.samples, folder.prints(), criteria=Criteria(min_detail=-2))
    assert len(found) > 5, "the hash alone can't tell these apart: the test would show nothing"
    assert folder.groups() == ()


def test_flat_pictures_are_not_near_one_another(folder: Folder) -> None:
    for level in (0, 90, 91, 255):
        folder.add(f"{level}.jpg", jpeg(np.full((64, 64, 3), level, np.uint8)))
    assert folder.groups() == ()


def test_copies_of_copies_are_one_group_whatever_the_order(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1=2 by bytes, 1~4, 4~5, and 0~3 apart: only the pairs decide, not who is named first."""
    same = jpeg(blobs(0))
    for index in range(7):
        folder.add(f"{index}.jpg", same if index in (1, 2) else jpeg(blobs(index + 10)))

    def pairs(samples: list[Sample], *_: object, **__: object) -> list[NearPair]:
        at = {sample.name[0]: index for index, sample in enumerate(samples)}
        assert ("1" in at) != ("2" in at), "identical files are compared once"
        at["1"] = at.get("1", at.get("2", -1))
        links = [("4", "5"), ("0", "3"), ("1", "4")]
        return [NearPair(at[a], at[b], 0, 1.0) for a, b in links]

    monkeypatch.setattr(duplicates, "near_links", pairs)
    prints = folder.prints()
    groups = find_duplicates(folder.samples, prints)
    assert [group.members for group in groups] == [
        ("0.jpg", "3.jpg"),
        ("1.jpg", "2.jpg", "4.jpg", "5.jpg"),
    ]
    assert groups[1].kind == "near"
    backwards = find_duplicates(folder.samples[::-1], prints[::-1])
    assert backwards == groups


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([20.0, 20.0], False),
        ([20.0, None], False),
        ([20.0, 20.5], True),
        ([(20, 29), (30, 39)], True),
        ([(20, 29), (25, 32)], False),
        ([29.5, (20, 29)], False),
        ([30.0, (20, 29)], True),
        ([None, None], False),
    ],
)
def test_labels_conflict(labels: list[float | tuple[int, int] | None], expected: bool) -> None:
    samples = [
        Sample(Path("x"), "x", None, label)
        if isinstance(label, tuple)
        else Sample(Path("x"), "x", label)
        for label in labels
    ]
    assert labels_conflict(samples) is expected


def test_fingerprints_of_other_samples_are_refused(folder: Folder) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    (print_,) = folder.prints()
    with pytest.raises(ValueError, match="in their order"):
        find_duplicates(folder.samples, [replace(print_, name="b.jpg")])


def test_progress_ends_at_the_total(folder: Folder) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    folder.add("b.jpg", jpeg(blobs(1), 70))
    steps: list[tuple[str, int, int]] = []
    prints = fingerprints(folder.samples, progress=lambda *step: steps.append(step))
    find_duplicates(folder.samples, prints, progress=lambda *step: steps.append(step))
    ends = {stage: (done, total) for stage, done, total in steps}
    assert ends == {"fingerprints": (2, 2), "thumbnails": (2, 2), "near-duplicates": (6, 6)}


@pytest.mark.parametrize("keep", [0, 2, 3])
def test_hashed_pictures_are_not_decoded_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    folder.add("b.jpg", jpeg(blobs(1), 70))
    folder.add("c.jpg", jpeg(blobs(1)[:, ::-1]))
    prints = fingerprints(folder.samples, keep=keep)
    assert [print_.thumbnail is not None for print_ in prints] == [True] * keep + [False] * (
        3 - keep
    )
    assert sum(print_.thumbnail is not None for print_ in prints) == keep
    decoded, decode = list[str](), near_search._thumbnail

    def decode_and_note(sample: Sample) -> Image | None:
        decoded.append(sample.name)
        return decode(sample)

    monkeypatch.setattr(near_search, "_thumbnail", decode_and_note)
    (group,) = find_duplicates(folder.samples, prints)
    assert group.members == ("a.jpg", "b.jpg", "c.jpg")
    assert decoded == ["a.jpg", "b.jpg", "c.jpg"][keep:]

    remembered = fingerprints(folder.samples)
    assert remembered == prints
    assert all(print_.thumbnail is None for print_ in remembered)


def _cache_file() -> Path:
    (file,) = (cache_dir() / "fingerprints").iterdir()
    return file


def _never_read(*_: object) -> None:
    raise AssertionError("the picture was read again")


def test_the_second_call_reads_no_picture(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    folder.add("b.jpg", b"<html>")
    first = folder.prints()
    monkeypatch.setattr(duplicates, "_read_entry", _never_read)
    assert folder.prints() == first


def test_a_changed_file_is_read_again(folder: Folder) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    before = folder.prints()
    (folder.root / "a.jpg").write_bytes(jpeg(blobs(2)))
    assert folder.prints()[0].sha256 != before[0].sha256


def test_a_file_written_just_now_is_not_remembered(folder: Folder) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    os.utime(folder.root / "a.jpg")
    folder.prints()
    assert not (cache_dir() / "fingerprints").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 1, "version": 1, "files": {}}',
        "\x00" * 50,
        "[" * 100_000,
    ],
)
def test_a_damaged_cache_is_ignored_and_replaced(folder: Folder, damage: str) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    right = folder.prints()
    _cache_file().write_text(damage)
    assert folder.prints() == right
    assert json.loads(_cache_file().read_text())["files"]


@pytest.mark.parametrize(
    "row",
    [
        5,
        [],
        [1, 2, "short", "00", "00", "", 1, 1],
        ["1", 2, "0" * 64, "00", "00", "", 1, 1],
        [1, 2, "0" * 64, "00", None, "", 1, 1],
        [1, 2, "0" * 64, "00", "-1", "", 1, 1],
    ],
)
def test_a_cache_with_a_malformed_row_is_ignored(folder: Folder, row: object) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    right = folder.prints()
    content = json.loads(_cache_file().read_text())
    content["files"] = dict.fromkeys(content["files"], row)
    _cache_file().write_text(json.dumps(content))
    assert folder.prints() == right


def test_a_cache_of_another_version_is_not_used(folder: Folder) -> None:
    folder.add("a.jpg", jpeg(blobs(1)))
    right = folder.prints()
    content = json.loads(_cache_file().read_text())
    content["version"] = "older"
    for row in content["files"].values():
        row[2] = "0" * 64
    _cache_file().write_text(json.dumps(content))
    assert folder.prints() == right


def test_a_cache_folder_that_can_not_be_made_is_no_error(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "file"))
    folder.add("a.jpg", jpeg(blobs(1)))
    assert folder.prints()[0].perceptual is not None


@pytest.mark.shared
def test_near_duplicates_of_a_part_of_utkface(shared_dir: Path) -> None:
    """The ages 80 to 90: figures as inspected by eye, each pair one photograph."""
    samples = [
        sample
        for sample in utkface.load(shared_dir / "data" / "utkface").samples
        if sample.age_years is not None and 80 <= sample.age_years <= 90
    ]
    groups = find_duplicates(samples, fingerprints(samples))
    near = [group for group in groups if group.kind == "near"]
    assert (len(samples), len(groups), len(near)) == (514, 14, 8)


def test_small_files_are_read_by_one_thread(tmp_path: Path) -> None:
    def of_size(size_bytes: int, count: int) -> list[Sample]:
        path = tmp_path / f"{size_bytes}.jpg"
        path.write_bytes(b"x" * size_bytes)
        return [Sample(path, f"{index:04d}", 30.0) for index in range(count)]

    small, large = of_size(SMALL_BYTES - 1, 700), of_size(SMALL_BYTES, 700)
    assert usual_threads(small) == 1
    assert usual_threads(large) == 2
    assert usual_threads([*small[:650], *of_size(2_000_000, 50)]) == 2  # their mean
    gone = [Sample(tmp_path / "gone.jpg", "gone", 30.0)]
    assert usual_threads(gone) == usual_threads([]) == 1


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_give_results_in_order(threads: int) -> None:
    together = threading.Barrier(max(1, threads), timeout=600)

    def work(item: int) -> int:
        together.wait()  # for as many as there are to be threads
        return -item

    with mapped_by(threads) as mapped:
        assert list(mapped(work, range(6))) == [0, -1, -2, -3, -4, -5]


def test_threads_that_were_asked_for_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []

    def noted(threads: int) -> AbstractContextManager[Mapped]:
        asked.append(threads)
        return mapped_by(threads)

    for module in ("groups", "near_search"):
        monkeypatch.setattr(f"agebench.duplicates.{module}.mapped_by", noted)
    path = tmp_path / "small.png"
    assert cv2.imwrite(str(path), np.eye(64, dtype=np.uint8) * 255)
    samples = [Sample(path, name, 30.0) for name in "ab"]
    for threads in (None, 5):
        prints = fingerprints(samples, threads=threads)
        find_duplicates(samples, prints, threads=threads)
    assert asked == [1, 1, 5, 5]
