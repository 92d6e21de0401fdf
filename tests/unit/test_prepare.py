"""prepare as a whole: what it writes, what it refuses, and that it goes on where it was."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage

from agebench.cli.prepare import command
from agebench.datasets.base import SampleList
from agebench.errors import AgebenchError, DatasetError, UsageError
from agebench.prepare import pictures as pictures_module
from agebench.prepare import run as run_module
from agebench.prepare.pictures import PicturePreparer, PreparationTask, encode_jpeg
from agebench.prepare.records import PictureRecord
from agebench.prepare.run import prepare
from agebench.prepare.settings import PrepareSettings
from agebench.protocols import DatasetSpec, DetectorSpec
from agebench.splits.files import write_split
from agebench.splits.parts import Split
from agebench.testing import generated_picture
from agebench.types import Face, Image, Sample
from agebench.vision.images import decode_image, read_image
from agebench.vision.opencv import cv2
from tests.unit.forking import ForkedPython
from tests.unit.trees import tree

VIEWS = ("face", "eyes", "eye_left", "eye_right", "mouth")
MAIN = (
    "import os, signal; os.setsid(); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from agebench.cli import main; main()"
)


def save(path: Path, image_bgr: Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1])).save(path, **options)  # type: ignore[arg-type]  # Pillow's own options


def make_folders(root: Path, count: int = 4, side: int = 120) -> Path:
    """A data set `folders`: ages 0, 11, 22, ... with one picture each."""
    for index in range(count):
        file = root / f"{index * 11 % 100:03d}" / f"p{index}.jpg"
        save(file, generated_picture(side, side, index))
    return root


def manifest(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def problems(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "manifest_problems.csv").open(encoding="utf-8", newline="") as file:
        return {row["source"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}


def aligned(root: Path, out: Path, **settings: object) -> run_module.PrepareReport:
    made = PrepareSettings(**settings)  # type: ignore[arg-type]  # of the tests' choosing
    return prepare("folders", out, root=root, detector="aligned", settings=made)


# What it writes


def test_the_hierarchy(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in", 4), tmp_path / "out"
    report = aligned(root, out)
    rows = manifest(out)
    assert [row["source"] for row in rows] == [f"{11 * i:03d}/p{i}.jpg" for i in range(4)]
    assert [row["group"] for row in rows] == ["0-2", "8-12", "21-24", "33-37"]
    expected = {
        f"{row['group']}/{view}/{row['name']}.jpg"
        for row in rows
        for view in ("original_image", *VIEWS)
    }
    tables = {"manifest.csv", "manifest_problems.csv", "prepare.json"}
    assert set(tree(out)) == expected | tables
    assert not (out / ".prepare").exists()
    assert report.counts["faces"] == 4
    assert report.counts["views"] == dict.fromkeys(VIEWS, 4)
    about = json.loads((out / "prepare.json").read_text())
    for row in rows:
        for view in VIEWS:
            crop = read_image(out / row["group"] / view / f"{row['name']}.jpg")
            assert list(crop.shape[:2]) == about["views"][view]["size_hw"]
        original = out / row["group"] / "original_image" / f"{row['name']}.jpg"
        assert original.read_bytes() == (root / row["source"]).read_bytes()


def test_originals_that_are_no_upright_jpeg_are_encoded_anew(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    smooth = cv2.resize(generated_picture(8, 8), (90, 60), interpolation=cv2.INTER_CUBIC)
    image: Image = np.asarray(smooth, np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # the camera was turned: 90x60 is shown as 60x90
    save(root / "030" / "turned.jpg", image, exif=exif, quality=95)
    save(root / "030" / "plain.png", image)
    plain_exif = PillowImage.Exif()
    plain_exif[0x0112] = 1
    save(root / "030" / "upright.jpg", image, exif=plain_exif, quality=95)
    cmyk = PillowImage.fromarray(image[:, :, ::-1].copy()).convert("CMYK")
    cmyk.save(root / "030" / "cmyk.jpg", quality=95)
    aligned(root, out)
    kept = {}
    for row in manifest(out):
        path = out / row["group"] / "original_image" / f"{row['name']}.jpg"
        source = root / row["source"]
        kept[source.name] = path.read_bytes() == source.read_bytes()
        with PillowImage.open(path) as header:
            assert header.getexif().get(0x0112, 1) == 1
            assert header.mode == "RGB"
        difference = np.abs(read_image(path).astype(int) - read_image(source).astype(int))
        assert difference.mean() < 3
    assert kept == {
        "turned.jpg": False,
        "plain.png": False,
        "upright.jpg": True,
        "cmyk.jpg": False,
    }


def test_names_that_meet_do_not_collide(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    names = ["a/x.jpg", "b/x.jpg", "a/X.jpg", "a/x.png", "Ä" * 100 + ".jpg", "東.jpg", "a b.jpg"]
    for index, name in enumerate(names):
        save(root / "030" / name, generated_picture(40, 40, index))
    aligned(root, out, views=("face",))
    rows = manifest(out)
    assert {row["source"] for row in rows} == {f"030/{name}" for name in names}
    assert len({row["name"].lower() for row in rows}) == len(names)
    assert all(row["name"].isascii() and len(row["name"]) < 100 for row in rows)


@pytest.mark.skipif(os.name == "nt", reason="such names can't be")
def test_line_ends_in_names_come_back(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    names = ["030/a\rb.jpg", "030/c\nd.jpg", "030/e\r\nf.jpg"]
    for index, name in enumerate(names):
        save(root / name, generated_picture(40, 40, index))
    (root / "030" / "\rbad.jpg").write_bytes(b"no picture")
    aligned(root, out, views=("face",))
    assert sorted(row["source"] for row in manifest(out)) == sorted(names)
    assert list(problems(out)) == ["030/\rbad.jpg"]


def test_labels_ranges_identities_and_splits(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in "abcd":
        save(root / f"{name}.jpg", generated_picture(40, 40))
    ages = ['a.jpg,7.5,Ann,"x, ""y"""', 'b.jpg,"(25, 32)",,', "c.jpg,20-40,Cy,", "d.jpg,60-100,,"]
    (root / "list.csv").write_text("path,age,identity,note\n" + "\n".join(ages) + "\n")
    split = Split("mine", {"a.jpg": "train", "b.jpg": "test", "d.jpg": "train"})
    write_split(split, tmp_path / "split.csv")
    out = tmp_path / "out"
    settings = PrepareSettings(views=("face",))
    prepare(
        "csv",
        out,
        root=root / "list.csv",
        detector="aligned",
        settings=settings,
        split=tmp_path / "split.csv",
    )
    rows = manifest(out)
    columns = ("group", "age_years", "age_low", "age_high", "identity", "split")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("7-7", "7.5", "", "", "Ann", "train"),
        ("25-32", "", "25", "32", "", "test"),
        ("mixed", "", "20", "40", "Cy", "unused"),
        ("60-120", "", "60", "100", "", "train"),
    ]
    assert json.loads(rows[0]["attributes"]) == {"note": 'x, "y"'}


