"""A comparison's records on the disk, and a run that goes on behind one that was interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.errors import AgebenchError
from agebench.harness.columns import columns_of
from agebench.harness.compare import compare
from agebench.harness.contents_pictures import Picture, StoredPicture
from agebench.harness.picture_store import PART_FILE, PictureStore, open_part
from agebench.harness.results import CompareResult
from agebench.harness.settings import CompareSettings
from tests.unit.made_results import image_json

PICTURES = 23
BATCH = 5


class StopError(Exception):
    """In place of a kill: nothing of compare's catches it."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(3)
    lines = ["path,age,identity"]
    for number in range(PICTURES):
        name = f"{number:02d}.png"
        PillowImage.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(root / name)
        lines.append(f"{name},{20 + number},who{number % 12}")
    (root / "13.png").write_bytes(b"not a picture")
    (root / "set.csv").write_text("\n".join(lines) + "\n")
    return root


def _run(
    root: Path, out: Path, stop_at: int | None = None, seed: int = 0, ages: str = "constant"
) -> CompareResult:
    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "accuracy" and done == stop_at:
            raise StopError

    how = CompareSettings(batch_size=BATCH, decode_threads=0, latency_pictures=0, seed=seed)
    models = [ages, "constant years=30"]
    return compare(
        models, "csv", root=root / "set.csv", detector="aligned", out=out, settings=how,
        progress=progress,
    )  # fmt: skip


def _content(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "result.json").read_text())
    del content["created"], content["command"]
    return content


