r"""Recall and precision of public face detectors that spec files describe.

    python -m benchmarks.detector_files --root ../shared/data/widerface --specs FOLDER

    python -m benchmarks.detector_files --root ... --specs FOLDER --only yolov8n-face

FOLDER holds the spec files of benchmarks/detectors and the models that they name; each file says
where its model is from.  Faces are matched as in benchmarks/detector_quality.py.  Each network runs
with its own threshold.  ``--only`` measures some, and keeps the stored results of the others.
Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agebench.registry.plugins import load_detector
from agebench.types import plain
from agebench.vision.images import read_image
from benchmarks.detector_quality import (
    HEIGHTS_PX,
    IOU,
    Counts,
    Truth,
    boxes_of,
    match,
    read_truth,
)

RESULTS = Path(__file__).parent / "results"


def measure(spec: Path, folder: Path, truth: Mapping[str, Truth]) -> dict[str, Any]:
    """Return one network's figures over all pictures."""
    detector = load_detector(f"spec:{spec}")
    totals = dict.fromkeys(HEIGHTS_PX, Counts())
    for name, faces in truth.items():
        found = boxes_of(detector.detect(read_image(folder / name)))
        for height in HEIGHTS_PX:
            totals[height] += match(found, faces, height)
    return {
        "at_least_px": {
            str(height): {"recall": counts.recall, "precision": counts.precision}
            for height, counts in totals.items()
        },
        "detector": plain(detector.spec),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    heights = "".join(f" recall {height} px | precision {height} px |" for height in HEIGHTS_PX)
    lines = [
        "# Face networks of others, by file",
        "",
        f"{result['pictures']} pictures of WIDER FACE's validation part, IoU {IOU:g}. Each network "
        "by its spec file in benchmarks/detectors, at the threshold and with the free space "
        "(`pad`) that the file says.",
        "",
        f"| network | kind | input | confidence |{heights}",
        "|---|---|---|---:|" + "---:|" * (2 * len(HEIGHTS_PX)),
    ]
    for name, figures in sorted(result["detectors"].items()):
        settings = figures["detector"]["settings"]
        cells = [
            f"{figures['at_least_px'][str(height)][key]:.3f}"
            for height in HEIGHTS_PX
            for key in ("recall", "precision")
        ]
        about = [name, settings["kind"], settings["size"], f"{settings['confidence']:g}"]
        lines.append(f"| {' | '.join([*about, *cells])} |")
    return "\n".join([*lines, "", f"    {result['command']}", ""])


def main() -> None:
    """Measure, write the results after each network, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="holds boxes.csv and images/")
    parser.add_argument("--specs", type=Path, required=True, help="spec files and their models")
    parser.add_argument("--only", nargs="*", help="names of spec files, without .toml")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    truth = read_truth(arguments.root / "boxes.csv")
    result: dict[str, Any] = {
        "schema": 1,
        "command": "python -m benchmarks.detector_files --root WIDERFACE --specs FOLDER",
        "pictures": len(truth),
        "iou": IOU,
        "detectors": {},
    }
    specs = sorted(arguments.specs.glob("*.toml"))
    if arguments.only is not None:
        kept = json.loads((arguments.out / "detector_files.json").read_text(encoding="utf-8"))
        result["detectors"] = kept["detectors"]
        specs = [spec for spec in specs if spec.stem in arguments.only]
    for spec in specs:
        result["detectors"][spec.stem] = measure(spec, arguments.root / "images", truth)
        text = json.dumps(result, indent=1) + "\n"
        (arguments.out / "detector_files.json").write_text(text, encoding="utf-8")
        (arguments.out / "detector_files.md").write_text(markdown(result), encoding="utf-8")
        print(spec.stem, flush=True)
    print(markdown(result))


if __name__ == "__main__":
    main()
