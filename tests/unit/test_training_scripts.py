"""The rules of the scripts that make training data and curves, on cases counted by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
pytest.importorskip("rich", reason="the scripts show bars")

from agebench.duplicates.training_hashes import TrainingHashes
from agebench.train.settings import read_settings
from agebench.types import Crops, FaceFrame, Sample
from tests.unit.scripts import load_script


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """Load the scripts as `python -m benchmarks.NAME` does."""
    names = ("teachers", "teacher_answers", "clean_longevitynet", "face_height", "make_weights")
    return {name: load_script(f"benchmarks.{name}") for name in names}


def test_looks_are_made_for_the_longest_lists_alone(scripts: dict[str, ModuleType]) -> None:
    """What is wholly on another list needs no looks of its own."""
    long, part, other = (
        TrainingHashes.of(what, [f"{number:064x}"[::-1] for number in numbers])
        for what, numbers in (("long", range(8)), ("part", range(3)), ("other", range(5, 10)))
    )
    found = scripts["make_weights"].lists_to_look_at([part, other, long, part])
    assert list(found.values()) == [long, other]


def test_an_answer_is_narrowed_to_the_range_of_its_label(scripts: dict[str, ModuleType]) -> None:
    shares = np.zeros((2, 117))
    shares[0, [29, 30, 39, 50]] = 0.2, 0.4, 0.2, 0.2
    shares[1, 80] = 1
    narrowed, mass = scripts["teacher_answers"].within_ranges(
        shares, np.array([30.0, 30]), np.array([39.0, 39])
    )
    inside = 0.4 + 0.2 + 0.2 * np.exp(-1) + 0.2 * np.exp(-11)
    assert mass[0] == pytest.approx(inside)
    assert narrowed[0].sum() == pytest.approx(1)
    assert narrowed[0, 30] == pytest.approx(0.4 / inside)
    assert mass[1] < 1e-10


def test_a_teacher_answers_for_the_sets_that_are_named_and_for_no_others(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    extras = ""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"a")
        (tmp_path / f"{name}.csv").write_text(f"path,age\n{name}/a.jpg,30\n", encoding="utf-8")
        root = (tmp_path / f"{name}.csv").as_posix()
        extras += f"[data.extra.{name}]\ndataset = 'csv'\nroot = '{root}'\n"
    (tmp_path / "settings.toml").write_text(extras, encoding="utf-8")
    settings = read_settings(tmp_path / "settings.toml", texts={"data.root": str(tmp_path)})
    sources = scripts["teacher_answers"].sources
    assert list(sources(settings, own=False)) == ["first", "second"]
    found = sources(settings, ["second"], own=False)
    assert [item.name for dataset, _ in found.values() for item in dataset.samples] == [
        "second/a.jpg"
    ]
    with pytest.raises(SystemExit, match=r"'first', 'second'.*got \['third'\]"):
        sources(settings, ["third"], own=False)


def test_a_face_of_which_no_view_is_in_the_picture_has_no_answer(
    scripts: dict[str, ModuleType],
) -> None:
    views = {name: np.zeros((1, 4, 4, 3), np.uint8) for name in ("face", "eyes")}
    outside = {name: np.zeros(1) for name in views}
    for face, eyes, useful in ((True, True, True), (True, False, True), (False, False, False)):
        crops = Crops(views, {"face": np.array([face]), "eyes": np.array([eyes])}, outside)
        assert scripts["teachers"]._shows_something(crops) is useful


def test_a_label_is_dropped_where_all_contradict_it_alike(scripts: dict[str, ModuleType]) -> None:
    # Thirty people of 80 whom both make 10 years too young: the median is taken off.
    ages = np.full(30, 80.0)
    means = np.tile(ages - 10, (2, 1))
    means[:, 0] = 50  # both say 30 years less, 20 less than they usually do
    means[:, 1] = (50, 71)  # one only
    means[:, 2] = (50, 95)  # to both sides
    means[:, 3] = 85  # both 5 years more: 15 more than usual
    wrong = scripts["clean_longevitynet"].contradicted(means, ages)
    assert np.flatnonzero(wrong).tolist() == [0, 3]


def test_only_possible_years_are_listed_and_each_content_once(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    names = {
        "A_birth:1920_death:2000_data:1980_x.jpg": b"a",
        "B_birth:1920_death:2000_data:1981_x.jpg": b"a",  # the same bytes
        "C_birth:1920_death:2000_data:2001_x.jpg": b"c",  # after death
        "D_birth:1920_death:2040_data:2030_x.jpg": b"d",  # 110 years old
        "holiday.jpg": b"e",
    }
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    (found,) = scripts["clean_longevitynet"].listed(tmp_path)
    assert (found.name[0], found.age_years, found.identity) == ("A", 59.5, "A")


def test_a_list_is_read_back_as_the_data_set_csv(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    from agebench.datasets.csv_list import load

    (tmp_path / "pictures").mkdir()
    picture = tmp_path / "pictures" / "A, with a comma.jpg"
    picture.write_bytes(b"a")
    item = Sample(picture, "A.jpg", 59.5, identity="A")
    out = tmp_path / "lists" / "train"
    assert scripts["clean_longevitynet"].write_list(out, [(item, "ab" * 32)]) == 1
    (read,) = load(out).samples
    assert (read.age_years, read.identity) == (59.5, "A")
    assert read.path.samefile(picture)


def test_a_face_is_shrunk_to_a_height_and_never_enlarged(scripts: dict[str, ModuleType]) -> None:
    image = np.zeros((200, 100, 3), np.uint8)
    image[100:102, 50:52] = 255
    frame = FaceFrame((50.5, 100.5), 100.0)
    small, moved = scripts["face_height"].shrunk(image, frame, 50.0)
    assert small.shape == (100, 50, 3)
    assert moved.height == 50
    assert moved.center_xy == (25.0, 50.0)
    assert small[50, 25].tolist() == [255] * 3  # the two white pixels in both directions are one
    assert scripts["face_height"].shrunk(image, frame, 128.0) is None


def test_memory_layouts_take_turns_in_the_same_network() -> None:
    from agebench.train import networks
    from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings

    script, before = load_script("benchmarks.memory_layout"), networks._channels_last
    view = ViewSettings("face", (32, 32), backbone=BackboneSettings(depth=10, width=4))
    for learn in (False, True):
        found = script.times_ms(ModelSettings({"face": view}, dense=8), 2, 1, learn=learn)
        assert found.keys() == script.LAYOUTS.keys()
        assert min(found.values()) > 0
    assert networks._channels_last is before
