"""Formats records as text and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agebench.errors import inert
from agebench.prediction.records import AgeAnswer
from agebench.prediction.video import VideoTally
from agebench.util.files import csv_line


def _age(answer: Mapping[str, Any]) -> str:
    ends = answer["interval_80"]
    interval = None if ends is None else (ends[0], ends[1])
    return AgeAnswer(answer["years"], interval, answer["reason"]).text


def text_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for a terminal: the picture, then each face."""
    name = inert(record["picture"])
    if record["status"] != "ok":
        yield f"{name}: {inert(record['reason'])}"
        return
    faces = record["faces"]
    height, width = record["size_hw"]
    count = "no face" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    yield f"{name}: {width}x{height}, {count}"
    several = len(record["estimators"]) > 1
    for number, face in enumerate(faces, start=1):
        ages = "  ".join(
            f"{inert(name)} {_age(answer)}" if several else _age(answer)
            for name, answer in face["ages"].items()
        )
        left, top, right, bottom = map(round, face["box_xyxy"])  # whole numbers know no "-0"
        yield (
            f"  {number:>3}  {ages:<14}  box {left},{top} to {right},{bottom}  "
            f"score {face['score']:.2f}"
        )
        yield from _reasons(face)


def _reasons(face: Mapping[str, Any]) -> Iterator[str]:
    for name, answer in face["ages"].items():
        if answer["years"] is None:
            yield f"       {inert(name)}: {inert(answer['reason'])}"
    for name, moved in face.get("moved_years", {}).items():
        parts = (
            f"{view} {'missing' if years is None else f'{years:+.1f}'}"
            for view, years in moved.items()
        )
        yield f"       {inert(name)}, moved by (years): {', '.join(parts)}"


def people_lines(name: str, tally: VideoTally) -> Iterator[str]:
    """Yield the summary of a video: its frames, then each person with the last smoothed age."""
    broken = f", {tally.broken} broken" if tally.broken else ""
    failed = f", {tally.failed} failed" if tally.failed else ""
    people = "1 person" if len(tally.people) == 1 else f"{len(tally.people)} people"
    yield f"{inert(name)}: {tally.frames} frames{broken}{failed}, {people}"
    for person in tally.people.values():
        ages = "  ".join(
            answer.text if len(person.ages) == 1 else f"{inert(estimator)} {answer.text}"
            for estimator, answer in person.ages.items()
        )
        when = f"frames {person.first} to {person.last}, {person.seen} seen"
        if person.seen > tally.smoothing:
            when += f", mean age of the last {tally.smoothing}"
        yield f"  #{person.number}  {ages}  {when}"


def csv_header(estimators: Sequence[str], *, moving: bool = False) -> str:
    """Return the line of column names; with `moving` also the frame and the person's number."""
    ages = [f"{name} {column}" for name in estimators for column in ("years", "low_80", "high_80")]
    places = ["left", "top", "right", "bottom", "score", "landmarks"]
    when = ["frame", "track"] if moving else []
    return csv_line(["picture", *when, "status", "reason", "face", *places, *ages])


def csv_rows(record: Mapping[str, Any], *, moving: bool = False) -> Iterator[str]:
    """Yield one line per face; a picture without any has one line too."""
    what = [record["status"], record["reason"]]
    if not record["faces"]:
        when = [record.get("frame"), None] if moving else []
        yield csv_line(
            [record["picture"], *when, *what, *[""] * (7 + 3 * len(record["estimators"]))]
        )
    for number, face in enumerate(record["faces"], start=1):
        when = [record.get("frame"), face.get("track")] if moving else []
        start = [record["picture"], *when, *what]
        landmarks = " ".join(f"{x:g} {y:g}" for x, y in face["landmarks_xy"])
        ages: list[object] = []
        for answer in face["ages"].values():
            ages += [answer["years"], *(answer["interval_80"] or (None, None))]
        yield csv_line([*start, number, *face["box_xyxy"], face["score"], landmarks, *ages])
