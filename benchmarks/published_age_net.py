"""The published age network beside the others on four sets of pictures, from `agebench compare`.

    agebench compare MODELS --dataset ... --detector ... --latency-pictures 0 --out RESULTS
    python -m benchmarks.published_age_net utkface=RESULTS/result.json fgnet-1-20=...

Reads each estimator's figures from the results and writes published_age_net.json and .md in
results/; figures from earlier calls are kept.  The commands are listed below the table.  Figures
for UTKFace with detectors are from tutorial_mistakes.json.  FG-NET's subjects 21 to 82 and
All-Age-Faces are evaluated once per release.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agebench.harness.former_names import with_present_names
from agebench.util.files import write_whole

RESULTS = Path(__file__).with_name("results")
NOT_MEASURED = "\N{EN DASH}"

SETS = {
    "utkface": "UTKFace, test part of `utkface-full`",
    "fgnet-1-20": "FG-NET 1 to 20",
    "fgnet-21-82": "FG-NET 21 to 82",
    "all-age-faces": "All-Age-Faces, 1,000 by seed 0",
}
USUAL = {"utkface": "aligned"}
"""Detector by set for rows that do not name one; `yolov8-face` for other sets."""

MODELS = {
    "multicrop-resnet": "`multicrop-resnet`",
    "multicrop-resnet-small": "`multicrop-resnet-small`",
    "multicrop-resnet-open": "`multicrop-resnet-open`",
    "hse-mobilenet": "`hse-mobilenet` (trained on IMDB-WIKI)",
    "caffe-age-net-utkface": "`caffe-age-net-utkface`",
}
PUBLISHED = {
    "aligned": "`caffe-age-net`, the published file, chips as they are (`aligned`)",
    "yolov8-face": "the same, faces by `yolov8-face`",
    "opencv-ssd": "the same, faces by `opencv-ssd`",
}
TUTORIAL = "caffe-age-net recipe=tutorial"
SAMPLED = {"yolov8-face": "base", "opencv-ssd": "frame of opencv-ssd"}
"""Rows of tutorial_mistakes.json with the published network's figures, by detector."""

INTRODUCTION = """\
# The published age_net, beside the others

MAE in years (95 % interval, by person where one is known), pictures scored, bias. Labels: UTKFace's
are estimates that people checked, FG-NET's birth ages, All-Age-Faces' ages as its makers know or
guess them. Where a row does not say it, faces are `aligned` on UTKFace and by `yolov8-face`
elsewhere; `recipe=tutorial` brings `opencv-ssd pad=0 faces=best`, at 0.7."""
COMMANDS = """\
Where a detector finds nothing there is no answer: such rows are over fewer pictures.

    agebench compare multicrop-resnet multicrop-resnet-small multicrop-resnet-open \\
        caffe-age-net-utkface caffe-age-net hse-mobilenet constant \\
        --dataset utkface --root UTKFACE --protocol utkface-full --part test
    agebench compare ... --dataset fgnet --root FGNET --limit 251 --detector yolov8-face
    agebench compare ... --dataset fgnet --root FGNET_21_82 --detector yolov8-face
    agebench compare ... --dataset "names pattern={}A{age} label_kind=apparent" \\
        --root "original images" --sample 1000 --seed 0 --detector yolov8-face
    agebench compare "caffe-age-net recipe=tutorial" --dataset ...
    agebench compare caffe-age-net constant --dataset ... --detector opencv-ssd
    python -m benchmarks.tutorial_mistakes --fgnet FGNET --utkface UTKFACE --mirror WEIGHTS \\
        --cache FOLDER"""


@dataclass(frozen=True)
class Figures:
    """One estimator's figures on one set.

    Attributes:
        n: pictures scored, of `total`.
        mae_years: mean absolute error; `low` and `high`: ends of its 95 % interval.
        bias_years: mean of predicted minus true age.
        exact, one_off: fraction of pictures given the right class, and given it or a neighbour;
            None for estimators without the published classes.
        weights_sha256: SHA-256 of each weights file, in order.
        created: date and time of the run, UTC; `command`: its command line.
    """

    n: int
    total: int
    mae_years: float
    low: float
    high: float
    bias_years: float
    exact: float | None
    one_off: float | None
    weights_sha256: tuple[str, ...]
    created: str
    command: str


def key(estimator: str, detector: str) -> str:
    """Return the key of an estimator's figures, which does not depend on the runtime.

    >>> key("caffe-age-net@onnxruntime", "opencv-ssd")
    'caffe-age-net / opencv-ssd'
    """
    name, *options = estimator.split(" ", 1)
    return f"{' '.join([name.partition('@')[0], *options])} / {detector}"


