"""A prepared folder read back: the same labels and crops, and no trust in edited files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.datasets import fgnet, prepared, utkface
from agebench.datasets.prepared import PreparedSet
from agebench.errors import AgebenchError, DatasetError, UsageError
from agebench.prepare.identity import finished_settings
from agebench.prepare.run import prepare
from agebench.prepare.settings import PrepareSettings
from agebench.protocols import Dataset
from agebench.registry.plugins import load_dataset, load_detector
from agebench.types import Image
from agebench.vision.crops import cut_crops
from agebench.vision.faces import find_faces
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

VIEWS = ("face", "box", "eyes", "eye_left", "eye_right", "mouth", "nose", "forehead", "aligned")


def save(path: Path, image_bgr: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1])).save(path)


def turned(image_bgr: Image, degrees: float) -> Image:
    height, width = image_bgr.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image_bgr, matrix, (width, height)), np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, astronaut_bgr: Image) -> Path:
    root = tmp_path_factory.mktemp("source")
    save(root / "a.png", astronaut_bgr)
    small = cv2.resize(astronaut_bgr, (300, 300), interpolation=cv2.INTER_AREA)
    save(root / "b.jpg", np.asarray(small, np.uint8))
    save(root / "c.png", turned(astronaut_bgr, 5))
    lines = ["a.png,36,Eileen", "b.jpg,20-40,Eileen", "c.png,7,"]
    (root / "list.csv").write_text("path,age,identity\n" + "\n".join(lines) + "\n")
    return root / "list.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Prepared once; tests get copies."""
    out = tmp_path_factory.mktemp("made") / "out"
    prepare("csv", out, root=source, detector="haar", settings=PrepareSettings(views=("face",)))
    return out


