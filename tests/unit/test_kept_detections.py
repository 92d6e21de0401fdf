"""Detections kept from run to run: the same faces without asking, and never for times."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import agebench
from agebench.datasets.base import SampleList
from agebench.detectors.aligned import Aligned
from agebench.estimators.constant import Constant
from agebench.harness import kept_detections
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.harness.compare import compare
from agebench.harness.kept_detections import KeptDetections, KeptDetectionsError, detector_key
from agebench.harness.settings import CompareSettings
from agebench.protocols import DatasetSpec, DetectorSpec
from agebench.types import Face, Image, Sample

FACE = Face(
    (1.5, 2.25, 30.1, 31.0),
    0.1 + 0.2,
    ((9.1, 10.2), (20.3, 10.4), (15.0, 17.7), (10.0, 24.0), (20.0, 24.5)),
    "five-points",
)


class Counting:
    """As one of agebench's own detectors, which counts how often it is asked."""

    __module__ = "agebench.detectors.counting"

    def __init__(self, threshold: float = 0.5) -> None:
        self.spec = DetectorSpec("counting", "five-points", settings={"threshold": threshold})
        self.asked = 0

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        self.asked += 1
        return [] if image_bgr[0, 0, 0] > 100 else [FACE, replace(FACE, score=0.25)]


class OfOthers(Counting):
    __module__ = "somewhere.else"


@pytest.fixture
def pictures(tmp_path: Path) -> SampleList:
    samples = []
    for at, shade in enumerate((10, 20, 200)):
        path = tmp_path / f"{at}.png"
        PillowImage.fromarray(np.full((40, 40, 3), shade, np.uint8)).save(path)
        samples.append(Sample(path, path.name, 30.0))
    return SampleList(DatasetSpec("made-up", "birth-age"), tuple(samples), ())


def _asked(file: Path, pictures: SampleList, detector: Counting) -> list[object]:
    with KeptDetections(file) as kept:
        how = PassSettings(4, 0, 10_000, kept)
        groups = list(run_accuracy(pictures.samples, detector, [Constant()], how))
    return [
        (item.status, item.box_xyxy, item.score, item.landmarks_xy, item.frame_from)
        for group in groups
        for item in group
    ]


def test_the_second_run_asks_no_detector_and_finds_the_same(
    tmp_path: Path, pictures: SampleList
) -> None:
    file, first, second = tmp_path / "cache" / "faces.sqlite", Counting(), Counting()
    before = _asked(file, pictures, first)
    assert _asked(file, pictures, second) == before
    assert [row[0] for row in before if isinstance(row, tuple)] == ["ok", "ok", "no_face"]
    assert (first.asked, second.asked) == (3, 0)


def test_other_settings_other_pixels_and_other_classes_are_asked_anew(
    tmp_path: Path, pictures: SampleList
) -> None:
    file = tmp_path / "faces.sqlite"
    _asked(file, pictures, Counting())
    other = Counting(threshold=0.6)
    _asked(file, pictures, other)
    assert other.asked == 3
    PillowImage.fromarray(np.full((40, 40, 3), 11, np.uint8)).save(pictures.samples[0].path)
    changed = Counting()
    _asked(file, pictures, changed)
    assert changed.asked == 1
    stranger = OfOthers()
    _asked(file, pictures, stranger)
    _asked(file, pictures, stranger)
    assert stranger.asked == 6  # it may change without saying so
    assert detector_key(Counting()) != detector_key(Counting(threshold=0.6))


def test_whatever_code_finds_faces_decides_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding, networks and what files are converted to; not the detectors' own code alone."""
    package = Path(agebench.__file__).parent
    deciding = (
        "detectors/common.py",
        "estimators/common.py",
        "conversion/converted.py",
        "runtimes/cv2dnn.py",
        "vision/images.py",
    )
    for place in (*deciding, "harness/compare.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copy(package / place, tmp_path / place)
    for place in kept_detections.DETECTING:
        assert (tmp_path / place).exists(), f"nothing of {place} is tried here"
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)

    def key() -> str:
        kept_detections.sources_sha256.cache_clear()
        return detector_key(Counting())

    keys = [key()]
    for place in deciding:
        (tmp_path / place).write_text("# mended")
        keys.append(key())
    assert len(set(keys)) == 1 + len(deciding)
    (tmp_path / "harness" / "compare.py").write_text("# mended")
    assert key() == keys[-1]
    monkeypatch.undo()
    kept_detections.sources_sha256.cache_clear()


