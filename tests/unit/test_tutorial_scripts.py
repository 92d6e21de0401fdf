"""What each habit of age_net tutorials costs: the scripts' parts, on cases counted by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.export.random_age_net import random_age_net
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.protocols import BoxToFrame
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, INPUT_NAME, OUTPUT_NAME
from agebench.types import Face, Image, Sample, plain
from agebench.vision.crops import cut_crops
from agebench.vision.opencv import cv2
from tests.unit.caffe_files import write_mean
from tests.unit.scripts import load_script

NAMES = ("found_faces", "tutorial_scenes", "tutorial_shares", "tutorial_rows", "tutorial_page")
SPEC = SimpleNamespace(box_to_frame=BoxToFrame(0.0, 0.0, 1.0), layout="")


@pytest.fixture(scope="module")
def scripts() -> Any:
    """Return the scripts' modules as attributes."""
    return SimpleNamespace(**{name: load_script(f"benchmarks.{name}") for name in NAMES})


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def scene(scripts: Any) -> Any:
    """Return a face of 80 x 100 pixels in the middle of noise, to whatever detector."""
    face = Face((110.0, 90.0, 190.0, 190.0), 0.9)
    names = scripts.tutorial_scenes.DETECTORS
    faces, specs = dict.fromkeys(names, face), dict.fromkeys(names, SPEC)
    return scripts.tutorial_scenes.Scene(noise(300, 320), faces, specs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"mean": CHANNEL_MEAN}),
        ({"mean": (0, 0, 0)}, {}),
        ({"rgb": True}, {"mean": CHANNEL_MEAN, "swapRB": True}),
        ({"scale": 1 / 255}, {"mean": CHANNEL_MEAN, "scalefactor": 1 / 255}),
    ],
    ids=["as it should be", "no mean", "swapRB", "scaled"],
)
def test_a_habit_is_what_blob_from_image_makes_of_it(
    scripts: Any, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    pixels = noise(227, 227)
    expected = cv2.dnn.blobFromImage(pixels, **theirs)
    np.testing.assert_allclose(
        scripts.tutorial_scenes.to_blob(pixels[None], **ours), expected, rtol=0, atol=1e-4
    )


def test_conditions_are_what_the_estimator_shows_by_its_options(
    scripts: Any, scene: Any, tmp_path: Path
) -> None:
    random_age_net(tmp_path / "net.caffemodel", seed=3)
    mean = np.random.default_rng(0).uniform(60, 140, (3, 256, 256)).astype(np.float32)
    write_mean(tmp_path / "mean.binaryproto", mean)
    options: dict[str, dict[str, Any]] = {
        "base": {},
        "margin 40 %": {"margin": 0.4},
        "box of yolov8-face": {"recipe": "tutorial"},
        "ten crops, mean image": {"crops": 10, "mean_file": tmp_path / "mean.binaryproto"},
    }
    made = scripts.tutorial_scenes.conditions(mean)
    for name, given in options.items():
        net = CaffeAgeNet(tmp_path / "net.caffemodel", **given)
        frame = scene.frame(scripts.tutorial_scenes.BASE)
        (answer,) = net.predict(cut_crops(scene.image_bgr, [frame], net.spec.crop))
        assert answer.probabilities is not None
        model = SimpleNamespace(run=lambda inputs, net=net: net._network.model.run(inputs))
        shares = scripts.tutorial_shares.ask(model, {name: made[name].make(scene)})[name]
        np.testing.assert_allclose(shares, answer.probabilities, atol=1e-6, err_msg=name)


def test_every_condition_shows_something_else(scripts: Any, scene: Any) -> None:
    made = scripts.tutorial_scenes.conditions(np.full((3, 256, 256), 100, np.float32))
    blobs = {name: condition.make(scene) for name, condition in made.items()}
    assert all(blob.shape[1:] == (3, 227, 227) for blob in blobs.values())
    assert {len(blob) for name, blob in blobs.items() if name.startswith("ten")} == {10}
    # Here all detectors agree, and the frame is the box: of the rest no two are alike.
    alone = {name: b for name, b in blobs.items() if not name.startswith(("box", "frame", "the "))}
    assert len({blob.tobytes() for blob in alone.values()}) == len(alone)
    assert np.array_equal(blobs["base"], blobs["the Caffe file by cv2.dnn"])


def test_without_a_face_there_is_nothing_to_show(scripts: Any, scene: Any) -> None:
    nobody = dict.fromkeys(scene.faces)
    empty = scripts.tutorial_scenes.Scene(scene.image_bgr, nobody, scene.specs)
    made = scripts.tutorial_scenes.conditions(np.zeros((3, 256, 256), np.float32))
    assert all(condition.make(empty) is None for condition in made.values())


def test_a_face_further_away_has_the_height_that_was_asked_for(scripts: Any, scene: Any) -> None:
    small = scripts.tutorial_scenes.shrunk(scene, 25)
    assert small.image_bgr.shape == (75, 80, 3)
    assert small.frame(scripts.tutorial_scenes.BASE).height == pytest.approx(25)
    assert scripts.tutorial_scenes.shrunk(scene, 101) is scene


def test_of_several_boxes_the_tutorials_take_the_best_score(scripts: Any) -> None:
    small, large = Face((0, 0, 9, 9), 0.9), Face((0, 0, 90, 90), 0.8)
    the_face = scripts.tutorial_scenes.the_face
    assert the_face([small, large], scripts.tutorial_scenes.TUTORIAL) is small
    assert the_face([small, large], "yunet") is large
    assert the_face([], "yunet") is None


@dataclass
class Counting:
    """A network whose answer is a window's first pixel as a class; counts what it is asked."""

    asked: list[int] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rows = inputs[INPUT_NAME]
        self.asked.append(len(rows))
        return {OUTPUT_NAME: np.eye(8, dtype=np.float32)[rows[:, 0, 0, 0].astype(int)]}


def test_equal_windows_are_asked_about_once_and_several_are_averaged(scripts: Any) -> None:
    one, two = np.full((1, 3, 2, 2), 1.0), np.full((1, 3, 2, 2), 2.0)
    net = Counting()
    blobs = {"a": one, "same": one.copy(), "both": np.concatenate([one, two]), "b": two}
    answers = scripts.tutorial_shares.ask(net, blobs)
    assert net.asked == [2]
    assert answers["a"] == answers["same"] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert answers["both"] == [0, 0.5, 0.5, 0, 0, 0, 0, 0]
    assert scripts.tutorial_shares.ask(net, {}) == {}


@pytest.fixture
def pictures(scripts: Any, tmp_path: Path) -> Any:
    """Return three pictures of flat gray, of people of 5, 28 and 50."""
    samples = []
    for number, age in enumerate((5, 28, 50)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((40, 40, 3), 10 * number, np.uint8))
        samples.append(Sample(path, path.name, float(age)))
    return scripts.found_faces.Pictures("few", "three", tuple(samples), 3)


@pytest.fixture
def looks(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every detector find one face in all but the darkest; return who looked, as it grows."""
    seen: list[str] = []

    def load(name: str) -> Any:
        def detect(image: Image) -> list[Face]:
            seen.append(name)
            return [Face((10.0, 10.0, 30.0, 30.0), 0.9)] if image.any() else []

        return SimpleNamespace(detect=detect, spec=SPEC)

    monkeypatch.setattr(scripts.found_faces, "load_detector", load)
    monkeypatch.setattr(scripts.tutorial_shares, "load_detector", load)
    return seen


def first_pixel(scripts: Any, picture: Any) -> Any:
    """Return a condition that shows the picture's own value over ten, where there is a face."""
    value = picture.image_bgr[0, 0, 0] // 10
    seen = picture.faces[scripts.tutorial_scenes.BASE] is not None
    return np.full((1, 3, 1, 1), value, np.float32) if seen else None


def test_a_call_goes_on_where_the_last_one_ended(
    scripts: Any, pictures: Any, looks: list[str], tmp_path: Path
) -> None:
    condition, out_of_time = scripts.tutorial_scenes.Condition, scripts.found_faces.OutOfTimeError
    asked = {"base": condition(lambda scene: first_pixel(scripts, scene))}
    clocks = [0, 0, 0]

    class Ticking:
        """Runs out at the second question of the pictures."""

        def check(self) -> None:
            clocks[0] += 1
            if clocks[0] == len(scripts.tutorial_scenes.DETECTORS) * 3 + 2:
                raise out_of_time

    def call(clock: Any) -> tuple[Any, Counting]:
        net = Counting()
        scripts.tutorial_shares.ask_missing(pictures, tmp_path, asked, net, net, clock)
        return scripts.tutorial_shares.read_probabilities(tmp_path / "few.shares.jsonl"), net

    with pytest.raises(out_of_time):
        call(Ticking())
    path = tmp_path / "few.shares.jsonl"
    assert len(path.read_text().splitlines()) == 1
    with path.open("a") as file:
        file.write('{"name": "1.png", "sha')  # killed while it wrote
    before = len(looks)
    known, net = call(scripts.found_faces.Clock())
    assert len(looks) == before  # nobody looks twice
    assert sum(net.asked) == 2
    assert known["0.png"] == {"base": None}
    assert known["1.png"]["base"].index(1) == 1
    assert known["2.png"]["base"].index(1) == 2
    # A condition that is new is asked about, the others are not.
    asked["Caffe"] = condition(asked["base"].make, caffe=True)
    known, net = call(scripts.found_faces.Clock())
    assert sum(net.asked) == 2
    assert known["2.png"]["Caffe"] == known["2.png"]["base"]
    assert call(scripts.found_faces.Clock())[1].asked == []


def test_the_clock_runs_out(scripts: Any) -> None:
    scripts.found_faces.Clock.minutes(None).check()
    scripts.found_faces.Clock.minutes(60).check()
    with pytest.raises(scripts.found_faces.OutOfTimeError):
        scripts.found_faces.Clock.minutes(0).check()


def test_a_sample_is_the_first_of_a_larger_one(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = tuple(Sample(tmp_path, f"{n}.png", float(n)) for n in range(40))
    many = SimpleNamespace(samples=samples)
    take = scripts.found_faces.take
    whole, ten = take("x", "all", many), take("x", "all", many, count=10)
    assert ten.samples == whole.samples[:10]
    assert (len(ten.samples), ten.of) == (10, 40)
    names = [each.name for each in whole.samples]
    assert sorted(names) == sorted(each.name for each in samples)
    assert names != [each.name for each in samples]


def test_a_protocols_part_is_looked_for_once(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = tuple(Sample(tmp_path, f"{n}.png", float(n)) for n in range(9))
    many = SimpleNamespace(samples=samples)
    found = scripts.found_faces
    looked = []

    def find_split(dataset: Any, protocol: str) -> Any:
        looked.append(protocol)
        return lambda progress: protocol

    monkeypatch.setattr(found, "find_split", find_split)
    third = SimpleNamespace(samples=samples[::3])
    monkeypatch.setattr(found, "part", lambda dataset, split, wanted: third)
    for _ in range(2):
        pictures = found.take("x", "all", many, protocol="own", folder=tmp_path)
        assert {each.name for each in pictures.samples} == {"0.png", "3.png", "6.png"}
    assert looked == ["own"]
    fewer = SimpleNamespace(samples=samples[:8])  # another data set than before: looked for anew
    found.take("x", "all", fewer, protocol="own", folder=tmp_path)
    assert looked == ["own", "own"]


def shares(*likeliest: int | None) -> dict[str, list[float] | None]:
    """Return 0.6 for a class and 0.4 for the next, by picture."""
    rows: dict[str, list[float] | None] = {}
    for number, index in enumerate(likeliest):
        row = np.zeros(8)
        if index is not None:
            row[index], row[index + 1] = 0.6, 0.4
        rows[f"{number}.png"] = None if index is None else row.tolist()
    return rows


def test_rows_are_what_is_counted_by_hand(scripts: Any, pictures: Any) -> None:
    wanted = scripts.tutorial_scenes.conditions(np.zeros((3, 256, 256), np.float32))
    by_condition = dict.fromkeys(wanted, shares(1, 3, 5)) | {"no mean": shares(1, None, 4)}
    known = {
        name: {condition: by_condition[condition][name] for condition in wanted}
        for name in ("0.png", "1.png", "2.png")
    }
    fitted = {"expectation": np.arange(8) * 10.0}
    rows = scripts.tutorial_rows.measure(pictures, known, fitted)
    base = rows["base"]
    # Midpoints 5, 10, 17.5, 28.5, 40.5, 50.5 of the classes from 4-6 on.
    years = np.array([0.6 * 5 + 0.4 * 10, 0.6 * 17.5 + 0.4 * 28.5, 0.6 * 40.5 + 0.4 * 50.5])
    assert base.mae_years == pytest.approx([np.abs(years - [5, 28, 50]).mean()])
    assert base.bias_years == pytest.approx((years - [5, 28, 50]).mean())
    assert (base.n, base.none, base.in_classes) == (3, 0, 3)
    assert base.exact == pytest.approx(1 / 3)  # 5 in 4-6; 28 and 50 are one class off
    assert base.one_off == 1
    assert base.given == (0, 1, 0, 1, 0, 1, 0, 0)
    assert base.difference_years == (0,)

    changed = rows["no mean"]
    assert (changed.n, changed.none) == (2, 1)
    third = 0.6 * 28.5 + 0.4 * 40.5
    errors = np.abs([years[0] - 5, third - 50])
    assert changed.mae_years == pytest.approx([errors.mean()])
    ours = np.abs([years[0] - 5, years[2] - 50])
    assert changed.difference_years == pytest.approx([(errors - ours).mean()])

    midpoint = rows["midpoint of the likeliest"]
    assert midpoint.mae_years == pytest.approx([np.mean([0, 10.5, 9.5])])
    assert rows["the tutorial, exactly"] == midpoint
    assert rows["fitted years, expectation"].bias_years == pytest.approx(
        np.mean([14, 34, 54]) - np.mean([5, 28, 50])
    )
    fives = rows["labels: five years each"]  # 5-10, 16-20, 26-30
    assert fives.mae_years == pytest.approx([np.mean([2.5, 10, 22])])
    assert rows["30 for everybody"].mae_years == pytest.approx([np.mean([25, 2, 20])])


def test_what_is_shown_is_corrected_for_all_changes_on_all_sets(
    scripts: Any, tmp_path: Path
) -> None:
    samples = tuple(Sample(tmp_path, f"{n}.png", 30.0 + n) for n in range(10))
    ten = scripts.found_faces.Pictures("ten", "ten", samples, 10)
    classes = np.full(10, 4)
    base, worse = (scripts.tutorial_rows.Answer(ten.ages + off, classes) for off in (1, 2))
    row = scripts.tutorial_rows.row(worse, base, ten)
    assert row.p_value == 2 / 1024  # of all ways of swapping ten, two are as far off
    assert scripts.tutorial_rows.row(base, base, ten).p_value is None
    better = replace(row, difference_years=(-1.0, -1.9, -0.1), p_value=0.02)
    by_chance = replace(better, p_value=0.04)
    tiny = replace(row, difference_years=(1e-6, 5e-7, 2e-6), p_value=0.001)

    def told(**sets: Any) -> list[tuple[Any, str]]:
        named = {name: {str(at): each for at, each in enumerate(s)} for name, s in sets.items()}
        found = scripts.tutorial_rows.corrected(named)
        return [(each.p_adjusted, each.shown) for rows in found.values() for each in rows.values()]

    assert told(one=[by_chance]) == [(0.04, "better")]
    assert told(one=[row, by_chance], two=[better, tiny]) == [
        (pytest.approx(6 / 1024), "worse"),
        (pytest.approx(0.04), "better"),
        (pytest.approx(0.04), "better"),
        (pytest.approx(0.004), ""),  # shown, and nothing that the page could print
    ]
    assert told(one=[by_chance], two=[by_chance]) == [(pytest.approx(0.08), "")] * 2


def test_label_lists_name_as_many_classes_as_there_are(scripts: Any) -> None:
    lists = scripts.tutorial_rows.LABEL_LISTS
    assert all(len(text.split()) == 8 for text in lists.values())
    published = [
        f"{low:g}-{high:g}"
        for low, high in zip(ADIENCE_CLASSES.lows, ADIENCE_CLASSES.highs, strict=True)
    ]
    assert lists["published"].split() == published


def test_faces_that_are_not_there_are_counted(scripts: Any, pictures: Any) -> None:
    true, shifted = Face((10, 10, 30, 30), 0.9), Face((30, 30, 50, 50), 0.95)
    base, tutorial = scripts.tutorial_scenes.BASE, scripts.tutorial_scenes.TUTORIAL
    faces = {
        base: {"0.png": [true], "1.png": [true], "2.png": [true]},
        tutorial: {"0.png": [true, shifted], "1.png": [Face((10, 10, 30, 30), 0.8)], "2.png": []},
    }
    found = scripts.tutorial_rows.invented(pictures, faces, SPEC)
    assert (found.looked_at, found.several_boxes, found.best_is_off_the_face) == (2, 1, 1)


def test_a_run_that_was_ended_early_counts_what_was_asked(scripts: Any, pictures: Any) -> None:
    wanted = scripts.tutorial_scenes.conditions(np.zeros((3, 256, 256), np.float32))
    answer = shares(1)["0.png"]
    known: dict[str, dict[str, list[float] | None]] = {
        name: dict.fromkeys(wanted, answer) for name in ("0.png", "1.png")
    }
    known["0.png"]["box of haar"] = None  # looked, and found nobody
    del known["1.png"]["ten crops"]  # not asked
    two = scripts.tutorial_rows.shown(pictures, known)
    assert [item.name for item in two.samples] == ["0.png", "1.png"]
    rows = scripts.tutorial_rows.measure(two, known, {"expectation": np.arange(8.0)})
    counted = {name: (rows[name].n, rows[name].none) for name in ("box of haar", "ten crops")}
    assert counted == {"box of haar": (1, 1), "ten crops": (1, 0)}
    with pytest.raises(ValueError, match=r"none.* few "):
        scripts.tutorial_rows.shown(pictures, {})

    found = {
        "what": "three",
        "pictures": 2,
        "of": 3,
        "tutorials_detector": {"looked_at": 2, "several_boxes": 1, "best_is_off_the_face": 0},
        "rows": plain(rows),
    }
    result = {"sets": {"few": found}, "seed": 0, "command": "COMMAND"}
    text = scripts.tutorial_page.markdown(result)
    assert "three: 2 of 3 pictures, sampled with seed 0." in text
    assert "several boxes for 1 of 2" in text
    assert "| box of haar | 1 | 1 | 21.00 |" in text
    assert set(scripts.tutorial_page.LINES) <= set(rows)