@pytest.fixture
def out(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def largest_difference(first: Image, second: Image) -> tuple[float, int]:
    difference = np.abs(first.astype(int) - second.astype(int))
    return float(difference.mean()), int(difference.max())


def assert_same_crops(
    listed: PreparedSet, source_set: Dataset, detector_name: str, views: tuple[str, ...]
) -> None:
    """Hold every crop against one cut from the source by another way through the code."""
    detector = load_detector(detector_name)
    paths = {sample.name: sample.path for sample in source_set.samples}
    assert listed.samples
    for sample in listed.samples:
        face = listed.faces[sample.name]
        image = read_image(paths[face.source])
        found = find_faces(detector, image)
        assert found.faces == (face.face,)
        assert found.frames == (face.frame,)
        expected = cut_crops(image, [face.frame], listed.crop_spec(views))
        got = listed.crops(sample.name, views)
        for view in views:
            assert got.present[view].tolist() == expected.present[view].tolist()
            assert got.outside[view] == pytest.approx(expected.outside[view])
            mean, largest = largest_difference(got.views[view], expected.views[view])
            assert mean < 3, (sample.name, view)
            assert largest < 60, (sample.name, view)


@pytest.mark.parametrize(("detector", "aligned"), [("aligned", True), ("haar", False)])
def test_pictures_that_were_taken_for_chips_are_chips_when_read_back(
    tmp_path: Path, source: Path, detector: str, aligned: bool
) -> None:
    prepare("csv", tmp_path / "out", root=source, detector=detector)
    assert prepared.load(tmp_path / "out").spec.aligned is aligned


def test_the_same_crops_as_in_memory(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    settings = PrepareSettings(views=VIEWS, margin=0.2)
    prepare("csv", out, root=source, detector="haar", settings=settings)
    listed = prepared.load(out)
    assert len(listed) == 3
    assert_same_crops(listed, load_dataset("csv", source), "haar", VIEWS)


def test_labels_come_back(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    prepare("csv", out, root=source, detector="haar")
    listed = load_dataset("prepared", out)
    assert isinstance(listed, PreparedSet)
    assert isinstance(listed, Dataset)
    by_source = {listed.faces[sample.name].source: sample for sample in listed.samples}
    assert by_source["a.png"].age_years == 36.0
    assert by_source["a.png"].identity == "Eileen"
    assert by_source["b.jpg"].age_range == (20, 40)
    assert by_source["b.jpg"].age_years is None
    assert by_source["c.png"].identity is None
    assert listed.spec.name == "prepared"
    assert listed.spec.label_kind == "unknown"
    assert "prepared from csv" in listed.spec.notes
    for sample in listed.samples:
        assert sample.path == out / sample.name
        assert (
            read_image(sample.path).shape
            == read_image(source.parent / listed.faces[sample.name].source).shape
        )


def test_missing_views_and_wrong_names(out: Path) -> None:
    edit(out, lambda row: row.update(face_present="0"))
    listed = prepared.load(out)
    crops = listed.crops(listed.samples[0].name, ("face",))
    assert not crops.present["face"][0]
    assert not crops.views["face"].any()
    with pytest.raises(UsageError, match="was not prepared"):
        listed.crops(listed.samples[0].name, ("mouth",))
    with pytest.raises(UsageError, match="no face"):
        listed.crops("../x", ("face",))


def edit(out: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change the manifest's first row as a hand would."""
    path = out / "manifest.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows[0])
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("name", "../../secret", "name"),
        ("name", "a/b", "name"),
        ("name", "", "name"),
        ("name", "absent-0", "is missing"),
        ("group", "..", "group"),
        ("group", "/etc", "group"),
        ("frame_height", "nan", "frame_height must be a finite number"),
        ("frame_height", "-1", "frame"),
        ("frame_center_x", "x", "frame_center_x"),
        ("frame_points", "[1,2]", "frame_points"),
        ("frame_points", "{", "frame_points must be JSON"),
        ("frame_points", "[" * 100_000, "frame_points must be JSON"),
        ("frame_from", "guess", "frame_from"),
        ("detector_score", "1e999", "detector_score"),
        ("box_right", "-1e9", "box"),
        ("age_years", "many", "age_years"),
        ("age_years", "300", "age"),
        ("age_low", "9", "age_high"),
        ("attributes", "[]", "attributes must be a JSON object"),
        ("face_index", "-1", "face_index"),
        ("face_present", "yes", "face_present must be 0 or 1"),
        ("face_outside", "7", "face_outside must be from 0 to 1"),
        ("landmark_scheme", "5-point", "5-point needs 5 points"),
    ],
)
def test_a_row_edited_by_hand_is_listed(out: Path, column: str, value: str, reason: str) -> None:
    edit(out, lambda row: row.update({column: value}))
    listed = prepared.load(out)
    assert len(listed) == 2
    (problem,) = listed.problems
    assert problem.reason.startswith("line 2: ")
    assert reason in problem.reason
    assert "\n" not in problem.reason


def test_links_out_of_the_folder_are_not_followed(out: Path, tmp_path: Path) -> None:
    first, second, _ = prepared.load(out).samples
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(first.path.read_bytes())
    first.path.unlink()
    first.path.symlink_to(outside)
    listed = prepared.load(out)
    (problem,) = listed.problems
    assert problem.reason.endswith(f"'{first.name}' is a link out of the prepared folder")
    face = out / second.name.replace("original_image", "face")
    face.unlink()
    with pytest.raises(DatasetError, match="is missing: prepare it again"):
        listed.crops(second.name, ("face",))
    face.write_bytes(b"rubbish")
    with pytest.raises(DatasetError, match="prepare it again"):
        listed.crops(second.name, ("face",))
    face.write_bytes(outside.read_bytes())
    with pytest.raises(DatasetError, match="256 px high and 195 px wide"):
        listed.crops(second.name, ("face",))


def test_a_repeated_row_is_listed(out: Path) -> None:
    path = out / "manifest.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    listed = prepared.load(out)
    assert len(listed) == 3
    assert [problem.reason for problem in listed.problems] == [
        "line 5: repeats a name of an earlier row"
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 99}',
        '{"schema_version": 1, "views": {"face": {"size_hw": [1e9, -3]}}, "dataset": {}}',
        '{"schema_version": 1, "views": {"face": {"size_hw": [9, 9], "evil": 1}}, "dataset": {}}',
        '{"schema_version": 1, "views": {}, "dataset": {"label_kind": "guess"}}',
    ],
)
def test_settings_that_are_not_ours_are_refused(out: Path, content: str) -> None:
    (out / "prepare.json").write_text(content)
    with pytest.raises(DatasetError, match="prepare it again"):
        prepared.load(out)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc")
