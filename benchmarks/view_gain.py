"""Contribution of each view of `multicrop-resnet`, from predictions with views withheld.

    python -m benchmarks.view_gain --utkface UTKFACE --fgnet FGNET --answers FOLDER

The pictures are the validation part of `utkface-full` and FG-NET's subjects 1 to 20, unchanged and
altered.  As a measure of uncertainty ("doubt"), the spread of the predictions with and without
views is compared with the width of the network's own interval.  Withholding a view is not the same
as training without it: see ablation.py.  Predictions are cached in FOLDER and reused by later runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from agebench import load_dataset, load_detector
from agebench.datasets.base import limit
from agebench.harness.environment import describe_environment
from agebench.harness.selection import find_split
from agebench.metrics.intervals import MINIMUM_PEOPLE, mean_interval
from agebench.protocols import Dataset, no_progress
from agebench.runtimes.base import use_threads
from agebench.splits.parts import part
from agebench.types import Floats
from agebench.util.files import write_whole
from benchmarks.selective_errors import area, area_differences, mae_without
from benchmarks.view_answers import CHANGES, SUBSETS, Answers, SplitNetwork, ask, kept

RESULTS = Path(__file__).parent / "results" / "view_gain.json"

SPREAD = ("all", "face", "face+eyes", "face+mouth")
"""The subsets of views whose disagreement is used as a measure of uncertainty."""

REJECTED = (0.1, 0.2, 0.5)
OWN = "own interval"
COLUMNS = {
    "errors": ["mae", "bias", "mae minus that of all views", "half of its 95 % interval"],
    "doubt": [
        "correlation",
        "area",
        f"minus {OWN}",
        "from",
        "to",
        *(f"mae without {part:g}" for part in REJECTED),
    ],
}


def error_rows(errors: Floats, people: Sequence[str | None]) -> dict[str, list[float]]:
    """Return the "errors" of `COLUMNS` by subset, from signed errors of shape (n, subsets).

    Raises:
        ValueError: too few people for an interval.
    """
    absolute = np.abs(errors)
    rows = {}
    for column, name in enumerate(SUBSETS):
        worse = absolute[:, column] - absolute[:, 0]
        interval = mean_interval(worse, clusters=people, positive=False)
        if interval is None:
            raise ValueError(f"expected at least {MINIMUM_PEOPLE} people or pictures")
        row = [absolute[:, column].mean(), errors[:, column].mean(), worse.mean()]
        rows[name] = [*row, interval.high - row[-1]]
    return _rounded(rows)


def _rounded(rows: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(float(value), 3) for value in row] for name, row in rows.items()}


def doubts(answers: Answers, changes: Sequence[int]) -> tuple[dict[str, Floats], Floats]:
    """Return the measures of uncertainty and the absolute errors with all views, for `changes`."""
    chosen = [list(SUBSETS).index(name) for name in SPREAD]
    width = answers.widths[:, changes].ravel()
    spread = answers.years[:, changes][..., chosen].std(axis=-1).ravel()
    errors = np.abs(answers.errors[:, changes, 0]).ravel()
    measures = {
        OWN: width,
        "spread of answers": spread,
        "ranks summed": rankdata(width) + rankdata(spread),
        "ranks, spread times 0.1": rankdata(width) + 0.1 * rankdata(spread),
        "predicted age": answers.years[:, changes, 0].ravel(),
        "the error itself": errors,
    }
    return measures, errors


def doubt_rows(answers: Answers, changes: Sequence[int]) -> dict[str, list[float]]:
    """Return the "doubt" of `COLUMNS` by measure of uncertainty, for `changes`."""
    measures, errors = doubts(answers, changes)
    people = [
        f"picture {row}" if person is None else person
        for row, person in enumerate(answers.people)
        for _ in changes
    ]
    ends = area_differences(measures, OWN, errors, people)
    own = area(measures[OWN], errors)
    rows = {}
    for name, doubt in measures.items():
        found = area(doubt, errors)
        values = [float(spearmanr(doubt, errors).statistic), found, found - own, *ends[name]]
        values += [mae_without(doubt, errors, rejected) for rejected in REJECTED]
        rows[name] = values
    return _rounded(rows)


def figures(answers: Answers) -> dict[str, Any]:
    """Return all figures for one set."""
    errors = answers.errors
    return {
        "n": len(errors),
        "people": len({person for person in answers.people if person is not None}) or None,
        "left_out": answers.left_out,
        "errors": {
            name: error_rows(errors[:, row], answers.people) for row, name in enumerate(CHANGES)
        },
        "doubt": {
            "as it is": doubt_rows(answers, [0]),
            "all seven": doubt_rows(answers, range(len(CHANGES))),
        },
    }


def table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as Markdown."""
    head = f"| set | picture | {' | '.join(SUBSETS)} |\n{'|---' * 9}|\n"
    worse, bias, doubt = "", "", ""
    for title, found in sets.items():
        for change, rows in found["errors"].items():
            cells = [f"{gain:+.2f} ±{reach:.2f}" for _, _, gain, reach in rows.values()]
            cells[0] = f"{rows['all'][0]:.2f}"
            worse += f"| {title} | {change} | {' | '.join(cells)} |\n"
            signed = " | ".join(f"{row[1]:+.1f}" for row in rows.values())
            bias += f"| {title} | {change} | {signed} |\n"
        for which, rows in found["doubt"].items():
            for name, (rank, size, gain, low, high, *rest) in rows.items():
                cells = [f"{rank:.2f}", f"{size:.2f}", f"{gain:+.2f} ({low:.2f} to {high:.2f})"]
                cells += [f"{value:.2f}" for value in rest]
                doubt += f"| {title}, {which} | {name} | {' | '.join(cells)} |\n"
    return (
        "MAE in years with all views, and how much higher it is with some of them alone, with "
        f"paired 95 % intervals:\n\n{head}{worse}\nBias in years:\n\n{head}{bias}\n"
        "Doubt: rank correlation with the absolute error; area under the risk-coverage curve, "
        f"years, and minus that of the {OWN}; MAE without the most doubtful 10, 20 and 50 %:\n\n"
        "| picture | doubt | correlation | area | difference | 10 % | 20 % | 50 % |\n"
        f"{'|---' * 8}|\n{doubt}"
    )


