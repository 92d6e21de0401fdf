"""prepare's parts: age groups, names, view sizes, records, the journal and the store."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.datasets.names import AgeLabel, parse_age_label
from agebench.datasets.prepared_layout import NAME
from agebench.errors import AgebenchError, UsageError
from agebench.prepare.groups import OLDEST_YEARS, parse_groups
from agebench.prepare.journal import Journal, read_header
from agebench.prepare.pictures import face_name, readable_stem, stems
from agebench.prepare.records import FaceRecord, PictureRecord, PreparedView
from agebench.prepare.settings import PrepareSettings
from agebench.prepare.store import Store, working_folder
from agebench.types import FIVE_POINTS, Face, FaceFrame

# Age groups


def test_adience_groups_with_folders_for_the_gaps() -> None:
    assert parse_groups("adience").labels == (
        "0-2",
        "3-3",
        "4-6",
        "7-7",
        "8-12",
        "13-14",
        "15-20",
        "21-24",
        "25-32",
        "33-37",
        "38-43",
        "44-47",
        "48-53",
        "54-59",
        "60-120",
    )


def test_decades_and_own_groups() -> None:
    assert parse_groups("decades").labels[:2] == ("0-9", "10-19")
    assert parse_groups("decades").labels[-1] == "110-120"
    assert parse_groups("0-12, 13-17,18-").labels == ("0-12", "13-17", "18-120")
    assert parse_groups("5,20-29,60+").labels == (
        "0-4",
        "5-5",
        "6-19",
        "20-29",
        "30-59",
        "60-120",
    )


@given(st.lists(st.integers(0, OLDEST_YEARS), min_size=2, max_size=12, unique=True))
def test_every_age_has_exactly_one_folder(ages: list[int]) -> None:
    ages = sorted(ages)[: len(ages) // 2 * 2]
    pairs = list(zip(ages[::2], ages[1::2], strict=True))
    groups = parse_groups(",".join(f"{low}-{high}" for low, high in pairs))
    for low, high in pairs:
        assert groups.folder(float(low), None) == f"{low}-{high}"
        assert groups.folder(high + 0.9 if high < OLDEST_YEARS else 120.0, None) == f"{low}-{high}"
    for age in range(OLDEST_YEARS + 1):
        holding = [low <= age <= high for low, high in groups.ranges]
        assert sum(holding) == 1


def test_ranges_go_to_the_group_that_holds_all_of_them() -> None:
    groups = parse_groups("adience")
    assert groups.folder(None, (25, 32)) == "25-32"
    assert groups.folder(None, (26, 30)) == "25-32"
    assert groups.folder(None, (34, 36)) == "33-37"
    assert groups.folder(None, (30, 39)) == "mixed"
    label = parse_age_label("60+")
    assert isinstance(label, AgeLabel)
    assert groups.folder(None, label.age_range) == "60-120"
    assert groups.folder(None, (60, 100)) == "60-120"
    assert groups.folder(None, None) == "unknown"


@pytest.mark.parametrize(
    "text",
    ["", "adience2", "5-3", "0-10,10-20", "20-30,0-10", "0-121", "a-b", "-5", "1-2-3", "60-+"],
)
def test_wrong_groups_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="age group"):
        parse_groups(text)


# Names


def test_names_are_readable_and_do_not_collide() -> None:
    sources = [
        "a/1.jpg",
        "b/1.jpg",
        "A/1.jpg",
        "a/1.JPG",
        "a/1.png",
        "Zoë.jpg",
        "ZOË.jpg",
        "東京.jpg",
    ]
    names = stems(sources)
    assert len({name.lower() for name in names.values()}) == len(sources)
    assert names["a/1.jpg"].startswith("1-")
    assert names["Zoë.jpg"].startswith("Zoe-")
    assert names["東京.jpg"].startswith("picture-")
    # SHA-256 of "a/1.jpg", from another implementation (sha256sum).
    assert names["a/1.jpg"] == "1-35f4aeeb54"


def test_a_name_does_not_depend_on_the_other_pictures() -> None:
    assert stems(["a/1.jpg"])["a/1.jpg"] == stems(["b/1.jpg", "a/1.jpg"])["a/1.jpg"]


def test_equal_hashes_are_told_apart() -> None:
    # With one digit, 40 sources of one readable name can't all differ.
    sources = [f"{folder}/x.jpg" for folder in range(40)]
    names = stems(sources, digits=1)
    assert len({name.lower() for name in names.values()}) == len(sources)


@given(st.text(max_size=400))
def test_any_name_gives_one_that_every_file_system_holds(source: str) -> None:
    source = source.encode("utf-8", "ignore").decode()
    name = face_name(stems([source])[source], 12)
    assert NAME.fullmatch(name)
    assert len(name) <= 80


def test_windows_device_names_do_not_stand_alone() -> None:
    assert readable_stem("CON.x.jpg") == "CON_x"


# Settings


def test_views_have_their_regions_proportions() -> None:
    sizes = {
        name: view.size_hw
        for name, view in PrepareSettings(
            views=("face", "aligned", "eyes", "eye_left", "mouth", "nose", "forehead")
        )
        .crop_spec()
        .views.items()
    }
    assert sizes == {
        "face": (256, 195),
        "aligned": (256, 195),
        "eyes": (128, 256),
        "eye_left": (128, 128),
        "mouth": (128, 192),
        "nose": (128, 128),
        "forehead": (128, 282),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"views": ()},
        {"views": ("face", "face")},
        {"views": ("original",)},
        {"views": ("../face",)},
        {"faces": "some"},
        {"landmarks": "none"},
        {"faces": "all", "landmarks": "dataset"},
        {"limit": 1, "sample": 1},
        {"limit": 0},
        {"height": 0},
        {"height": 10**9},
        {"margin": float("nan")},
        {"max_outside": 1.5},
        {"processes": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PrepareSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


# Records and the journal


def record(source: str, size: int = 3) -> PictureRecord:
    points = ((1.1, 2.2), (3.3, 4.4), (5.5, 6.6), (7.7, 8.8), (0.1 + 0.2, 1e-17))
    found = FaceRecord(
        "x-0",
        Face((0.1, 0.2, 10.3, 10.4), 0.5, points, FIVE_POINTS),
        "detector",
        FaceFrame((1 / 3, 2 / 3), 10.0, 0.01, "landmarks", points),
        {"face": PreparedView(True, 0.125), "mouth": PreparedView(False, 1.0)},
    )
    return PictureRecord(source, "ok", "", "ab" * 32, 2, (found,), {f"0-2/face/{source}": size})


def test_a_record_comes_back_as_it_was() -> None:
    for item in (record("ä\n.jpg"), PictureRecord("b", "no_face", 'a "reason"')):
        line = item.to_line()
        assert "\n" not in line
        assert PictureRecord.from_line(line) == item


@pytest.mark.parametrize("line", ["", "{}", "[]", "1", '{"source": 1}', "nonsense", "{"])
def test_no_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own messages vary
        PictureRecord.from_line(line)


def folder_with(tmp_path: Path, *sources: str) -> Path:
    for source in sources:
        file = tmp_path / "0-2" / "face" / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"abc")
    return tmp_path


def test_a_journal_cut_anywhere_keeps_what_was_whole(tmp_path: Path) -> None:
    out = folder_with(tmp_path, "a", "b")
    path = tmp_path / "journal"
    with Journal(path, {"x": 1}, out) as journal:
        journal.append("a", record("a").to_line())
        journal.append("b", record("b").to_line())
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == 3
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert read_header(path) == ({"x": 1} if cut >= ends[0] else None)
        with Journal(path, {"x": 1}, out) as journal:
            assert [name in journal for name in "ab"] == [cut >= ends[1], cut >= ends[2]]
            journal.append("c", record("c").to_line())
            assert journal.read("c") == record("c")
        lines = path.read_bytes().splitlines()
        assert len(lines) == 2 + (cut >= ends[1]) + (cut >= ends[2])
        assert all(json.loads(line) for line in lines)


def test_a_journal_forgets_pictures_whose_files_are_gone_or_cut(tmp_path: Path) -> None:
    out = folder_with(tmp_path, "a", "b", "c")
    path = tmp_path / "journal"
    with Journal(path, {}, out) as journal:
        for source in "abc":
            journal.append(source, record(source).to_line())
    (out / "0-2" / "face" / "a").write_bytes(b"")
    (out / "0-2" / "face" / "b").unlink()
    with Journal(path, {}, out) as journal:
        assert [source in journal for source in "abc"] == [False, False, True]


def test_damaged_lines_within_a_journal_are_passed_over(tmp_path: Path) -> None:
    out = folder_with(tmp_path, "a")
    path = tmp_path / "journal"
    path.write_bytes(b"{}\nrubbish \xff\n" + record("a").to_line().encode() + b"\n")
    with Journal(path, {}, out) as journal:
        assert "a" in journal
        assert journal.read("a") == record("a")


# The store


def test_a_file_that_fails_halfway_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    store = Store(tmp_path / "out", tmp_path / "scratch")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    store.write("0-2/face/a.jpg", b"good")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AgebenchError, match=r"No space left on device.*same command again"):
        store.write("0-2/face/b.jpg", b"picture")
    files = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == ["a.jpg"]


def test_two_runs_in_one_folder_are_refused_and_leftovers_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".prepare" / "run-old"
    leftover.mkdir(parents=True)
    (leftover / "1.tmp").touch()
    with working_folder(tmp_path):
        assert not leftover.exists()
        with pytest.raises(AgebenchError, match="another run"), working_folder(tmp_path):
            pass
    with working_folder(tmp_path):
        pass
