"""Tables of the figures of tutorial_mistakes.json, for results/ and docs/tutorial-mistakes.md.

    python -m benchmarks.tutorial_page

updates the sections `<!-- figures NAME -->` ... `<!-- end -->` of the page; a test checks that they
are up to date.  The table of all rows is results/tutorial_mistakes.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agebench.util.files import write_whole
from benchmarks.model_cards import filled

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial-mistakes.md"
FGNET, UTKFACE = "fgnet-1-20", "utkface"

LINES = {
    "base": "base: yolov8-face, canonical frame, 20 px, B G R minus the mean, expectation",
    "the tutorial, exactly": "the tutorial, exactly",
    "no mean": "no mean",
    "RGB": "RGB instead of BGR",
    "scaled by 1/255": "scaled by 1/255",
    "margin 0": "no margin",
    "margin 40 px": "margin 40 px",
    "margin 20 %": "margin 20 % of the face",
    "margin 40 %": "margin 40 %",
    "margin 70 %": "margin 70 %",
    "midpoint of the likeliest": "midpoint of the most probable class",
    "median": "median",
    "fitted years, expectation": "years fitted on UTKFace (`table=utkface`)",
    "mean image": "mean image instead of the mean per channel",
    "centre of 256": "the centre of a crop of 256",
    "ten crops": "ten crops of 256",
    "ten crops, mean image": "ten crops and mean image, as its makers do (`crops=10`)",
    "labels: gaps filled": "labels with the gaps filled",
    "labels: gaps filled otherwise": "labels with the gaps filled differently",
    "labels: five years each": "labels of five years each",
    "labels: grown-ups alone": "labels that repeat 15-20",
    "box of yolov8-face": "box of yolov8-face, squashed",
    "box of the tutorials' opencv-ssd": "the tutorials' box, otherwise like the base",
    "box of opencv-ssd": "box of opencv-ssd, padded",
    "frame of opencv-ssd": "frame of opencv-ssd, padded",
    "box of yunet": "box of yunet",
    "frame of yunet": "frame of yunet",
    "box of haar": "box of haar",
    "frame of haar": "frame of haar",
    "face 48 px tall": "face 48 px tall",
    "face 24 px tall": "face 24 px tall",
    "the Caffe file by cv2.dnn": "the Caffe file under cv2.dnn, not ONNX under onnxruntime",
    "30 for everybody": "30 for everybody",
}
"""Rows of the page's table, with their descriptions there."""


def cell(value: Sequence[float], sign: str = "", digits: int = 2) -> str:
    """Return mean and interval; a negative zero is written as zero.

    >>> cell((-0.04, -0.5, 2.0), "+", 1)
    '+0.0 (-0.5 to +2.0)'
    """
    shown = [f"{round(each, digits) + 0.0:{sign}.{digits}f}" for each in value]
    return shown[0] if len(shown) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def percentage(value: float | None) -> str:
    """Return a fraction in percent; an empty string for None."""
    return "" if value is None else f"{value:.0%}"


def how_many(found: Mapping[str, Any], seed: int) -> str:
    """Return the number of pictures used and the total number, as text.

    >>> how_many({"pictures": 1000, "of": 2023}, 0)
    '1,000 of 2,023 pictures, sampled with seed 0'
    """
    if found["pictures"] == found["of"]:
        return f"all {found['of']:,} pictures"
    return f"{found['pictures']:,} of {found['of']:,} pictures, sampled with seed {seed}"


def against(row: Mapping[str, Any], digits: int = 2) -> str:
    """Return the difference from the base, in bold if it is significant.

    >>> against({"difference_years": [1.5, 0.5, 2.5], "shown": "worse"}, 1)
    '**+1.5 (+0.5 to +2.5)**'
    """
    text = cell(row["difference_years"], "+", digits)
    return f"**{text}**" if row["shown"] else text


def how_shown(result: Mapping[str, Any]) -> str:
    """Return the explanation of bold differences and of the intervals."""
    tested = sum(
        row["p_value"] is not None
        for found in result["sets"].values()
        for row in found["rows"].values()
    )
    return (
        "Bold: shown to be better or worse than the base by a paired sign-flip test (which swaps "
        "people where they are known), p below 0.05 after Holm's correction for all "
        f"{tested} changes on the sets together. Each interval is for one difference alone, not "
        "corrected for their number: among so many, a few exclude 0 by chance."
    )


