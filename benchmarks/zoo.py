"""Measure other people's public models through their spec files, under both runtimes.

    AGEBENCH_MIRROR=MODELS python benchmarks/zoo.py --fgnet FGNET --utkface UTKFACE \
        [--fgnet-all FGNET] [--only dlib-age-v1 ...] [--minutes 15] \
        --out benchmarks/results/zoo.json

Three sets of faces, the largest of each picture:

- FG-NET's subjects 1 to 20 (the pictures that the folder holds of them), by `yolov8-face`;
- UTKFace: chips drawn by seed 0 from those that `multicrop-resnet` was not trained on, so that it
  can be compared with the others as a baseline; by `aligned`;
- with ``--fgnet-all``, all 82 subjects of FG-NET, for the models with a figure by another program
  on all of them.  Subjects 21 to 82 may be used once only: nothing may be chosen by them.

Figures that are already in the file are kept, so that a run can be interrupted; with ``--minutes``
no new figure is started after that time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector, load_estimator
from agebench.datasets.base import SampleList, sample
from agebench.duplicates.training_hashes import KnowsItsTraining
from agebench.errors import AgebenchError, error_text
from agebench.harness.contamination import why_contaminated
from agebench.harness.environment import describe_environment
from agebench.metrics.age_errors import mae, median_absolute_error, signed_bias
from agebench.protocols import Dataset, DatasetSpec, Estimator
from agebench.runtimes.base import use_threads
from agebench.types import Crops, FaceFrame, Image
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS, read_image
from agebench.vision.opencv import cv2

CHIPS = 2000
STEP = 50
"""Faces whose pictures are held at once."""

YARDSTICKS = ("multicrop-resnet", "constant")
MODELS = (
    "dlib-age-v1",
    "ssr-net-wiki",
    "ssr-net-imdb",
    "ssr-net-morph2",
    "insightface-2018",
    "face-api-js",
    "hse-mobilenet",
    "caffe-age-net",
    "yu4u-wide-resnet",
    *YARDSTICKS,
)
RUNTIMES = ("onnxruntime", "cv2dnn")
SETS = ("fgnet", "fgnet-all", "utkface")

INDEPENDENT: Mapping[str, Mapping[str, float]] = {
    "dlib-age-v1": {"fgnet": 3.7},
    "ssr-net-wiki": {"fgnet-all": 13.3, "utkface": 9.7},
    "insightface-2018": {"fgnet-all": 12.3, "utkface": 7.1},
    "face-api-js": {"fgnet-all": 4.3, "utkface": 5.1},
    "hse-mobilenet": {"fgnet": 7.1, "fgnet-all": 6.3, "utkface": 6.5},
}
"""Errors in years that another program found with crops of its own: on the pictures of FG-NET's
subjects 1 to 20, on 992 of all 82, and on 2,351 chips of UTKFace."""


@dataclass(frozen=True)
class Faces:
    """Pictures with the face that is scored in each."""

    pictures: int
    paths: Sequence[Path]
    frames: Sequence[FaceFrame]
    years: Sequence[float]

    def parts(self) -> Iterator[tuple[list[Image], Sequence[FaceFrame]]]:
        """Yield a few pictures at a time, and their frames."""
        for start in range(0, len(self.paths), STEP):
            chosen = slice(start, start + STEP)
            yield [read_image(path) for path in self.paths[chosen]], self.frames[chosen]


def find_faces(dataset: Dataset, detector_name: str) -> Faces:
    """Detect the face of each picture of a set; pictures without are left out."""
    detector = load_detector(detector_name)
    paths, frames, years = [], [], []
    for seen in face_pictures(dataset.samples, detector, workers=0, max_pixels=MAX_PIXELS):
        if seen.frame is not None and seen.sample.age_years is not None:
            paths.append(seen.sample.path)
            frames.append(seen.frame)
            years.append(seen.sample.age_years)
    return Faces(len(dataset.samples), paths, frames, years)


def unseen(dataset: Dataset, name: str) -> SampleList:
    """Return the pictures of a set that an estimator of ours was not trained on."""
    estimator = load_estimator(name)
    trained = estimator.training_hashes() if isinstance(estimator, KnowsItsTraining) else None
    if trained is None:
        raise AgebenchError(f"{name} does not list the pictures that it was trained on")
    left = tuple(
        item
        for item in dataset.samples
        if not trained.contains(hashlib.sha256(item.path.read_bytes()).hexdigest())
    )
    return SampleList(dataset.spec, left, tuple(dataset.problems))


@dataclass(frozen=True)
class Places:
    """Where the data sets lie, and how many chips are drawn."""

    fgnet: Path
    utkface: Path
    fgnet_all: Path | None
    chips: int

    @cache  # noqa: B019 - as long-lived as the run
    def faces(self, set_name: str) -> Faces:
        """Return the faces of one of `SETS`, found once."""
        if set_name == "utkface":
            chips = unseen(load_dataset("utkface", self.utkface), YARDSTICKS[0])
            return find_faces(sample(chips, self.chips, 0), "aligned")
        root = self.fgnet_all if set_name == "fgnet-all" and self.fgnet_all else self.fgnet
        return find_faces(load_dataset("fgnet", root), "yolov8-face@onnxruntime")


def measure(estimator: Estimator, faces: Faces) -> dict[str, float]:
    """Return the figures of one estimator on one set."""
    got: list[float] = []
    for images, frames in faces.parts():
        cut = [
            cut_crops(image, [frame], estimator.spec.crop)
            for image, frame in zip(images, frames, strict=True)
        ]
        got += [answer.years for answer in estimator.predict(Crops.join(cut))]
    true = np.asarray(faces.years)
    return {
        "pictures": faces.pictures,
        "n": len(true),
        "mae_years": round(mae(true, got), 3),
        "median_years": round(median_absolute_error(true, got), 3),
        "bias_years": round(signed_bias(true, got), 3),
    }


def trained_on(estimator: Estimator, set_name: str) -> str:
    """Return why a figure says little of other pictures, "" where nothing is known."""
    if set_name == "utkface" and estimator.spec.name == YARDSTICKS[0]:
        return ""  # these were left out
    name = set_name.removesuffix("-all")
    return why_contaminated(DatasetSpec(name, "unknown"), 0, None, estimator.spec.trained_sets)


def sets_of(name: str, places: Places) -> Iterator[str]:
    """Yield the sets that a model is measured on."""
    for set_name in SETS:
        asked_for = places.fgnet_all is not None and set_name in INDEPENDENT.get(name, {})
        if set_name != "fgnet-all" or asked_for:
            yield set_name


HEAD = """# Public models of others: errors in years

