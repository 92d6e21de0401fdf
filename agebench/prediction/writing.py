"""Records as text for people and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agebench.errors import inert
from agebench.files import csv_line
from agebench.prediction.records import AgeAnswer


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
        left, top, right, bottom = face["box_xyxy"]
        yield (
            f"  {number:>3}  {ages:<14}  box {left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}  "
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


def csv_header(estimators: Sequence[str]) -> str:
    """Return the line of column names."""
    ages = [f"{name} {column}" for name in estimators for column in ("years", "low_80", "high_80")]
    places = ["left", "top", "right", "bottom", "score", "landmarks"]
    return csv_line(["picture", "status", "reason", "face", *places, *ages])


def csv_rows(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line per face; a picture without any has one line too."""
    start = [record["picture"], record["status"], record["reason"]]
    if not record["faces"]:
        yield csv_line([*start, *[""] * (7 + 3 * len(record["estimators"]))])
    for number, face in enumerate(record["faces"], start=1):
        landmarks = " ".join(f"{x:g} {y:g}" for x, y in face["landmarks_xy"])
        ages: list[object] = []
        for answer in face["ages"].values():
            ages += [answer["years"], *(answer["interval_80"] or (None, None))]
        yield csv_line([*start, number, *face["box_xyxy"], face["score"], landmarks, *ages])
