r"""What each habit of age_net tutorials costs: one change at a time, in years and in classes.

    python -m benchmarks.tutorial_mistakes --fgnet ../shared/data/fgnet \
        --utkface ../shared/data/utkface --mirror ../shared/pretrained --cache FOLDER

Asks the published network of Levi and Hassner for the class probabilities of every picture under
every condition, keeps them in the cache folder, and writes tutorial_mistakes.json and .md of
results/.  The base is `caffe-age-net` as it is set here: faces by yolov8-face, the canonical frame
and 20 px on each side, B, G, R less the mean, one crop, expectation over the classes' midpoints.  A
difference is over the pictures for which both have an answer, its interval from a bootstrap of
pictures, of people where they are known.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agebench.buckets import ADIENCE_CLASSES, median, years_from_classes
from agebench.class_years import read_class_years
from agebench.estimators.caffe_age_net import centre_window, ten_windows
from agebench.export.converted import converted_age_net
from agebench.files import write_whole
from agebench.metrics import class_accuracy
from agebench.protocols import DetectorSpec
from agebench.registry import load_detector
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, INPUT_NAME, OUTPUT_NAME
from agebench.runtimes.base import Model, ModelSource, use_threads
from agebench.runtimes.caffe_model import read_mean
from agebench.runtimes.opening import open_model
from agebench.types import CropSpec, Face, FaceFrame, Floats, Image, ViewSpec
from agebench.vision.crops import cut_crops
from agebench.vision.frames import box_iou, canonical_frame, frame_box
from agebench.vision.opencv import cv2
from agebench.weights import resolve
from benchmarks.found_faces import Pictures, decoded, find_all, interval, take

RESULTS = Path(__file__).with_name("results")
BASE = "yolov8-face@onnxruntime"
TUTORIAL = "opencv-ssd pad=0"
DETECTORS = (BASE, TUTORIAL, "opencv-ssd", "yunet", "haar")
CROPS_AT_ONCE = 32

OFF_THE_FACE = 0.3
"""A box that overlaps the true face by a smaller IoU shows something else."""

Blob = npt.NDArray[np.float32]
Shares = Mapping[str, list[float] | None]

LABEL_LISTS = {
    "published": "0-2 4-6 8-12 15-20 25-32 38-43 48-53 60-100",
    "gaps filled": "0-3 4-7 8-14 15-24 25-37 38-47 48-59 60-100",
    "gaps filled otherwise": "0-3 4-7 8-14 15-24 25-32 33-47 48-53 54-100",
    "five years each": "0-5 5-10 11-15 16-20 21-25 26-30 31-35 36-40",
    "grown-ups alone": "15-20 15-20 15-20 15-20 25-32 38-43 48-53 48-53",
}
"""Lists that are found in public code beside this very file, by what is wrong with them."""


@dataclass(frozen=True)
class Scene:
    """One picture with the face that each detector says is its only one.

    Attributes:
        image_bgr: the picture.
        faces: by detector; None where it found none.
        specs: of the detectors.
    """

    image_bgr: Image
    faces: Mapping[str, Face | None]
    specs: Mapping[str, DetectorSpec]

    def frame(self, detector: str) -> FaceFrame | None:
        """Return the canonical frame of a detector's face."""
        face = self.faces[detector]
        return None if face is None else canonical_frame(face, self.specs[detector])

    def crop(self, view: ViewSpec, detector: str = BASE) -> Image | None:
        """Return one crop (1, height, width, 3), or None."""
        frame = self.frame(detector)
        if frame is None:
            return None
        crops = cut_crops(self.image_bgr, [frame], CropSpec({"face": view}))
        return crops.views["face"] if crops.present["face"][0] else None


