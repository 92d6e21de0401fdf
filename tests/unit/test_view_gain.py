"""benchmarks/view_gain.py: its parts on cases counted by hand, and the whole on bundled faces."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench import load_dataset, load_estimator
from agebench.datasets.base import limit
from agebench.runtimes.age_file import generated
from agebench.types import FaceFrame
from agebench.vision.frames import TEMPLATE_5, frame_to_image
from tests.unit.scripts import load_script


def script(name: str) -> Any:
    return load_script(f"benchmarks.{name}")


def test_the_most_doubtful_are_left_out_first() -> None:
    part = script("selective_errors")
    doubt, errors = np.array([4.0, 1, 3, 2]), np.array([4.0, 1, 3, 0])
    assert part.selective_mae(doubt, errors).tolist() == [1, 0.5, 4 / 3, 2]
    assert part.area(doubt, errors) == pytest.approx((1 + 0.5 + 4 / 3 + 2) / 4)
    assert part.mae_without(doubt, errors, 0.5) == 0.5
    # Equal doubt: each of them counts as their mean.
    assert part.selective_mae(np.zeros(4), errors).tolist() == [2, 2, 2, 2]


def test_areas_are_compared_on_the_same_people() -> None:
    part = script("selective_errors")
    errors = np.array([1.0, 2, 3, 4])
    doubts = {"base": errors, "same": 2 * errors, "wrong": -errors}
    base, wrong = (1 + 1.5 + 2 + 2.5) / 4, (4 + 3.5 + 3 + 2.5) / 4
    # One person: every draw is the whole set.
    found = part.area_differences(doubts, "base", errors, ["a"] * 4, draws=3)
    assert found["wrong"] == pytest.approx((wrong - base, wrong - base))
    low, high = part.area_differences(doubts, "base", errors, [None] * 4, draws=200)["wrong"]
    assert 0 <= low < wrong - base < high
    assert found["same"] == (0, 0)


def test_a_subset_is_compared_with_all_views() -> None:
    errors = np.zeros((10, 7))
    errors[:, 0] = 1
    errors[:, 1] = [-3, 5] * 5
    rows = script("view_gain").error_rows(errors, [None] * 10)
    assert rows["all"] == [1, 1, 0, 0]
    # Differences 2 and 4: their standard error is 1/3, and t of 9 degrees is 2.262.
    assert rows["face"] == [4, 1, 3, 0.754]
    with pytest.raises(ValueError, match="10"):
        script("view_gain").error_rows(errors, ["a", "b"] * 5)


@pytest.mark.parametrize("roll", [0.0, 0.4])
def test_covers_hide_what_they_are_for(roll: float) -> None:
    part = script("drawn_covers")
    image = np.full((200, 200, 3), 99, np.uint8)
    frame = FaceFrame((100, 100), 150, roll)

    def hidden(covered: Any, points: Any) -> list[bool]:
        return [bool((covered[round(y), round(x)] != 99).any()) for x, y in points]

    points = frame_to_image(frame, TEMPLATE_5)
    assert hidden(part.with_mask(image, frame), points) == [False, False, True, True, True]
    assert hidden(part.with_sunglasses(image, frame), points) == [True, True, False, False, False]
    assert (image == 99).all()
    # Landmarks elsewhere take them along.
    moved = FaceFrame((100, 100), 150, roll, points_xy=tuple((x + 9, y) for x, y in points))
    for draw in (part.with_mask, part.with_sunglasses):
        assert np.array_equal(draw(image, moved)[:, 9:], draw(image, frame)[:, :-9])


def test_the_split_network_answers_as_the_estimator_does() -> None:
    part, estimator = script("view_answers"), load_estimator("multicrop-resnet")
    crops = generated(estimator.spec.crop, 2)
    years, probabilities = part.SplitNetwork().answers(crops)
    for column, there in enumerate(part.SUBSETS.values()):
        seen = crops
        for name, present in zip(part.VIEWS, there, strict=True):
            seen = seen if present else seen.without(name)
        expected = estimator.predict(seen)
        assert years[:, column] == pytest.approx([each.years for each in expected], abs=1e-3)
        for row, each in enumerate(expected):
            assert probabilities[row, column] == pytest.approx(each.probabilities, abs=1e-5)


def test_bundled_faces_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = script("view_gain")
    few = limit(load_dataset("sample"), 10)
    monkeypatch.setattr(main, "load_dataset", lambda _: few)
    monkeypatch.setattr(main, "area_differences", partial(main.area_differences, draws=40))
    out = tmp_path / "out.json"
    given = ["--sample", "--answers", str(tmp_path / "kept"), "--out", str(out)]
    main.main(given)
    first, written = out.with_suffix(".md").read_text(), json.loads(out.read_text())
    found = written["sample"]
    assert (found["n"], found["people"], found["left_out"]) == (10, None, "")
    kept = np.load(tmp_path / "kept" / "sample.npz")
    assert kept["years"].shape == (10, len(main.CHANGES), len(main.SUBSETS))
    expected = np.abs(kept["years"][:, 0, 0] - [each.age_years for each in few.samples]).mean()
    mae = found["errors"]["as it is"]["all"][0]
    assert mae == pytest.approx(expected, abs=6e-4)
    assert f"| sample | as it is | {mae:.2f} |" in first
    for rows in found["doubt"].values():
        assert {len(row) for row in rows.values()} == {len(written["columns"]["doubt"])}
        assert rows["the error itself"][0] == 1
        assert rows["own interval"][2:5] == [0, 0, 0]
    monkeypatch.setattr(main, "ask", lambda *_: pytest.fail("asked again"))
    main.main(given)
    assert out.with_suffix(".md").read_text() == first