def markdown(result: Mapping[str, Any]) -> str:
    """Return all rows, one table per set of pictures."""
    lines = ["# What each habit costs", "", how_shown(result), ""]
    for found in result["sets"].values():
        boxes = found["tutorials_detector"]
        lines += [
            f"{found['what']}: {how_many(found, result['seed'])}. The tutorials' detector gave "
            f"several boxes for {boxes['several_boxes']} of {boxes['looked_at']} pictures in "
            "which it found any, and the best one missed the face in "
            f"{boxes['best_is_off_the_face']}.",
            "",
            "| change | scored | no face | MAE, years | against the base | bias | exact | "
            "one-off |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, row in found["rows"].items():
            cells = [
                name,
                str(row["n"]),
                str(row["none"]),
                cell(row["mae_years"]),
                "" if name == "base" else against(row),
                f"{row['bias_years']:+.1f}",
                percentage(row["exact"]),
                percentage(row["one_off"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, f"    {result['command']}", ""])


def costs(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page's table, preceded by the pictures used and the explanation."""
    fgnet, utkface = (result["sets"][name] for name in (FGNET, UTKFACE))
    ten = utkface["rows"]["ten crops"]
    fewer = ten["n"] + ten["none"]
    yield (
        f"\n{fgnet['what']}: {how_many(fgnet, result['seed'])}; {utkface['what']}: "
        f"{how_many(utkface, result['seed'])}"
        + (f" (ten crops: the first {fewer:,} of these)" if fewer < utkface["pictures"] else "")
        + ".\n"
    )
    yield f"{how_shown(result)}\n"
    yield (
        "| change | FG-NET 1-20: MAE | against the base | exact / one-off | UTKFace: MAE | "
        "against the base | exact / one-off |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, description in LINES.items():
        cells = [description]
        for found in (fgnet, utkface):
            row = found["rows"][name]
            cells += [
                cell(row["mae_years"], digits=1),
                "" if name == "base" else against(row, 1),
                f"{percentage(row['exact'])} / {percentage(row['one_off'])}",
            ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def boxes(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield how often the tutorials' detector reports false faces."""
    fgnet, utkface = (result["sets"][name]["tutorials_detector"] for name in (FGNET, UTKFACE))
    yield (
        f"\nFor {fgnet['several_boxes']} of {fgnet['looked_at']} pictures of FG-NET, which show "
        "one person each, the tutorials' detector gave more than one box above 0.7, and in "
        f"{fgnet['best_is_off_the_face']} the box with the best score missed the face (IoU below "
        f"0.3). It missed the face in {utkface['best_is_off_the_face']:,} of "
        f"{utkface['looked_at']:,} aligned chips of UTKFace.\n"
    )


def better(rows: Mapping[str, Any]) -> list[str]:
    """Return the changes that are significantly better than the base."""
    return [name for name in LINES if rows[name]["shown"] == "better"]


def changes(rows: Mapping[str, Any], *names: str) -> list[str]:
    """Return the cost of changes in years, with intervals."""
    return [cell(rows[name]["difference_years"], "+", 1) for name in names]


def recipe(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changes that help significantly, for each set."""
    for title, name in (("FG-NET", FGNET), ("UTKFace", UTKFACE)):
        rows = result["sets"][name]["rows"]
        found = [f"{LINES[each]} {changes(rows, each)[0]}" for each in better(rows)]
        yield f"- Shown to be better than the base on {title}: {'; '.join(found) or 'nothing'}."


def why(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the other findings."""
    fgnet, utkface = (result["sets"][name]["rows"] for name in (FGNET, UTKFACE))
    base, mean = utkface["base"], fgnet["no mean"]
    yield (
        f"- **One class absorbs most faces.** The base puts {base['given'][4]:,} of {base['n']:,} "
        f"people of UTKFace at 25-32 and {base['given'][7]} at 60-100. Old people are estimated "
        f"far too young: the bias is {base['bias_years']:+.1f} years."
    )
    black = fgnet["scaled by 1/255"]["given"]
    yield (
        f"- **Without the mean, other classes absorb them**: on FG-NET, {mean['given'][0]} of "
        f"{mean['n']} are 0-2 (base: {fgnet['base']['given'][0]}). Scaled by 1/255, all "
        f"{max(black)} get the same class: to the network, every picture is the same gray."
    )
    away = [changes(rows, "face 24 px tall")[0] for rows in (fgnet, utkface)]
    yield (
        f"- **Small faces.** The same faces at a height of 24 pixels cost {away[0]} years on "
        f"FG-NET and {away[1]} on UTKFace: the network was trained on large ones."
    )
    none, wide = changes(utkface, "margin 0")[0], changes(fgnet, "margin 40 %")[0]
    yield (
        f"- **The crop.** No margin costs {none} years on chips, and a margin of 40 % of the "
        f"face's size on each side costs {wide} on FG-NET: 20 pixels is a different fraction of "
        "every face, and nobody says so."
    )
    yield ("- **The gaps**: no rule can give the right class for an age that is in none of them.")
    baseline, tutorial = "30 for everybody", "the tutorial, exactly"
    sentences = [
        cell(rows[name]["mae_years"], digits=1)
        for name in (baseline, tutorial)
        for rows in (fgnet, utkface)
    ]
    yield (
        f"- Answering 30 for everybody is wrong by {sentences[0]} and {sentences[1]} years. The "
        f"tutorial, line by line, is wrong by {sentences[2]} and {sentences[3]}."
    )


def page(text: str, result: Mapping[str, Any]) -> str:
    """Return the page with its figures updated."""
    for name, lines in {"boxes": boxes, "costs": costs, "recipe": recipe, "why": why}.items():
        text = filled(text, name, lines(result))
    return text


def main() -> None:
    """Update the page."""
    held = json.loads((RESULTS / "tutorial_mistakes.json").read_text(encoding="utf-8"))
    write_whole(PAGE, page(PAGE.read_text(encoding="utf-8"), held))


if __name__ == "__main__":
    main()
