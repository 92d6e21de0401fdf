"""One face at a time on one thread: crops and network of the bundled networks, interleaved.

    python benchmarks/one_face.py --rounds 400 --out benchmarks/results/one_face.json

Every round, each contender cuts the crops of the same face and predicts its age; the order turns
from round to round. The yardstick is `caffe-age-net@onnxruntime`: with random weights, which take
the same time, unless `--age-net` names a caffemodel. The bundled networks are timed twice: as they
are used, and with their graphs run as they are stored in the files.

Reported are the quartiles of milliseconds and of the ratio to the yardstick in the same round, by
wall clock and by the thread's own processor time. On a machine that does something else, the wall
clock also measures how long the process waited for its turn.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from agebench.estimators.common import predictions
from agebench.export.random_age_net import random_age_net
from agebench.harness.environment import describe_environment
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import Estimator
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.runtimes.age_file import AgeFile, generated
from agebench.runtimes.base import use_threads
from agebench.types import AgePrediction, Crops, CropSpec, FaceFrame, Image, ViewSpec, plain
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS
from agebench.vision.opencv import cv2

WARM_UP = 10
YARDSTICK = "caffe-age-net@onnxruntime"
NETWORKS = ("multicrop-resnet", "multicrop-resnet-small")
CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.thread_time,
}
QUARTILES = (25, 50, 75)

Contender: TypeAlias = tuple[CropSpec, Callable[[Crops], Sequence[AgePrediction]]]
Faces: TypeAlias = Sequence[tuple[Image, FaceFrame]]
Samples: TypeAlias = dict[str, dict[str, list[float]]]


def contenders(age_net: Path | None, folder: Path) -> dict[str, Contender]:
    """Return what is timed, by name, the yardstick first."""
    if age_net is None:
        age_net = folder / "random.caffemodel"
        random_age_net(age_net, seed=0)
    found: dict[str, Contender] = {}
    estimators: dict[str, Estimator] = {
        YARDSTICK: load_estimator(f"caffe-age-net:{age_net}@onnxruntime"),
        **{name: load_estimator(name) for name in NETWORKS},
    }
    for name, estimator in estimators.items():
        found[name] = (estimator.spec.crop, estimator.predict)
    for name in NETWORKS:
        file = AgeFile(bundled_dir() / f"{name}.onnx", as_stored=True)
        found[f"{name}, as stored"] = (file.spec.crop, _predict(file))
    return found


def _predict(file: AgeFile) -> Callable[[Crops], list[AgePrediction]]:
    return lambda crops: predictions(*file.answer(crops), file.path.name)


def generated_faces(count: int = 4) -> Faces:
    """Return pictures of 640 x 480 with a face of 200 to 290 pixels each, at several angles."""
    spec = CropSpec({"picture": ViewSpec(size_hw=(480, 640))})
    pictures = generated(spec, count).views["picture"]
    frames = [
        FaceFrame((320.0, 240.0), 200.0 + 90 * place, 0.45 * place - 0.2)
        for place in np.linspace(0, 1, count)
    ]
    return list(zip(pictures, frames, strict=True))


def sample_faces() -> Faces:
    """Return the faces of the bundled sample."""
    samples = load_dataset("sample").samples
    found = face_pictures(samples, load_detector("aligned"), [], workers=0, max_pixels=MAX_PIXELS)
    return [picture.required() for picture in found if picture.complete]


def measure(found: Mapping[str, Contender], faces: Faces, rounds: int) -> dict[str, Samples]:
    """Return milliseconds by clock, contender and stage; each contender runs once per round."""
    names = list(found)
    samples: dict[str, Samples] = {
        clock: {name: {"crops": [], "total": []} for name in names} for clock in CLOCKS
    }
    for number in range(WARM_UP + rounds):
        picture, frame = faces[number % len(faces)]
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            spec, predict = found[name]
            begun = {clock: read() for clock, read in CLOCKS.items()}
            crops = cut_crops(picture, [frame], spec)
            cut = {clock: read() for clock, read in CLOCKS.items()}
            predict(crops)
            done = {clock: read() for clock, read in CLOCKS.items()}
            for clock, times in samples.items() if number >= WARM_UP else ():
                times[name]["crops"].append(round((cut[clock] - begun[clock]) * 1e3, 4))
                times[name]["total"].append(round((done[clock] - begun[clock]) * 1e3, 4))
    return samples


def summary(samples: Samples) -> dict[str, dict[str, list[float]]]:
    """Return quartiles by contender: ms of crops, ms of both, and the ratio to the yardstick."""
    base = np.array(samples[YARDSTICK]["total"])
    return {
        name: {
            "crops_ms": np.percentile(stages["crops"], QUARTILES).tolist(),
            "total_ms": np.percentile(stages["total"], QUARTILES).tolist(),
            "ratio": np.percentile(np.array(stages["total"]) / base, QUARTILES).tolist(),
        }
        for name, stages in samples.items()
    }


def table(summaries: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """Return the medians, with the other quartiles of the ratio, as a table."""
    lines = [
        "| crops + network | clock | crops, ms | both, ms | ratio | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    for clock, rows in summaries.items():
        for name, row in rows.items():
            low, middle, high = row["ratio"]
            cells = [name, clock, f"{row['crops_ms'][1]:.2f}", f"{row['total_ms'][1]:.2f}"]
            cells += [f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; print the table or JSON, and write JSON to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--faces", choices=("generated", "sample"), default="generated")
    parser.add_argument("--age-net", type=Path, help="The published caffemodel.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    parser.add_argument("--out", type=Path, help="Where JSON with all samples is written.")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    faces = generated_faces() if options.faces == "generated" else sample_faces()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="agebench-one-face-") as folder, use_threads(1):
        found = contenders(options.age_net, Path(folder))
        samples = measure(found, faces, options.rounds)
    summaries = {clock: summary(times) for clock, times in samples.items()}
    content: dict[str, Any] = {
        "environment": plain(describe_environment()),
        "load_average": {"before": before, "after": os.getloadavg()},
        "rounds": options.rounds,
        "faces": {"origin": options.faces, "count": len(faces)},
        "yardstick": YARDSTICK,
        "quartiles": summaries,
    }
    print(json.dumps(content, indent=1) if options.json else table(summaries))
    if options.out is not None:
        text = json.dumps({**content, "samples_ms": samples}, separators=(",", ":"))
        write_whole(options.out, text + "\n")


if __name__ == "__main__":
    main()