Each through its spec file in pretrained/zoo, with that file's crop, on the largest face of each
picture: FG-NET's subjects 1 to 20 (251 pictures, faces of `yolov8-face`), and chips of UTKFace that
`multicrop-resnet` was not trained on (drawn by seed 0, `aligned`; so that it can stand beside as a
yardstick). All 82 subjects of FG-NET (1,002 pictures) for those of which another program's figure
is on all of them; looked at once. "Other" is that program's figure, with crops of its own: on 992
pictures of FG-NET, and on 2,351 chips of UTKFace; of dlib and HSE on FG-NET's subjects 1 to 20 too.
A star: its makers say that they trained on that set.

"""

TAIL = """
- SSR-Net and face-api.js err by what the other program says, HSE's MobileNet within 0.4 years.
- InsightFace's model of 2018 is 2.5 years better on all of FG-NET than in the other program, and as
  there on chips. It is the crop: eyes, nose and mouth are laid on five points, as its makers do; on
  squares about the face's box it errs by up to twice as much ([zoo_crops.json](zoo_crops.json),
  `benchmarks/zoo_crops.py`).
- Half of dlib's errors on FG-NET are below 0.9 years: it was probably trained on it, though nobody
  says so.
- cv2.dnn and ONNX Runtime give the same figures. `hse-mobilenet` is a TensorFlow graph, which
  cv2.dnn alone reads.
- That the converted files compute what their own library does is held by `keras_parity.json`
  (`benchmarks/keras_parity.py`): Keras's own answers for SSR-Net differ by less than 0.0001 years,
  for `yu4u-wide-resnet` by less than 0.0000002 in a probability.
- `python benchmarks/zoo.py` measures it again; its first lines say how.
"""


def markdown(done: Mapping[str, Any]) -> str:
    """Return the page: one row a model and runtime, another program's figure beside ours."""
    lines = [
        "| model | runtime | FG-NET 1-20 | bias | other | FG-NET 1-82 | bias | other "
        "| UTKFace | bias | chips | other |",
        "|---|---|" + "---:|" * 10,
    ]
    for name in MODELS:
        for runtime, row in done["models"].get(name, {}).items():
            cells = [f"`{name}`", runtime]
            for set_name in SETS if row else ():
                figures, other = row.get(set_name), INDEPENDENT.get(name, {}).get(set_name)
                if figures is None:
                    cells += ["-"] * (3 if set_name == "utkface" else 2)
                else:
                    mark = "*" if figures["trained_on"] else ""
                    cells += [f"{figures['mae_years']:.2f}{mark}", f"{figures['bias_years']:+.2f}"]
                    cells += [f"{figures['n']:,}"] if set_name == "utkface" else []
                cells.append("" if other is None else f"{other:g}")
            if row:
                lines.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n" + TAIL


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--fgnet-all", type=Path)
    parser.add_argument("--utkface", type=Path, required=True)
    parser.add_argument("--chips", type=int, default=CHIPS)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    begun = time.monotonic()
    cv2.setNumThreads(1)
    done: dict[str, Any] = {"models": {}}
    if arguments.out.is_file():
        done = json.loads(arguments.out.read_text())
    places = Places(arguments.fgnet, arguments.utkface, arguments.fgnet_all, arguments.chips)
    for name in arguments.only:
        for runtime in ("any",) if name == "constant" else arguments.runtimes:
            row = done["models"].setdefault(name, {}).setdefault(runtime, {})
            lacking = [set_name for set_name in sets_of(name, places) if set_name not in row]
            if not lacking:
                continue
            with use_threads(1):
                try:
                    estimator = load_estimator(name if runtime == "any" else f"{name}@{runtime}")
                except AgebenchError as error:
                    print(name, runtime, error_text(error), flush=True)
                    continue
                for set_name in lacking:
                    if time.monotonic() - begun > 60 * arguments.minutes:
                        print("time is up: run again for the rest")
                        return 0
                    figures = measure(estimator, places.faces(set_name))
                    row[set_name] = {**figures, "trained_on": trained_on(estimator, set_name)}
                    print(name, runtime, set_name, row[set_name], flush=True)
                    done["environment"] = describe_environment()
                    done["independent_mae_years"] = INDEPENDENT
                    write_whole(
                        arguments.out, f"{json.dumps(done, separators=(',', ':'))}\n".encode()
                    )
    arguments.out.with_suffix(".md").write_text(markdown(done), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