def sources(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Dataset], str]]:
    """Yield name, loader and detector of each set given on the command line."""
    if args.sample:
        yield "sample", lambda: load_dataset("sample"), "aligned"
    if args.utkface:
        yield "UTKFace", lambda: _validation(args.utkface), "aligned"
    if args.fgnet:
        yield "FG-NET", lambda: limit(load_dataset("fgnet", args.fgnet), 251), "yolov8-face"


def _validation(root: str) -> Dataset:
    dataset: Dataset = load_dataset("utkface", root)
    return part(dataset, find_split(dataset, "utkface-full")(no_progress), "val")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utkface")
    parser.add_argument("--fgnet")
    parser.add_argument("--sample", action="store_true", help="the bundled composites")
    parser.add_argument("--answers", type=Path, required=True, help="folder to keep answers in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    sets = {}
    with use_threads(1):
        network = SplitNetwork()
        for title, load, detector in sources(args):
            make = partial(_ask, load, detector, network)
            sets[title] = figures(kept(args.answers / f"{title}.npz", network, make))
    about = {"sha256": network.sha256, "environment": dict(describe_environment())}
    found = {"columns": COLUMNS, **sets, "about": about}
    write_whole(args.out, json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n")
    write_whole(args.out.with_suffix(".md"), table(sets))
    print(table(sets))


def _ask(load: Callable[[], Dataset], detector: str, network: SplitNetwork) -> Answers:
    return ask(load(), load_detector(detector), network)


if __name__ == "__main__":
    main()