@pytest.mark.parametrize(("stop_at", "kept"), [(1, 0), (6, 5), (12, 10), (PICTURES, 21)])
def test_the_same_command_goes_on_and_ends_the_same(
    pictures: Path, tmp_path: Path, stop_at: int, kept: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _run(pictures, whole)
    with pytest.raises(StopError):
        _run(pictures, broken, stop_at)
    assert not (broken / "result.json").exists()
    result = _run(pictures, broken)
    # Groups end where a batch is full; the picture that can't be read is in none.
    assert result.counts.taken_over == kept
    assert sorted(path.name for path in broken.iterdir()) == ["predictions.csv", "result.json"]
    assert (whole / "predictions.csv").read_bytes() == (broken / "predictions.csv").read_bytes()
    first, second = _content(whole), _content(broken)
    assert (first["counts"].pop("taken_over"), second["counts"].pop("taken_over")) == (
        0, result.counts.taken_over,
    )  # fmt: skip
    assert first == second
    # The records are still there once their file has lost its name.
    assert [record.sample.name for record in result.records][-1] == "22.png"
    assert result.records[13].status == "unreadable"


def test_a_run_of_something_else_begins_anew(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        _run(pictures, tmp_path / "out", 12)
    with pytest.raises(StopError):
        _run(pictures, tmp_path / "out", 12, seed=4)
    assert _run(pictures, tmp_path / "out", seed=5).counts.taken_over == 0
    with pytest.raises(StopError):
        _run(pictures, tmp_path / "out", 12)
    result = _run(pictures, tmp_path / "out", ages="constant years=50")
    assert result.counts.taken_over == 0
    assert {record.outcomes[0].years for record in result.records if record.outcomes} == {50.0}


def test_pictures_that_changed_are_looked_at_again(pictures: Path, tmp_path: Path) -> None:
    whole = _run(pictures, tmp_path / "out")
    with pytest.raises(StopError):
        _run(pictures, tmp_path / "out", 20)
    before = (pictures / "07.png").read_bytes()
    try:
        PillowImage.new("RGB", (8, 8), "red").save(pictures / "07.png")
        result = _run(pictures, tmp_path / "out")
    finally:
        (pictures / "07.png").write_bytes(before)
    assert result.counts.taken_over == BATCH
    assert result.records[7].sha256 != whole.records[7].sha256


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-30],
        lambda text: text.replace('"faces": 1', '"faces": 1,,'),
        lambda text: text.replace('"picture": "03.png"', '"picture": "04.png"'),
        lambda text: text.replace('"box_xyxy"', '"box"'),
        lambda text: "[" * 100_000 + "\n" + text,
        lambda text: text.replace('"picture": "03.png"', '"picture": "\udcff.png"'),
        lambda _text: "",
        lambda _text: "\0" * 4096,
    ],
)
def test_a_damaged_file_costs_its_pictures_alone(
    pictures: Path, tmp_path: Path, damage: Any
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _run(pictures, whole)
    with pytest.raises(StopError):
        _run(pictures, broken, 12)
    part = broken / PART_FILE
    part.write_text(damage(part.read_text()), errors="surrogateescape")
    _run(pictures, broken)
    assert (whole / "predictions.csv").read_bytes() == (broken / "predictions.csv").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of Unix")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_in_its_place_is_refused(pictures: Path, tmp_path: Path, kind: str) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine.txt"
    out.mkdir()
    mine.write_text("mine")
    if kind == "link":
        (out / PART_FILE).symlink_to(mine)
    elif kind == "pipe":
        os.mkfifo(out / PART_FILE)
    else:
        (out / PART_FILE).mkdir()
    with pytest.raises(AgebenchError, match=r"result\.part\.jsonl can't be written to"):
        _run(pictures, out)
    assert mine.read_text() == "mine"


def _image(number: float) -> StoredPicture:
    made: StoredPicture = image_json(f"{number}\n\u2603\udce9", number / 7, None)
    made["predictions"] = {}
    return made


def test_groups_are_whole_or_not_there(tmp_path: Path) -> None:
    store = open_part(tmp_path, "of this")
    groups = [[_image(n) for n in range(3)], [_image(3)], [_image(n) for n in range(4, 9)]]
    for group in groups:
        store.add(group)
    everything: list[StoredPicture] = [item for group in groups for item in group]
    assert list(store) == everything
    assert [store[at] for at in range(9)] == everything == store[:]
    del store
    content = (tmp_path / PART_FILE).read_bytes()
    ends = []
    for length in range(len(content) + 1):
        (tmp_path / PART_FILE).write_bytes(content[:length])
        kept = open_part(tmp_path, "of this")
        assert list(kept) == everything[: len(kept)]
        ends.append(len(kept))
        kept.add([_image(9)])
        assert list(kept)[-1] == _image(9)
    assert sorted(set(ends)) == [0, 3, 4, 9]
    assert len(open_part(tmp_path, "of something else")) == 0


def test_a_group_is_forgotten_as_a_whole(tmp_path: Path) -> None:
    store = open_part(tmp_path, "x")
    for first in (0, 3, 6):
        store.add([_image(n) for n in range(first, first + 3)])
    store.forget_from(4)
    assert [len(group) for group in store.groups()] == [3]
    store.add([_image(3)])
    assert list(store) == [_image(n) for n in range(4)]
    store.remove()
    assert not (tmp_path / PART_FILE).exists()
    assert list(store) == [_image(n) for n in range(4)]
    assert isinstance(store, PictureStore)


def test_a_number_that_is_not_finite_is_a_sentence() -> None:
    with pytest.raises(AgebenchError, match="not a finite number"):
        open_part(None, "").add([_image(float("nan"))])


def test_columns_hold_what_the_pictures_say() -> None:
    images: list[Picture] = [
        {"picture": "a", "sha256": "", "box_xyxy": None,
         "true_years": 30.0, "identity": "ann", "attributes": {"race": "x"},
         "status": "ok", "faces": 2, "true_range": None,
         "predictions": {"e": {"status": "ok", "years": 31.0, "class_index": 3, "outside": 0.1,
                               "nll": 1.0, "crps_years": 2.0, "pit": 0.5,
                               "interval_50": [1, 2], "interval_80": [0, 3],
                               "interval_95": [0, 4]}}},
        {"picture": "b", "sha256": "", "box_xyxy": None,
         "true_years": None, "identity": None, "attributes": {},
         "status": "no_face", "faces": 0, "true_range": [20, 29], "predictions": {}},
        {"picture": "c", "sha256": "", "box_xyxy": None,
         "true_years": 4.5, "identity": "ann", "attributes": {"race": "y"},
         "status": "ok", "faces": 1, "true_range": None,
         "predictions": {"e": {"status": "estimator_failed", "years": None, "outside": 0.0}}},
    ]  # fmt: skip
    found = columns_of(images, ["e"])
    assert (found.no_face, found.several_faces) == (1, 1)
    np.testing.assert_array_equal(found.true_years, [30.0, np.nan, 4.5])
    assert found.ranges.tolist() == [[-1, -1], [20, 29], [-1, -1]]
    assert found.identities == ["ann", None, "ann"]
    assert found.face.tolist() == [True, False, True]
    values, codes = found.attributes["race"]
    assert (values, codes.tolist()) == (("x", "y"), [0, -1, 1])
    given = found.answers["e"]
    np.testing.assert_array_equal(given.years, [31.0, np.nan, np.nan])
    assert given.class_index.tolist() == [3, -1, -1]
    assert given.distributions.rows.tolist() == [0]
    assert given.distributions.values.tolist() == [[1.0, 2.0, 0.5, 1, 2, 0, 3, 0, 4]]
    with pytest.raises(ValueError, match="out of range"):
        columns_of([cast("Picture", {**images[0], "true_range": [0, 10**9]})], ["e"])
