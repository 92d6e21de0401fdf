r"""What each habit of age_net tutorials costs: one change at a time, in years and in classes.

    python -m benchmarks.tutorial_mistakes --fgnet ../shared/data/fgnet \
        --utkface ../shared/data/utkface --mirror ../shared/pretrained --cache FOLDER

Computes the class probabilities of the published network of Levi and Hassner for every picture
under every condition, caches them in the cache folder, and writes tutorial_mistakes.json and .md in
results/.  Pictures are processed in random order, and ten crops, the slowest condition, come last.
The same command resumes a run that was interrupted or that `--minutes` ended; with `--no-more` it
writes the results so far.

The base is `caffe-age-net` with its defaults: faces by yolov8-face, the canonical frame and 20 px
on each side, B, G, R minus the mean, one crop, expectation over the classes' midpoints.  A
difference is over the pictures for which both give an age; its interval is the jackknife's, over
people if they are known.  Differences are tested by a paired sign-flip test, with Holm's correction
for all changes on all sets.  tutorial_page.py writes the figures into the page.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agebench.estimators.caffe_age_net import UTKFACE_YEARS, age_net_source
from agebench.metrics.class_years import read_class_years
from agebench.modelfiles.manifest import bundled_dir
from agebench.modelfiles.weights import resolve
from agebench.registry.plugins import load_dataset, load_detector
from agebench.runtimes.base import use_threads
from agebench.runtimes.caffe_model import read_mean
from agebench.runtimes.opening import open_model
from agebench.types import plain
from agebench.util.files import write_whole
from benchmarks.found_faces import SEED, Clock, OutOfTimeError, Pictures, find_all, take
from benchmarks.tutorial_page import RESULTS, markdown
from benchmarks.tutorial_rows import Row, corrected, invented, measure, shown
from benchmarks.tutorial_scenes import BASE, TUTORIAL, conditions
from benchmarks.tutorial_shares import ask_missing, probabilities_file, read_probabilities

COMMAND = (
    "python -m benchmarks.tutorial_mistakes --fgnet FGNET --utkface UTKFACE --mirror WEIGHTS "
    "--cache FOLDER"
)
PROTOCOL = "utkface-full"
AT_ONCE = 250
"""Pictures that all detectors look at before the network is asked about them."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True, help="FG-NET, subjects 1 to 20")
    parser.add_argument("--utkface", type=Path, help="UTKFace, of which the test part is used")
    parser.add_argument("--sample", type=int, help="number of pictures of UTKFace, drawn at random")
    parser.add_argument("--mirror", type=Path, help="folder of published weights")
    parser.add_argument("--cache", type=Path, required=True, help="folder for faces and answers")
    parser.add_argument("--minutes", type=float, help="stop after this time; the next call resumes")
    parser.add_argument("--no-more", action="store_true", help="write what earlier calls found")
    return parser.parse_args()


def ask_all(sets: Sequence[Pictures], cache: Path, clock: Clock) -> None:
    """Ask for the probabilities of all pictures, and keep them.

    Raises:
        OutOfTimeError: the clock ran out.
    """
    weights = resolve("age_net.caffemodel")
    whole = conditions(read_mean(resolve("mean.binaryproto").path))
    cheap = {name: each for name, each in whole.items() if not name.startswith("ten crops")}
    with use_threads(1):
        onnx, caffe = (
            open_model(age_net_source(weights, runtime, 8), runtime=runtime)
            for runtime in ("onnxruntime", "cv2dnn")
        )
        for asked in (cheap, whole):
            for each in sets:
                for start in range(0, len(each.samples), AT_ONCE):
                    few = replace(each, samples=each.samples[start : start + AT_ONCE])
                    ask_missing(few, cache, asked, onnx, caffe, clock)


def result_of(sets: Sequence[Pictures], cache: Path) -> dict[str, Any]:
    """Return all figures of what is in the cache, as they are kept."""
    years, sha256 = read_class_years(bundled_dir() / UTKFACE_YEARS)
    tables = {years.rule: np.array(years.years)}
    found: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Row]] = {}
    for each in sets:
        known = read_probabilities(probabilities_file(each, cache))
        pictures = shown(each, known)
        faces = {name: find_all(pictures, name, cache) for name in (BASE, TUTORIAL)}
        found[each.name] = {
            "what": pictures.what,
            "pictures": len(pictures.samples),
            "of": pictures.of,
            "tutorials_detector": plain(invented(pictures, faces, load_detector(BASE).spec)),
        }
        rows[each.name] = measure(pictures, known, tables)
    for name, all_rows in corrected(rows).items():
        found[name]["rows"] = plain(all_rows)
    return {
        "schema": 3,
        "command": COMMAND,
        "seed": SEED,
        "fitted_years": {"file": UTKFACE_YEARS, "sha256": sha256, "rule": years.rule},
        "weights_sha256": resolve("age_net.caffemodel").info.sha256,
        "sets": found,
    }


def main() -> None:
    """Measure, write and print."""
    arguments = _arguments()
    if arguments.mirror is not None:
        os.environ["AGEBENCH_MIRROR"] = str(arguments.mirror)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    fgnet = load_dataset("fgnet", arguments.fgnet)
    sets = [take("fgnet-1-20", "FG-NET, subjects 1 to 20", fgnet)]
    if arguments.utkface is not None:
        sets.append(
            take(
                "utkface",
                f"UTKFace, test part of {PROTOCOL}",
                load_dataset("utkface", arguments.utkface),
                count=arguments.sample,
                protocol=PROTOCOL,
                folder=arguments.cache,
            )
        )
    try:
        if not arguments.no_more:
            ask_all(sets, arguments.cache, Clock.minutes(arguments.minutes))
    except OutOfTimeError:
        raise SystemExit(
            f"ended after {arguments.minutes:g} minutes; the same command resumes"
        ) from None
    result = result_of(sets, arguments.cache)
    text = json.dumps(result, separators=(",", ":")) + "\n"
    write_whole(RESULTS / "tutorial_mistakes.json", text)
    write_whole(RESULTS / "tutorial_mistakes.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