def test_what_can_not_be_prepared_is_listed(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in", 2), tmp_path / "out"
    whole = encode_jpeg(generated_picture(64, 64))
    (root / "000" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "000" / "empty.jpg").touch()
    (root / "000" / "page.jpg").write_text("<!DOCTYPE html><html>not found</html>")
    (root / "000" / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    save(root / "nothing" / "y.jpg", generated_picture(20, 20))
    report = aligned(root, out)
    listed = problems(out)
    statuses = {name: status for name, (status, _) in listed.items()}
    assert statuses == {
        "000/cut.jpg": "unreadable",
        "000/empty.jpg": "unreadable",
        "000/page.jpg": "unreadable",
        "000/pointer.jpg": "unreadable",
        "nothing": "not_listed",
    }
    assert str(tmp_path) not in (out / "manifest_problems.csv").read_text()
    assert report.counts["left_out"] == {"unreadable": 4}
    assert report.counts["not_listed"] == 1
    assert report.counts["pictures"] == 6
    assert len(manifest(out)) == 2


class FakeDetector:
    """Finds what `boxes` says, by the picture's height; raises for 13 pixels."""

    def __init__(self, boxes: Mapping[int, Sequence[tuple[float, float, float, float]]]) -> None:
        self._boxes = boxes

    @property
    def spec(self) -> DetectorSpec:
        return DetectorSpec("fake")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        if len(image_bgr) == 13:
            raise RuntimeError("upset")
        found = self._boxes.get(len(image_bgr), [])
        return [Face(box, 0.9 - 0.1 * index) for index, box in enumerate(found)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: dict[int, Sequence[tuple[float, float, float, float]]] = {
        100: [(10.0, 10, 30, 36), (50.0, 20, 100, 85)],
        101: [(-60.0, 10, 20, 90)],
        102: [(40.0, 40, 40.5, 40.5)],
    }

    def load(_reference: str) -> FakeDetector:
        return FakeDetector(boxes)

    monkeypatch.setattr(run_module, "load_detector", load)
    monkeypatch.setattr(pictures_module, "load_detector", load)


@pytest.mark.usefixtures("fake")
def test_several_faces_none_and_a_detector_that_fails(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for height in (100, 99, 13):
        save(root / "030" / f"{height}.jpg", generated_picture(height, 120))
    every = prepare("folders", tmp_path / "all", root=root, settings=PrepareSettings(faces="all"))
    rows = manifest(tmp_path / "all")
    assert [(row["face_index"], row["faces"], row["box_left"]) for row in rows] == [
        ("0", "2", "50.0"),
        ("1", "2", "10.0"),
    ]
    assert rows[0]["name"][:-1] == rows[1]["name"][:-1]
    assert every.counts["several_faces"] == 1
    assert problems(tmp_path / "all") == {
        "030/13.jpg": ("detector_failed", "detector 'fake': RuntimeError: upset"),
        "030/99.jpg": ("no_face", "the detector found no face"),
    }
    prepare("folders", tmp_path / "one", root=root)
    (row,) = manifest(tmp_path / "one")
    assert row["box_left"] == "50.0"
    assert row["frame_from"] == "box"


@pytest.mark.usefixtures("fake")
def test_a_region_that_can_not_be_had_writes_no_file(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for height in (101, 102):
        save(root / "030" / f"{height}.jpg", generated_picture(height, 120))
    report = prepare("folders", out, root=root)
    left, tiny = manifest(out)
    present = {view: left[f"{view}_present"] for view in VIEWS}
    # The box reaches 60 of its 80 pixels over the left border; only its right part is inside.
    assert present["face"] == "0"
    assert present["eye_left"] == "0"
    assert float(left["eye_left_outside"]) > 0.5
    assert {tiny[f"{view}_present"] for view in VIEWS} == {"0"}
    for row in (left, tiny):
        for view in VIEWS:
            file = out / row["group"] / view / f"{row['name']}.jpg"
            assert file.exists() == (row[f"{view}_present"] == "1")
        assert (out / row["group"] / "original_image" / f"{row['name']}.jpg").exists()
    assert report.counts["missing"]["face"] == 2


def test_landmarks_of_the_data_set(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    points = np.random.default_rng(0).uniform(60, 140, (68, 2))
    for index, xy in {
        31: (80, 80),
        36: (120, 80),
        67: (100, 105),
        48: (84, 125),
        54: (116, 125),
    }.items():
        points[index] = xy
    text = "version: 1\nn_points: 68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n"
    for name in ("001A02", "001A30", "002A05"):
        save(root / "images" / f"{name}.JPG", generated_picture(200, 200), format="JPEG")
    (root / "points").mkdir()
    (root / "points" / "001a02.pts").write_text(text)
    (root / "points" / "002a05.pts").write_text("broken")
    settings = PrepareSettings(landmarks="dataset")
    prepare("fgnet", out, root=root, detector="aligned", settings=settings)
    own, other = manifest(out)
    assert (own["landmarks_from"], own["frame_from"], own["landmark_scheme"]) == (
        "dataset",
        "landmarks",
        "fgnet-68",
    )
    assert float(own["frame_roll_rad"]) == pytest.approx(0, abs=1e-9)
    assert json.loads(own["frame_points"])[:2] == [[80, 80], [120, 80]]
    assert (other["landmarks_from"], other["frame_from"]) == ("", "layout")
    assert problems(out)["images/002A05.JPG"][0] == "bad_landmarks"
    with pytest.raises(UsageError, match="no landmarks of its own"):
        aligned(make_folders(tmp_path / "f"), tmp_path / "g", landmarks="dataset")


def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in", 7)
    (root / "000" / "broken.jpg").write_bytes(b"no picture")
    for processes in (1, 2, 3):
        aligned(root, tmp_path / str(processes), processes=processes)
    assert tree(tmp_path / "1") == tree(tmp_path / "2") == tree(tmp_path / "3")


def test_progress_counts_up_to_all(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in", 3)
    seen: list[tuple[str, int, int]] = []
    prepare(
        "folders",
        tmp_path / "out",
        root=root,
        detector="aligned",
        progress=lambda *step: seen.append(step),
    )
    assert seen == [("prepare", done, 3) for done in range(4)]


# What it refuses


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    aligned(root, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = aligned(root, out, processes=2)
    assert again.was_complete
    assert again.counts["faces"] == 4
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    result = CliRunner().invoke(
        command,
        ["--dataset", "folders", "--root", str(root), "--detector", "aligned", "--out", str(out)],
    )
    assert result.exit_code == 0
    assert "is complete: nothing to do" in result.output
    assert "left out" not in result.output


def test_the_last_lines_count_what_was_not_listed(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in")
    save(root / "nothing" / "y.jpg", generated_picture(20, 20))
    options = ["--dataset", "folders", "--root", str(root), "--detector", "aligned"]
    options += ["--processes", "1"]
    result = CliRunner().invoke(command, [*options, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "left out while listing the data set: 1: see manifest_problems.csv" in result.output


def test_other_settings_or_pictures_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    aligned(root, out)
    before = tree(out)
    with pytest.raises(UsageError, match=r"settings.height was 256 and is now 128"):
        aligned(root, out, height=128)
    with pytest.raises(UsageError, match="detector"):
        prepare("folders", out, root=root, detector="haar")
    save(root / "050" / "new.jpg", generated_picture(20, 20))
    with pytest.raises(UsageError, match=r"dataset.pictures was 4 and is now 5"):
        aligned(root, out)
    assert tree(out) == before


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders")
def test_settings_that_are_none_are_a_sentence(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "prepare.json").write_text("[" * 200_000)
    with pytest.raises(AgebenchError, match=r"prepare\.json can't be read"):
        aligned(root, out)
    (out / "prepare.json").unlink()
    os.mkfifo(out / "prepare.json")
    with pytest.raises(AgebenchError, match="not a regular file"):
        aligned(root, out)


def test_foreign_nested_and_unwritable_folders_are_refused(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in")
    mine = tmp_path / "mine"
    save(mine / "holiday.jpg", generated_picture(20, 20))
    with pytest.raises(UsageError, match=r"not empty.*holiday\.jpg"):
        aligned(root, mine)
    for nested in (root / "out", root, root / "x" / ".." / "deep" / "out"):
        with pytest.raises(UsageError, match="inside the data set's folder"):
            aligned(root, nested)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(UsageError, match="inside the data set's folder"):
        aligned(root, tmp_path / "link" / "out")
    with pytest.raises(AgebenchError, match="can't be written to"):
        aligned(root, mine / "holiday.jpg" / "out")
    with pytest.raises(UsageError, match="can't be used: expected a folder, got a file"):
        aligned(root, mine / "holiday.jpg")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "prepare.json").write_text("[]")
    with pytest.raises(AgebenchError, match="give another --out"):
        aligned(root, tmp_path / "odd")


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    empty = SampleList(DatasetSpec("mine", "unknown"), ())
    with pytest.raises(DatasetError, match="no usable picture"):
        prepare(empty, tmp_path / "out", detector="aligned")


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = make_folders(tmp_path / "in", 5), tmp_path / "out"
    real = Path.write_bytes
    left = iter(range(14))

    def full(self: Path, data: bytes) -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(AgebenchError, match=r"No space left on device.*same command again"):
            aligned(root, out)
    report = aligned(root, out)
    assert report.resumed == 2
    aligned(root, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")


# Going on


def test_an_interrupted_run_goes_on_and_refuses_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = make_folders(tmp_path / "in", 5), tmp_path / "out"
    real = PicturePreparer.prepare

    def interrupted(self: PicturePreparer, task: PreparationTask) -> PictureRecord:
        if task.source.startswith("033"):
            raise KeyboardInterrupt
        return real(self, task)

    words = ["--dataset", "folders", "--root", str(root), "--detector", "aligned"]
    words += ["--out", str(out), "--processes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(PicturePreparer, "prepare", interrupted)
        result = CliRunner().invoke(command, words)
    assert result.exit_code == 130
    assert "same command resumes" in result.output
    assert not (out / "manifest.csv").exists()
    with pytest.raises(UsageError, match=r"settings.margin was 0.0 and is now 0.5"):
        aligned(root, out, margin=0.5)
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0
    assert "3 pictures finished by an earlier run" in result.output
    aligned(root, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")


def test_a_kill_between_the_last_file_and_cleaning_up_leaves_a_finished_folder(
    tmp_path: Path,
) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    aligned(root, out)
    (out / ".prepare" / "run-x").mkdir(parents=True)
    (out / ".prepare" / "journal.jsonl").write_text("{}\n")
    assert aligned(root, out).was_complete
    assert not (out / ".prepare").exists()


def start(root: Path, out: Path) -> ForkedPython:
    words = ["--dataset", "folders", "--root", str(root), "--detector", "aligned"]
    return ForkedPython("-c", MAIN, "prepare", *words, "--out", str(out), "--processes", "2")


def wait_for_journal(process: ForkedPython, out: Path, lines: int) -> None:
    journal = out / ".prepare" / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > lines:
            return
        time.sleep(0.01)


def gone(children: Sequence[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(children, timeout=1800)
    return not alive


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_six_kills_change_no_byte(tmp_path: Path) -> None:
    # Large enough that a fast machine does not get through it between the kills.
    root, out = make_folders(tmp_path / "in", 160, side=300), tmp_path / "out"
    chance = random.Random(3)
    done: list[int] = []
    for attempt in range(6):
        process = start(root, out)
        # Half of the kills fall anywhere, half while pictures are being made.
        before = done[-1] if done else 0
        if attempt % 2:
            wait_for_journal(process, out, before + 1)
            time.sleep(chance.uniform(0, 0.05))
        else:
            time.sleep(chance.uniform(0, 0.5))
        assert process.poll() is None, "the kill came too late: make the set larger"
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert gone(children)
        journal = out / ".prepare" / "journal.jsonl"
        done.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
    assert not (out / "prepare.json").exists(), "all kills came too late: make the set larger"
    assert done[-1] > 5
    aligned(root, tmp_path / "undisturbed")
    last = start(root, out).ended()
    assert (last.returncode, last.stderr) == (0, "")
    assert "finished by an earlier run" in last.stdout
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in", 150, side=500), tmp_path / "out"
    process = start(root, out)
    wait_for_journal(process, out, 3)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    ended = process.ended()
    assert ended.returncode == 130
    assert "same command resumes" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(children) >= 2
    assert gone(children)
    assert not (out / "prepare.json").exists()


# Children run a script's top again, so that they have the deadly class too.
DEADLY = """
import os, signal, sys
from pathlib import Path
from agebench.errors import AgebenchError
from agebench.prepare import pictures
from agebench.prepare.run import prepare
from agebench.prepare.settings import PrepareSettings

class Deadly(pictures.PicturePreparer):
    def prepare(self, task):
        if "deadly" in task.source and not Path(sys.argv[4]).exists():
            if sys.argv[3] == "once":
                Path(sys.argv[4]).touch()
            if sys.argv[3] == "exit":
                os._exit(7)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(task)

pictures.PicturePreparer = Deadly

if __name__ == "__main__":
    settings = PrepareSettings(processes=2)
    try:
        prepare("folders", sys.argv[2], root=sys.argv[1], detector="aligned", settings=settings)
    except AgebenchError as error:
        print(error)
"""


def run_deadly(tmp_path: Path, how: str) -> tuple[Path, Path, str]:
    root, out, script = tmp_path / "in", tmp_path / "out", tmp_path / "script.py"
    make_folders(root, 5)
    save(root / "010" / "deadly.jpg", generated_picture(20, 20))
    script.write_text(DEADLY)
    words = [sys.executable, str(script), str(root), str(out), how, str(tmp_path / "mark")]
    ended = subprocess.run(  # noqa: S603 - our own script
        words, check=True, timeout=1800, capture_output=True, text=True
    )
    assert ended.stderr == ""
    return root, out, ended.stdout


def test_a_picture_that_ends_its_process_is_left_out(tmp_path: Path) -> None:
    _, out, _ = run_deadly(tmp_path, "exit")
    status, reason = problems(out)["010/deadly.jpg"]
    assert status == "crashed"
    assert "died 2 times (exit code 7)" in reason
    assert len(manifest(out)) == 5


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_that_is_killed_once_changes_nothing(tmp_path: Path) -> None:
    root, out, _ = run_deadly(tmp_path, "once")
    aligned(root, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_processes_that_are_killed_again_end_the_run_in_a_sentence(tmp_path: Path) -> None:
    root, out, said = run_deadly(tmp_path, "always")
    assert "was killed 2 times" in said
    assert "fewer --processes to resume" in said
    assert not (out / "manifest.csv").exists()
    assert aligned(root, out).counts["faces"] == 6


def test_a_detector_that_is_missing_is_told_before_anything_is_written(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in")
    with pytest.raises(UsageError, match="unknown detector"):
        prepare("folders", tmp_path / "out", root=root, detector="no-such")
    assert not (tmp_path / "out").exists()


def test_chips_need_no_detector_to_be_named(tmp_path: Path) -> None:
    chip = tmp_path / "chips" / "30_0_0_20170116174525125.jpg.chip.jpg"
    save(chip, generated_picture(200, 200, 0))
    done = CliRunner().invoke(
        command,
        ["--dataset", "utkface", "--root", str(chip.parent), "--out", str(tmp_path / "crops")],
    )
    assert done.exit_code == 0, done.output
    assert "detector: aligned: the pictures of utkface are aligned chips" in done.output
    assert "1 face of 1 picture" in done.output


def test_samples_of_an_own_data_set_can_be_sent_to_processes(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", generated_picture(50, 50))
    save(tmp_path / "b.jpg", generated_picture(50, 50, 1))
    samples = tuple(
        Sample(tmp_path / f"{name}.jpg", f"{name}.jpg", 30.0, attributes={"gender": "female"})
        for name in "ab"
    )
    mine = SampleList(DatasetSpec("mine", "apparent"), samples)
    settings = PrepareSettings(processes=2, views=("face",))
    prepare(mine, tmp_path / "out", detector="aligned", settings=settings)
    rows = manifest(tmp_path / "out")
    assert [(row["dataset"], row["label_kind"]) for row in rows] == [("mine", "apparent")] * 2
    crop = decode_image(
        (tmp_path / "out" / "25-32" / "face" / f"{rows[0]['name']}.jpg").read_bytes(), "crop"
    )
    assert crop.shape == (256, 195, 3)


def test_a_finished_folder_that_lost_files_is_not_called_complete(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    aligned(root, out)
    crops = sorted(out.rglob("*.jpg"))
    crops[0].unlink()
    crops[3].unlink()
    with pytest.raises(AgebenchError, match=r"damaged in 2 places, such as .*remove the folder"):
        aligned(root, out)
    (out / "manifest.csv").unlink()
    with pytest.raises(AgebenchError, match=r"is damaged: .*manifest\.csv") as told:
        aligned(root, out)
    assert str(told.value).count("remove the folder") == 1


def test_pictures_of_other_content_are_not_taken_for_those_prepared(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    aligned(root, out)
    before = tree(out)
    changed = next(path for path in sorted(root.rglob("*")) if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"\n")
    with pytest.raises(UsageError, match=r"1 of the \d+ pictures .* have changed since"):
        aligned(root, out)
    assert tree(out) == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff broken"])
def test_a_picture_that_was_mended_is_noticed(
    tmp_path: Path, content: bytes, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    broken = next(path for path in sorted(root.rglob("*")) if path.is_file())
    whole = broken.read_bytes()
    broken.write_bytes(content)
    if finished:
        aligned(root, out)
        assert problems(out)[broken.relative_to(root).as_posix()][0] == "unreadable"
        assert aligned(root, out).was_complete
    else:
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "write_manifest", None)
            with pytest.raises(TypeError):
                aligned(root, out)
    broken.write_bytes(whole)
    with pytest.raises(UsageError, match=r"1 of the \d+ pictures .* have changed since"):
        aligned(root, out)


def test_without_a_face_it_ends_with_1(tmp_path: Path) -> None:
    root, out = make_folders(tmp_path / "in"), tmp_path / "out"
    words = ["--dataset", "folders", "--root", str(root), "--detector", "aligned"]
    words += ["--max-pixels", "1", "--processes", "1"]
    done = CliRunner().invoke(command, [*words, "--out", str(out)])
    assert isinstance(done.exception, AgebenchError)
    assert "no face could be cropped" in str(done.exception)
