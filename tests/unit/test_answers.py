"""Answers from outside: their file, which picture and face they are for, and the same figures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agebench import compare, predict
from agebench.cli import main
from agebench.datasets.csv_list import load
from agebench.errors import DatasetError, UsageError
from agebench.estimators.answers import AnswersFile
from agebench.estimators.answers_table import read_answers_table
from agebench.harness.reading import read_result
from agebench.harness.settings import CompareSettings
from agebench.protocols import DetectorSpec
from agebench.registry.plugins import load_estimator
from agebench.report.writing import report_on
from agebench.types import Face, Image, Sample

QUIET = CompareSettings(latency_pictures=0, decode_threads=0)


def write(folder: Path, text: str, name: str = "answers.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def pictures(folder: Path, ages: dict[str, float]) -> Path:
    for name in ages:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).integers(0, 256, (40, 40, 3), np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    lines = ["path,age", *(f"{name},{age}" for name, age in ages.items())]
    return write(folder, "\n".join(lines), "list.csv")


def samples(*names: str) -> list[Sample]:
    return [Sample(Path(name), name, 30.0) for name in names]


def notes_of(bound: AnswersFile) -> str:
    return "\n".join(bound.spec.notes)


def test_columns_intervals_and_seconds(tmp_path: Path) -> None:
    file = write(tmp_path, "image,age,low,high,p10,p90,seconds\na.png,30,20,45,25,38,0.5\n")
    (answer,) = read_answers_table(file, level=95).answers
    assert answer.years == 30.0
    assert answer.intervals == {95: (20.0, 45.0), 80: (25.0, 38.0)}
    assert answer.seconds == 0.5
    table = read_answers_table(file)
    assert table.answers[0].intervals == {80: (25.0, 38.0)}
    assert "give level=50, 80 or 95" in table.notes[0]


def test_ages_by_range_by_median_and_by_other_names(tmp_path: Path) -> None:
    file = write(tmp_path, "path,low,high\na.png,20,30\n")
    table = read_answers_table(file)
    assert table.answers[0].years == 25.0
    assert table.notes[0] == "ages are the midpoints of low and high"
    file = write(tmp_path, "path,p5,p50,p95\na.png,20,31,44\n")
    table = read_answers_table(file)
    assert table.answers[0].years == 31.0
    assert "p5, p95" in table.notes[0]
    file = write(tmp_path, "photo;guess\na.png;7\n")
    assert read_answers_table(file, picture="Photo", age="guess").answers[0].years == 7.0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.png,old", "age 'old' is not a number"),
        ("a.png,130", "expected 0 to 120 years"),
        ("a.png,nan", "is not a number"),
        (",30", "the picture's path is empty"),
        ("a.png,30,1,2,3", "more cells than headers"),
    ],
)
def test_rows_that_say_nothing_are_listed(row: str, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"path,age\nb.png,30\n{row}\nc.png,\n")
    table = read_answers_table(file)
    assert [answer.picture for answer in table.answers] == ["b.png"]
    assert table.without_age == 1
    (problem,) = table.problems
    assert problem.startswith("line 3: ")
    assert said in problem


@pytest.mark.parametrize(
    ("text", "options", "error", "said"),
    [
        ("path,age\n", {}, UsageError, "contains no answer: it has a header line and no rows"),
        ("path,age\na.png,\n", {}, UsageError, "1 row without an age"),
        ("path,guess\na.png,3\n", {}, DatasetError, "name yours: 'answers:FILE picture=HEADING"),
        ("path,low\na.png,3\n", {}, UsageError, "expected a column 'age', or low and high"),
        ("path,age\na.png,3\n", {"level": 90}, UsageError, "one of 50, 80, 95"),
        ("path,age\na.png,3\n", {"estimator": "a"}, UsageError, "no column 'estimator'"),
        ("path,age,estimator\na,3,x\na,4,y\n", {}, UsageError, "estimators (x, y)"),
        ("path,age,estimator\na,3,xyy\n", {"estimator": "xyz"}, UsageError, "did you mean 'xyy'"),
    ],
)
def test_files_that_are_none(
    text: str, options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        read_answers_table(write(tmp_path, text), **options)
    assert said in str(caught.value)


def test_rows_belong_to_the_picture_that_their_path_ends_in(tmp_path: Path) -> None:
    text = (
        "path,age\n"
        "/data/set/x/1.png,11\n"  # a longer path
        "2.png,12\n"  # a shorter one
        "y\\3.png,13\n"  # written on Windows
        "./z/4.png,14\n"
        "1.png,99\n"  # x/1.png or y/1.png
        "5.png,15\n"  # none
        "ax/1.png,16\n"  # its folder only ends like x
    )
    bound = AnswersFile(write(tmp_path, text)).for_pictures(
        samples("x/1.png", "y/1.png", "x/2.png", "y/3.png", "z/4.png")
    )
    found = [
        bound.answer(sample, None) for sample in samples("x/1.png", "x/2.png", "y/3.png", "z/4.png")
    ]
    assert [item if isinstance(item, str) else item.years for item in found] == [11, 12, 13, 14]
    assert bound.answer(samples("y/1.png")[0], None) == "no answer for it in answers.csv"
    assert bound.spec.settings["unmatched"] == 3
    assert "one picture (3): line 6: 1.png (2 pictures)" in notes_of(bound)
    assert "line 7: 5.png" in notes_of(bound)
    assert "line 8: ax/1.png" in notes_of(bound)


def test_answers_to_other_pictures_are_refused(tmp_path: Path) -> None:
    file = AnswersFile(write(tmp_path, "path,age\n1.JPG,11\n2.JPG,12\n"))
    with pytest.raises(DatasetError, match=r"none of the 2 answers .*line 2: 1\.JPG.* x/1\.jpg"):
        file.for_pictures(samples("x/1.jpg", "x/2.jpg"))


def test_rows_not_used_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pictures(tmp_path, {"a.png": 3.0, "b.png": 4.0})
    answers = write(tmp_path, "path,age\na.png,11\nb.png,12\nb.png,13\nc.png,5\na.png,nan\n")
    with pytest.raises(SystemExit):
        main(["compare", f"answers:{answers}", "--dataset", "csv", "--root", str(file)])
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "not used: 1 unreadable, 2 contradictory or repeated, 1 of no picture or of several" in out
    )


def test_doubled_rows_are_listed_and_contradictions_left_out(tmp_path: Path) -> None:
    text = "path,age\na.png,30\na.png,30\nb.png,30\nb.png,40\nc.png,5\n"
    bound = AnswersFile(write(tmp_path, text)).for_pictures(samples("a.png", "b.png", "c.png"))
    given = [bound.answer(sample, None) for sample in samples("a.png", "b.png", "c.png")]
    assert [item if isinstance(item, str) else item.years for item in given] == [
        30.0,
        "no answer for it in answers.csv",
        5.0,
    ]
    assert bound.spec.settings["doubled"] == 3
    assert "line 3: a.png, repeats line 2" in notes_of(bound)
    assert "line 4: b.png, 30 years; line 5: b.png, 40 years" in notes_of(bound)


def test_of_several_faces_the_one_that_is_scored(tmp_path: Path) -> None:
    text = "path,age,x0,y0,x1,y1\ng.png,10,0,0,10,10\ng.png,60,20,0,40,20\n"
    bound = AnswersFile(write(tmp_path, text)).for_pictures(samples("g.png"))
    (sample,) = samples("g.png")
    answers = [
        bound.answer(sample, box)
        for box in ((1.0, 1.0, 11.0, 11.0), (20.0, 0.0, 40.0, 22.0), None, (70.0, 0.0, 90.0, 9.0))
    ]
    assert [item if isinstance(item, str) else item.years for item in answers[:3]] == [10, 60, 60]
    assert "matches the scored face" in str(answers[3])


@pytest.mark.parametrize("written", ["g.png", "g.png#0,0,10,10"])
@pytest.mark.parametrize("listed", ["g.png", "g.png#0,0,10,10"])
def test_names_with_and_without_a_labelled_box(written: str, listed: str, tmp_path: Path) -> None:
    (sample,) = samples(listed)
    labelled = replace(sample, box_xyxy=(0.0, 0.0, 10.0, 10.0))
    answers = AnswersFile(write(tmp_path, f'path,age\n"{written}",7\n'))
    answer = answers.for_pictures([labelled]).answer(labelled, None)
    assert getattr(answer, "years", answer) == 7


class Middle:
    """Finds a face in the middle of every picture but one."""

    spec = DetectorSpec(name="middle")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        return [] if image_bgr[0, 0, 0] > 250 else [Face((8.0, 8.0, 30.0, 34.0), 0.9)]


AGES = {"a.png": 10.0, "sub/b.png": 20.0, "sub/ccc.png": 30.0, "dddd.png": 44.0}


def test_exported_answers_give_the_very_same_figures(tmp_path: Path) -> None:
    file = pictures(tmp_path, AGES)
    first = compare(
        ["constant years=25", "constant years=31"],
        load(file),
        detector=Middle(),
        out=tmp_path / "out",
        settings=QUIET,
    )
    table = tmp_path / "out" / "predictions.csv"
    reference = f"answers:{table} estimator='constant years=31'"
    again = compare([reference], load(file), detector=Middle(), settings=QUIET)
    alone = compare([reference], load(file), out=tmp_path / "alone", settings=QUIET)
    wanted = first.estimators[1].score
    for result in (again, alone):
        score = result.estimators[0].score
        assert wanted is not None
        assert score is not None
        assert score.errors == wanted.errors
        assert score.missed == wanted.missed == 0
        assert result.estimators[0].latency == {}
    assert alone.about["detector"]["chosen_because"].startswith("no face is looked for")
    assert report_on(read_result(tmp_path / "alone")).is_file()


def table_of(folder: Path, seen: Sequence[str]) -> str:
    """Write answers as a predictions.csv has them, one per picture of `AGES`."""
    rows = ["image,estimator,predicted_years,sha256,seen_in_training"]
    for name, word in zip(AGES, seen, strict=True):
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rows.append(f"{name},cheat,{AGES[name]},{sha256.upper()},{word}")
    return f"answers:{write(folder, chr(10).join(rows))}"


@pytest.mark.parametrize(
    ("seen", "trained_on", "reason"),
    [
        (("yes", "no", "near", "yes"), "", "trained on 2 of its 4 pictures and near copies of 1"),
        (("no", "no", "near", "no"), "", "trained on near copies of 1 of its 4 pictures"),
        (("no", "no", "no", "no"), "FG-NET", ""),
        (("no", "no", "no", ""), "FG-NET", "its makers trained on FG-NET"),
        (("", "", "", ""), "FG-NET", "its makers trained on FG-NET"),
    ],
)
def test_answers_do_not_lose_what_was_trained_on(
    tmp_path: Path, seen: Sequence[str], trained_on: str, reason: str
) -> None:
    listed = load(pictures(tmp_path, AGES))
    listed = replace(listed, spec=replace(listed.spec, name="fgnet"))
    answers = f"{table_of(tmp_path, seen)} trained_on='{trained_on}'"
    for detector in (None, Middle()):
        result = compare([answers], listed, detector=detector, settings=QUIET)
        assert result.estimators[0].contamination.removesuffix(" more") == reason
    assert result.content()["estimators"][0]["contamination"] == (
        result.estimators[0].contamination or None
    )


def test_predictions_that_are_scored_again_have_the_same_marks(tmp_path: Path) -> None:
    listed = load(pictures(tmp_path, AGES))
    first = table_of(tmp_path, ("yes", "no", "near", "no"))
    compare([first], listed, detector=Middle(), out=tmp_path / "out", settings=QUIET)
    table = tmp_path / "out" / "predictions.csv"
    again = compare([f"answers:{table}"], listed, settings=QUIET)
    (item,) = again.content()["estimators"]
    seen = item["seen_in_training"]
    assert (seen["pictures"], seen["near_copies"]["pictures"]) == (["a.png"], ["sub/ccc.png"])
    assert item["contamination"] == "trained on 1 of its 4 pictures and near copies of 1 more"


@pytest.mark.parametrize(
    ("sha256", "seen", "problem"),
    [
        ("none", "yes", "sha256 'none' of a picture that was trained on: expected 64 hex digits"),
        ("", "near", "sha256 '' of a picture that was trained on: expected 64 hex digits"),
        ("", "true", "seen_in_training 'true': expected one of yes, near, no, or an empty cell"),
    ],
)
def test_what_was_trained_on_is_refused_where_it_can_t_be_told(
    tmp_path: Path, sha256: str, seen: str, problem: str
) -> None:
    rows = f"image,age,sha256,seen_in_training\na.png,10,{sha256},{seen}\nb.png,20,,\n"
    assert read_answers_table(write(tmp_path, rows)).problems == (f"line 2: {problem}",)


def test_answers_beside_an_estimator_are_scored_on_the_same_faces(tmp_path: Path) -> None:
    file = pictures(tmp_path, AGES)
    answers = write(tmp_path, "path,age,seconds\na.png,11,0.25\nb.png,22,0.75\nccc.png,33,1\n")
    settings = CompareSettings(latency_pictures=2, decode_threads=0)
    result = compare(
        [f"answers:{answers}", "constant years=30"],
        load(file),
        detector=Middle(),
        settings=settings,
    )
    outside, constant = result.estimators
    assert result.common == 3
    assert outside.mae_years == 2.0
    assert constant.mae_years == pytest.approx((20 + 10 + 0) / 3)
    assert outside.score is not None
    assert (outside.score.scored, outside.score.failed) == (3, 1)
    assert list(outside.latency) == ["infer"]
    assert sorted(outside.latency["infer"].samples_ms) == [250.0, 750.0, 1000.0]
    missing = next(record for record in result.records if record.sample.name == "dddd.png")
    assert missing.outcomes[0].reason == "no answer for it in answers.csv"


def test_only_compare_can_use_them(tmp_path: Path) -> None:
    reference = f"answers:{write(tmp_path, 'path,age' + chr(10) + 'a.png,3')}"
    pictures(tmp_path, {"a.png": 3.0})
    with pytest.raises(UsageError, match="only 'agebench compare' can use"):
        predict(str(tmp_path / "a.png"), estimator=reference, detector="aligned")
    with pytest.raises(UsageError, match=r"write answers:FILE\.csv"):
        load_estimator("answers")