@pytest.mark.parametrize("read", [prepared.load, finished_settings])
def test_settings_are_a_small_file(read: Any, out: Path) -> None:
    file = out / "prepare.json"
    file.write_bytes(b" " * 1_000_001)
    with pytest.raises(AgebenchError, match="more than 1,000,000 bytes"):
        read(out)
    file.unlink()
    file.symlink_to("/proc/version")
    with pytest.raises(AgebenchError, match="not a regular file"):
        read(out)


def test_what_is_not_finished_or_no_such_folder_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing at"):
        prepared.load(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="give its command again"):
        prepared.load(tmp_path / "empty")
    (out / "manifest.csv").write_text("name,group\n")
    with pytest.raises(DatasetError, match="must name the columns"):
        prepared.load(out)
    (out / "manifest.csv").unlink()
    with pytest.raises(DatasetError, match=r"manifest.csv, which lists the faces: remove the fold"):
        prepared.load(out)


def test_only_the_largest_face_has_the_pictures_age(out: Path) -> None:
    edit(out, lambda row: row.update(face_index="1"))
    assert len(prepared.load(out)) == 2
    assert len(prepared.load(out, faces="all")) == 3


def test_of_several_faces_the_one_that_was_kept_is_the_samples(out: Path) -> None:
    boxes = [("box_left", "10"), ("box_top", "20"), ("box_right", "30"), ("box_bottom", "44.5")]
    edit(out, lambda row: row.update(boxes, faces="2"))
    listed = prepared.load(out).samples
    assert [sample.box_xyxy for sample in listed].count((10.0, 20.0, 30.0, 44.5)) == 1
    assert [sample.box_xyxy for sample in listed].count(None) == len(listed) - 1


def test_the_settings_tell_the_sizes(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    prepare("csv", out, root=source, detector="haar", settings=PrepareSettings(height=100))
    about = json.loads((out / "prepare.json").read_text())
    listed = prepared.load(out)
    assert about["views"]["eyes"]["size_hw"] == [50, 100]
    assert listed.crops(listed.samples[0].name, ("eyes",)).views["eyes"].shape == (1, 50, 100, 3)


@pytest.mark.shared
def test_real_chips_come_back(tmp_path: Path, shared_dir: Path) -> None:
    root = tmp_path / "utkface"
    root.mkdir()
    for chip in sorted((shared_dir / "data" / "utkface").iterdir())[::400]:
        shutil.copy(chip, root)
    settings = PrepareSettings(sample=20, views=VIEWS)
    prepare("utkface", tmp_path / "out", root=root, detector="aligned", settings=settings)
    listed = prepared.load(tmp_path / "out")
    assert listed.spec.aligned
    assert listed.spec.label_kind == "dex-estimated"
    assert len(listed) == 20
    assert_same_crops(listed, utkface.load(root), "aligned", VIEWS)
    own = {sample.name: sample for sample in utkface.load(root).samples}
    for sample in listed.samples:
        before = own[listed.faces[sample.name].source]
        assert (sample.age_years, dict(sample.attributes)) == (
            before.age_years,
            dict(before.attributes),
        )


@pytest.mark.shared
@pytest.mark.usefixtures("shared_weights")
def test_real_photographs_come_back(tmp_path: Path, shared_dir: Path) -> None:
    root = shared_dir / "data" / "fgnet"
    settings = PrepareSettings(sample=8)
    prepare("fgnet", tmp_path / "out", root=root, settings=settings)
    listed = prepared.load(tmp_path / "out")
    frames = {face.frame.found_by for face in listed.faces.values()}
    assert "landmarks" in frames
    # The detector is run here with all threads, whose sums may differ in the last digits.
    views = ("face", "eyes", "mouth")
    own = {sample.name: sample for sample in fgnet.load(root).samples}
    for sample in listed.samples:
        face = listed.faces[sample.name]
        assert sample.identity == own[face.source].identity
        expected = cut_crops(
            read_image(own[face.source].path), [face.frame], listed.crop_spec(views)
        )
        got = listed.crops(sample.name, views)
        for view in views:
            mean, largest = largest_difference(got.views[view], expected.views[view])
            assert mean < 3
            assert largest < 60


def test_odd_keys_do_nothing_to_a_terminal(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made, root)
    content = json.loads((root / "prepare.json").read_text())
    content["views"]["face"]["\x1b[31m"] = 1
    (root / "prepare.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="prepare it again") as caught:
        prepared.load(root)
    assert str(caught.value).isprintable()