def shrunk(scene: Scene, height_px: float) -> Scene:
    """Return the scene as a camera further away would show it: the face so many pixels tall."""
    frame = scene.frame(BASE)
    face = scene.faces[BASE]
    if frame is None or face is None or frame.height <= height_px:
        return scene
    scale = height_px / frame.height
    image = cv2.resize(scene.image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points = tuple(((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in face.landmarks_xy)
    left, top, right, bottom = ((edge + 0.5) * scale - 0.5 for edge in face.box_xyxy)
    small = Face((left, top, right, bottom), face.score, points, face.landmark_scheme)
    return Scene(np.asarray(image, np.uint8), {BASE: small}, scene.specs)


def view(margin_px: float = 20.0, margin: float = 0.0, side: int = 227) -> ViewSpec:
    """Return a view of the canonical frame, clipped to the picture."""
    size = (side, side)
    return ViewSpec("face", size, margin=margin, margin_px=margin_px, border="clip")


def box_view(margin_px: float = 20.0) -> ViewSpec:
    """Return a view of the detector's own box, cut and squashed as tutorials do."""
    return ViewSpec("box", (227, 227), margin_px=margin_px, border="slice")


def to_blob(
    pixels: Image | None,
    mean: Sequence[float] = CHANNEL_MEAN,
    *,
    rgb: bool = False,
    scale: float = 1,
) -> Blob | None:
    """Return pixels as the network's input; channels are swapped, the mean is not."""
    if pixels is None:
        return None
    turned = pixels[..., ::-1] if rgb else pixels
    plain = turned.astype(np.float32) * np.float32(scale) - np.array(mean, np.float32)
    return np.ascontiguousarray(plain.transpose(0, 3, 1, 2))


def conditions(mean_image: Blob) -> dict[str, Callable[[Scene], Blob | None]]:
    """Return what is changed, by name: from a scene to the network's input, or None."""
    of_mean = tuple(float(each) for each in mean_image.mean(axis=(1, 2)))

    def wide(scene: Scene, *, ten: bool, image: bool) -> Blob | None:
        whole = to_blob(scene.crop(view(side=256)), (0, 0, 0) if image else of_mean)
        if whole is None:
            return None
        whole = whole - mean_image if image else whole
        return ten_windows(whole) if ten else centre_window(whole)

    def framed(scene: Scene, detector: str, shown: ViewSpec) -> Blob | None:
        return to_blob(scene.crop(shown, detector))

    found: dict[str, Callable[[Scene], Blob | None]] = {
        "base": lambda scene: framed(scene, BASE, view()),
        "no mean": lambda scene: to_blob(scene.crop(view()), (0, 0, 0)),
        "RGB": lambda scene: to_blob(scene.crop(view()), rgb=True),
        "scaled by 1/255": lambda scene: to_blob(scene.crop(view()), scale=1 / 255),
        "mean image, one crop": partial(wide, ten=False, image=True),
        "ten crops": partial(wide, ten=True, image=False),
        "ten crops, mean image": partial(wide, ten=True, image=True),
        "face 48 px tall": lambda scene: to_blob(shrunk(scene, 48).crop(view(margin_px=5))),
        "face 24 px tall": lambda scene: to_blob(shrunk(scene, 24).crop(view(margin_px=2.5))),
    }
    for text, shown in {
        "margin 0": view(0),
        "margin 40 px": view(40),
        "margin 20 %": view(0, 0.2),
        "margin 40 %": view(0, 0.4),
        "margin 70 %": view(0, 0.7),
    }.items():
        found[text] = partial(framed, detector=BASE, shown=shown)
    for detector in DETECTORS:
        found[f"box of {called(detector)}"] = partial(framed, detector=detector, shown=box_view())
        if detector not in {BASE, TUTORIAL}:
            found[f"frame of {called(detector)}"] = partial(framed, detector=detector, shown=view())
    found["box of yolov8-face, margin 0"] = partial(framed, detector=BASE, shown=box_view(0))
    return found


def called(detector: str) -> str:
    """Return a detector's name in the table."""
    return "the tutorials' opencv-ssd" if detector == TUTORIAL else detector.partition("@")[0]


def the_face(faces: Sequence[Face], detector: str) -> Face | None:
    """Return the best score for the tutorials' detector, the largest box for others."""
    by = (lambda face: face.score) if detector == TUTORIAL else (lambda face: face.area)
    return max(faces, key=by, default=None)


def ask(model: Model, blobs: Mapping[str, Blob | None]) -> dict[str, list[float] | None]:
    """Return class probabilities by condition, averaged over the crops of one."""
    present = {name: blob for name, blob in blobs.items() if blob is not None}
    rows = np.concatenate(list(present.values()))
    parts = [
        model.run({INPUT_NAME: rows[start : start + CROPS_AT_ONCE]})[OUTPUT_NAME]
        for start in range(0, len(rows), CROPS_AT_ONCE)
    ]
    shares = np.concatenate(parts).astype(np.float64)
    answers: dict[str, list[float] | None] = dict.fromkeys(blobs)
    start = 0
    for name, blob in present.items():
        answers[name] = shares[start : start + len(blob)].mean(axis=0).tolist()
        start += len(blob)
    return answers


def shares_of(pictures: Pictures, cache: Path, model: Model, mean_image: Blob) -> dict[str, Shares]:
    """Return the probabilities by picture and condition; from the cache where they are there."""
    path = cache / f"{pictures.name}.shares.jsonl"
    known: dict[str, Shares] = {}
    if path.is_file():
        records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        known = {record["name"]: record["shares"] for record in records}
    missing = tuple(item for item in pictures.samples if item.name not in known)
    faces = {name: find_all(pictures, name, cache) for name in DETECTORS}
    specs = {name: load_detector(name).spec for name in DETECTORS} if missing else {}
    made = conditions(mean_image)
    with path.open("a", encoding="utf-8") as file:
        for item, image in decoded(Pictures(pictures.name, "", missing)):
            chosen = {name: the_face(found[item.name], name) for name, found in faces.items()}
            scene = Scene(image, chosen, specs)
            known[item.name] = ask(model, {name: make(scene) for name, make in made.items()})
            file.write(json.dumps({"name": item.name, "shares": known[item.name]}) + "\n")
            file.flush()
    return known


@dataclass(frozen=True)
class Answer:
    """Years and classes of one condition; NaN and -1 where there is no answer."""

    years: Floats
    classes: npt.NDArray[np.int64]


def answers(shares: Floats, tables: Mapping[str, Floats]) -> Iterator[tuple[str, Answer]]:
    """Yield what the same probabilities become by each rule, from (n, 8) with rows of NaN."""
    there = ~np.isnan(shares).any(axis=1)
    classes = np.full(len(shares), -1)
    classes[there] = shares[there].argmax(axis=1)

    def rule(make: Callable[[Floats], Floats]) -> Answer:
        years = np.full(len(shares), np.nan)
        years[there] = make(shares[there])
        return Answer(years, classes)

    bins = ADIENCE_CLASSES
    yield "", rule(lambda rows: years_from_classes(rows, bins, "expectation"))
    yield "midpoint of the likeliest", rule(lambda rows: years_from_classes(rows, bins, "midpoint"))
    yield "median", rule(lambda rows: median(rows, bins))
    for name, table in tables.items():
        which: Any = name
        label = "expectation" if name == "expectation" else "likeliest"
        yield f"fitted years, {label}", rule(partial(_fitted, rule=which, table=table))
    for name, text in LABEL_LISTS.items():
        if name != "published":
            middles = np.array(
                [np.mean([int(n) for n in each.split("-")]) for each in text.split()]
            )
            yield f"labels: {name}", Answer(np.where(there, middles[classes], np.nan), classes)


def _fitted(rows: Floats, rule: Any, table: Floats) -> Floats:
    return years_from_classes(rows, ADIENCE_CLASSES, rule, table)


def row(answer: Answer, base: Answer, pictures: Pictures) -> dict[str, Any]:
    """Return one row's figures."""
    ages, people = pictures.ages, np.array(pictures.people, object)
    there = ~np.isnan(answer.years)
    both = there & ~np.isnan(base.years)
    errors = np.abs(answer.years - ages)
    change = errors - np.abs(base.years - ages)
    accuracy = class_accuracy(ages[there], answer.classes[there], ADIENCE_CLASSES)
    return {
        "n": int(there.sum()),
        "none": int((~there).sum()),
        "mae_years": interval(errors[there], people[there].tolist()),
        "difference_years": interval(change[both], people[both].tolist()),
        "bias_years": float(np.mean((answer.years - ages)[there])),
        "exact": accuracy.exact,
        "one_off": accuracy.one_off,
        "in_classes": accuracy.n,
        "given": np.bincount(answer.classes[there], minlength=8).tolist(),
    }


def invented(
    pictures: Pictures,
    faces: Mapping[str, Mapping[str, Sequence[Face]]],
    spec: DetectorSpec,
) -> dict[str, int]:
    """Count pictures in which the tutorials' detector sees more than there is.

    Args:
        pictures: which show one person each.
        faces: by detector and picture; those that `BASE` and `TUTORIAL` both looked at count.
        spec: of `BASE`, whose frame is taken for the true face.
    """
    several = off = looked = 0
    for item in pictures.samples:
        if item.name not in faces[TUTORIAL] or not faces[BASE].get(item.name):
            continue
        boxes = faces[TUTORIAL][item.name]
        true = the_face(faces[BASE][item.name], BASE)
        best = the_face(boxes, TUTORIAL)
        if true is None or best is None:
            continue
        looked += 1
        several += len(boxes) > 1
        off += box_iou(best.box_xyxy, frame_box(canonical_frame(true, spec))) < OFF_THE_FACE
    return {"looked_at": looked, "several_boxes": several, "best_is_off_the_face": off}


def measure(
    pictures: Pictures, known: Mapping[str, Shares], tables: Mapping[str, Floats]
) -> dict[str, Any]:
    """Return all rows of one set of pictures."""
    names = [item.name for item in pictures.samples]
    keys = max((list(shares) for shares in known.values()), key=len)
    nothing = [float("nan")] * 8
    arrays = {
        key: np.array([known.get(name, {}).get(key) or nothing for name in names]) for key in keys
    }
    by_rule = {key: dict(answers(array, tables)) for key, array in arrays.items()}
    base = by_rule["base"][""]
    rows = {key: row(rules[""], base, pictures) for key, rules in by_rule.items()}
    for key, figures in rows.items():  # where a run was ended early some were never asked
        figures["none"] = sum(key in each and each[key] is None for each in known.values())
    rows |= {name: row(each, base, pictures) for name, each in by_rule["base"].items() if name}
    tutorial = by_rule[f"box of {called(TUTORIAL)}"]["midpoint of the likeliest"]
    rows["the tutorial, exactly"] = row(tutorial, base, pictures)
    fitted = [name for name in by_rule["base"] if name.startswith("fitted")]
    for key in ("margin 20 %", "margin 40 %", "margin 70 %", "ten crops", "ten crops, mean image"):
        for name in fitted if key in by_rule else ():
            rows[f"{key}; {name}"] = row(by_rule[key][name], base, pictures)
    constant = np.full(len(names), 30.0)
    rows["30 for everybody"] = row(Answer(constant, np.full(len(names), 4)), base, pictures)
    return {"what": pictures.what, "pictures": len(names), "rows": rows}


def cell(value: Sequence[float], sign: str = "") -> str:
    """Return mean and interval."""
    shown = [f"{each:{sign}.2f}" for each in value]
    return shown[0] if len(shown) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return "" if value is None else f"{value:.0%}"


def markdown(result: Mapping[str, Any]) -> str:
    """Return one table per set of pictures."""
    lines = ["# What each habit costs", "", str(result.get("note", "")), ""]
    for found in result["sets"].values():
        boxes = found["tutorials_detector"]
        lines += [
            f"{found['what']}: {found['pictures']} pictures. The tutorials' detector gave several "
            f"boxes for {boxes['several_boxes']} of {boxes['looked_at']}, and the best one is off "
            f"the face in {boxes['best_is_off_the_face']}.",
            "",
        ]
        lines.append(
            "| change | scored | no face | MAE, years | against the base | bias | exact | one-off |"
        )
        lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
        for name, figures in found["rows"].items():
            cells = [
                name,
                str(figures["n"]),
                str(figures["none"]),
                cell(figures["mae_years"]),
                "" if name == "base" else cell(figures["difference_years"], "+"),
                f"{figures['bias_years']:+.1f}",
                share(figures["exact"]),
                share(figures["one_off"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, f"    {result['command']}", ""])


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True, help="FG-NET, subjects 1 to 20")
    parser.add_argument("--utkface", type=Path, help="UTKFace, of which the test part is used")
    parser.add_argument("--sample", type=int, help="so many pictures of UTKFace, drawn at random")
    parser.add_argument("--mirror", type=Path, help="folder of published weights")
    parser.add_argument("--cache", type=Path, required=True, help="folder for faces and answers")
    parser.add_argument("--table", type=Path, action="append", default=[], help="of fit-years")
    arguments = parser.parse_args()
    if arguments.mirror is not None:
        os.environ["AGEBENCH_MIRROR"] = str(arguments.mirror)
    sets = [take("fgnet-1-20", "FG-NET, subjects 1 to 20", "fgnet", arguments.fgnet)]
    if arguments.utkface is not None:
        what, root = "UTKFace, test part of utkface-full", arguments.utkface
        sets.append(take("utkface", what, "utkface", root, count=arguments.sample, test=True))
    run(sets, arguments.cache, arguments.table)


def run(sets: Sequence[Pictures], cache: Path, table_files: Sequence[Path]) -> None:
    """Measure these sets, write and print."""
    cache.mkdir(parents=True, exist_ok=True)
    weights = resolve("age_net.caffemodel")
    converted = converted_age_net(weights.path, weights.info.sha256)
    read = [read_class_years(path)[0] for path in table_files]
    tables = {each.rule: np.array(each.years) for each in read}
    with use_threads(1):
        source = ModelSource("onnx", converted, outputs=(OUTPUT_NAME,), inputs=(INPUT_NAME,))
        model = open_model(source, runtime="onnxruntime")
        mean_image = read_mean(resolve("mean.binaryproto").path)
        known = {each.name: shares_of(each, cache, model, mean_image) for each in sets}
    result = {
        "schema": 1,
        "command": re.sub(r"\s+", " ", (__doc__ or "").split("\n\n")[1].replace("\\", "")).strip(),
        "tables": {rule: table.tolist() for rule, table in tables.items()},
        "sets": {
            each.name: {
                **measure(each, known[each.name], tables),
                "tutorials_detector": invented(
                    each,
                    {name: find_all(each, name, cache) for name in (BASE, TUTORIAL)},
                    load_detector(BASE).spec,
                ),
            }
            for each in sets
        },
    }
    write_whole(RESULTS / "tutorial_mistakes.json", json.dumps(result, indent=1) + "\n")
    write_whole(RESULTS / "tutorial_mistakes.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