def figures_of(result: Mapping[str, Any]) -> dict[str, Figures]:
    """Return the figures of every estimator in a result."""
    found = {}
    # The first word differs if it was run as `python -m agebench`.
    arguments = ["agebench", *result["command"][1:]]
    for each in result["estimators"]:
        errors, classes = each["errors"], each["classes"] or {}
        low, high = errors["mae_interval"]
        found[key(each["name"], result["detector"]["name"])] = Figures(
            n=errors["n"],
            total=result["counts"]["total"],
            mae_years=errors["mae_years"],
            low=low,
            high=high,
            bias_years=errors["bias_years"],
            exact=classes.get("exact"),
            one_off=classes.get("one_off"),
            weights_sha256=tuple(item["sha256"] for item in each["spec"]["weights"]),
            created=result["created"],
            command=" ".join(f'"{word}"' if " " in word else word for word in arguments),
        )
    return found


def sampled(habits: Mapping[str, Any]) -> dict[str, Figures]:
    """Return the published network's figures on UTKFace, by estimator and detector."""
    found = habits["sets"]["utkface"]
    figures = {}
    for detector, name in SAMPLED.items():
        row = found["rows"][name]
        mean, low, high = row["mae_years"]
        figures[key("caffe-age-net", detector)] = Figures(
            n=row["n"],
            total=found["pictures"],
            mae_years=mean,
            low=low,
            high=high,
            bias_years=row["bias_years"],
            exact=row["exact"],
            one_off=row["one_off"],
            weights_sha256=(habits["weights_sha256"],),
            created="",
            command=habits["command"],
        )
    return figures


def sample_note(habits: Mapping[str, Any]) -> str:
    """Return a note on the source of UTKFace's figures with detectors."""
    found = habits["sets"]["utkface"]
    if found["pictures"] != found["of"]:
        raise SystemExit(
            f"tutorial_mistakes.json is of {found['pictures']:,} of {found['of']:,} pictures of "
            "UTKFace: a table beside figures of all needs all"
        )
    return (
        "UTKFace behind `yolov8-face` and `opencv-ssd`: by `benchmarks/tutorial_mistakes.py`,\n"
        "under onnxruntime."
    )


def cell(held: Mapping[str, Any] | None, *, short: bool = False) -> str:
    """Return one cell: error and interval and, unless `short`, number of pictures and bias."""
    if held is None:
        return NOT_MEASURED
    text = f"{held['mae_years']:.2f} ({held['low']:.2f} to {held['high']:.2f})"
    return text if short else f"{text}, {held['n']}, {held['bias_years']:+.1f}"


def rows(held: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the table's rows: a title and one cell for each of `SETS`."""

    def row(estimator: str, detector: str | None) -> list[str]:
        return [
            cell(held[name].get(key(estimator, detector or USUAL.get(name, "yolov8-face"))))
            for name in SETS
        ]

    found = [(title, row(name, None)) for name, title in MODELS.items()]
    found += [(title, row("caffe-age-net", detector)) for detector, title in PUBLISHED.items()]
    found.append(("the same, `recipe=tutorial`", row(TUTORIAL, "opencv-ssd")))
    found.append(("`constant` 30", row("constant", None)))
    return found


def markdown(held: Mapping[str, Mapping[str, Any]], habits: Mapping[str, Any]) -> str:
    """Return the page; `habits` is the content of tutorial_mistakes.json."""
    lines = [f"| | {' | '.join(SETS.values())} |", "|---" * (len(SETS) + 1) + "|"]
    lines += [f"| {title} | {' | '.join(cells)} |" for title, cells in rows(held)]
    return "\n\n".join([INTRODUCTION, "\n".join(lines), sample_note(habits), COMMANDS]) + "\n"


def main() -> None:
    """Read the results, write both files and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="*", metavar="SET=RESULT.json", help=", ".join(SETS))
    path = RESULTS / "published_age_net.json"
    held: dict[str, dict[str, Any]] = {name: {} for name in SETS}
    if path.is_file():
        held |= json.loads(path.read_text(encoding="utf-8"))["sets"]
    for item in parser.parse_args().results:
        name, _, file = item.partition("=")
        if name not in SETS:
            raise SystemExit(f"{item}: expected one of {', '.join(SETS)}, got {name}")
        result = with_present_names(json.loads(Path(file).read_text(encoding="utf-8")))
        held[name] |= {each: asdict(value) for each, value in figures_of(result).items()}
    habits = json.loads((RESULTS / "tutorial_mistakes.json").read_text(encoding="utf-8"))
    held["utkface"] |= {each: asdict(value) for each, value in sampled(habits).items()}
    write_whole(path, json.dumps({"schema": 1, "sets": held}, indent=1) + "\n")
    write_whole(RESULTS / "published_age_net.md", markdown(held, habits))
    print(markdown(held, habits))


if __name__ == "__main__":
    main()
