"""Draw what each habit of age_net tutorials costs, with intervals, from the measured figures.

python docs/draw_tutorial_costs.py docs/images/tutorial-costs.png
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as PillowImage

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "tutorial_mistakes.json"
TITLES = {"fgnet-1-20": "FG-NET, subjects 1 to 20", "utkface": "UTKFace, test part"}
CHANGES = {
    "the tutorial, exactly": "the tutorial, exactly",
    "box of the tutorials' opencv-ssd": "the tutorials' box",
    "box of opencv-ssd": "box of opencv-ssd, padded",
    "box of yolov8-face": "box of yolov8-face",
    "box of yunet": "box of yunet",
    "box of haar": "box of Haar",
    "no mean": "no mean subtracted",
    "mean image": "mean image",
    "RGB": "RGB for BGR",
    "scaled by 1/255": "scaled by 1/255",
    "margin 0": "no margin",
    "margin 40 px": "margin 40 px",
    "margin 40 %": "margin 40 %",
    "margin 70 %": "margin 70 %",
    "ten crops, mean image": "ten crops, mean image",
    "midpoint of the likeliest": "likeliest class's midpoint",
    "median": "median",
    "fitted years, expectation": "years fitted on UTKFace",
    "labels: gaps filled": "labels: gaps filled",
    "labels: five years each": "labels: five years each",
    "face 48 px tall": "face 48 px tall",
    "face 24 px tall": "face 24 px tall",
    "30 for everybody": "30 for everybody",
}
COLOURS = {"worse": "#b3261e", "better": "#1b6e3c", "": "#5f6368"}
"""By what is shown after Holm's correction for all changes on both sets."""


def draw(axes: Axes, found: Mapping[str, Any], title: str) -> None:
    """Draw one set of pictures: a point and its interval for each change, the base at 0."""
    for height, name in enumerate(reversed(CHANGES)):
        row = found["rows"][name]
        mean, low, high = row["difference_years"]
        colour = COLOURS[row["shown"]]
        axes.plot((low, high), (height, height), color=colour, linewidth=2)
        axes.plot(mean, height, "o", color=colour, markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(f"{title} ({found['pictures']:,} pictures)", fontsize=10)
    axes.set_xlabel("years of mean absolute error, against the base")
    axes.set_yticks(range(len(CHANGES)), list(reversed(CHANGES.values())))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    sets = json.loads(RESULT.read_text(encoding="utf-8"))["sets"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        draw(axes, sets[name], title)
    figure.supxlabel(
        "lines: 95 % interval of each alone; red worse, green better, as shown after Holm's "
        "correction for all changes on both sets",
        fontsize=8,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    # A palette: a third of the size.
    PillowImage.open(drawn).convert("RGB").quantize(128).save(out, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