def test_a_place_in_aligned_chips_is_not_kept(tmp_path: Path) -> None:
    with KeptDetections(tmp_path / "faces.sqlite") as kept:
        assert not kept.keeps(Aligned())
        assert kept.keeps(Counting())


def test_times_come_from_the_detector_itself(tmp_path: Path, pictures: SampleList) -> None:
    settings = CompareSettings(latency_pictures=2, decode_threads=0)
    detector = Counting()
    with KeptDetections(tmp_path / "faces.sqlite") as kept:
        compare([Constant()], pictures, detector=detector, settings=settings, detections=kept)
        once = detector.asked
        compare([Constant()], pictures, detector=detector, settings=settings, detections=kept)
        assert (kept.used, kept.added) == (3, 3)
    assert detector.asked - once == once - 3 > 0


def test_a_run_that_is_killed_loses_a_few_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_detections, "COMMIT_SECONDS", 1e9)
    file, detector = tmp_path / "faces.sqlite", Counting()
    kept = KeptDetections(file)
    image = np.zeros((40, 40, 3), np.uint8)
    for at in range(40):
        kept.find(detector, f"{at:064x}", image)
    del kept  # neither saved nor closed
    with KeptDetections(file) as again:
        for at in range(40):
            again.find(detector, f"{at:064x}", image)
        assert (again.used, again.added) == (32, 8)


def test_what_took_long_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_detections, "COMMIT_SECONDS", 0.0)
    file, detector = tmp_path / "faces.sqlite", Counting()
    kept = KeptDetections(file)
    kept.find(detector, "a" * 64, np.zeros((40, 40, 3), np.uint8))
    with KeptDetections(file) as other:
        other.find(detector, "a" * 64, np.zeros((40, 40, 3), np.uint8))
        assert other.used == 1


def test_a_run_that_is_killed_while_it_makes_the_file_leaves_one_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(int):
        def __format__(self, _spec: str) -> str:
            raise KeyboardInterrupt

    file = tmp_path / "faces.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(kept_detections, "FORMAT", Killed(1))  # written after the table was made
        with pytest.raises(KeyboardInterrupt):
            KeptDetections(file)
    with KeptDetections(file) as kept, KeptDetections(file):
        assert kept.used == 0


def test_a_usual_file_that_fails_later_is_told_once_and_the_run_goes_on(
    tmp_path: Path, pictures: SampleList, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "faces.sqlite"
    monkeypatch.setenv(kept_detections.FILE_VARIABLE, str(file))
    monkeypatch.setattr(kept_detections, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(kept_detections, "WAIT_S", 0.0)
    told: list[str] = []
    detector = Counting()
    with kept_detections.usually_kept(told.append) as kept:
        assert kept is not None
        how = PassSettings(1, 0, 10_000, kept)
        groups = run_accuracy(pictures.samples, detector, [Constant()], how)
        records = next(groups)
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")  # another run writes, and does not end
            records += [record for group in groups for record in group]
            other.execute("ROLLBACK")
        assert (kept.used, kept.added) == (0, 3)
    assert [record.status for record in records] == ["ok", "ok", "no_face"]
    assert detector.asked == 3
    assert len(told) == 1
    assert "detected again and not kept: the kept detections in" in told[0]
    with KeptDetections(file) as again:  # what was kept before is there
        again.find(detector, records[0].sha256, np.zeros((40, 40, 3), np.uint8))
        assert again.used == 1


def test_a_cache_that_can_not_be_a_folder_is_told_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.delenv(kept_detections.FILE_VARIABLE, raising=False)
    monkeypatch.setenv("AGEBENCH_CACHE", str(file))
    told: list[str] = []
    with kept_detections.usually_kept(told.append) as kept:
        assert kept is None
    (sentence,) = told
    assert f"{file / 'detections.sqlite'} can't be used, as their folder can't be" in sentence
    assert "(expected a folder, got a file): name another folder with AGEBENCH_CACHE" in sentence


def test_another_file_is_refused_and_a_damaged_one_ends_the_run(
    tmp_path: Path, pictures: SampleList
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but longer than the header of one: " * 20)
    with pytest.raises(KeptDetectionsError, match=r"notes\.txt .*remove"):
        KeptDetections(text)
    file = tmp_path / "faces.sqlite"
    _asked(file, pictures, Counting())
    for damaged in ("[{]", "[" * 100_000):
        with sqlite3.connect(file) as database:
            database.execute("UPDATE faces SET found = ?", (damaged,))
        with pytest.raises(KeptDetectionsError, match="remove"):
            _asked(file, pictures, Counting())
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(KeptDetectionsError, match="format 1, got 9"):
        KeptDetections(file)
