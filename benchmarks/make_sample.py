"""Make the bundled sample: averages of at least twelve faces each, which show no one person.

    python benchmarks/make_sample.py UTKFACE --out pretrained/sample \
        --record benchmarks/results/sample.json --sheet FILE.png

UTKFACE is the folder of the aligned chips.  Only the test part of the protocol `utkface-full` is
used.  The files that were written are then read back, and it is computed from their pixels how
much of each source is in them.  The sheet shows the composites alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from scipy.interpolate import RBFInterpolator

from agebench import load_dataset, load_detector
from agebench.protocols import FaceDetector
from agebench.splits.building import make_split, read_facts
from agebench.splits.parts import Split, part
from agebench.splits.protocols import PictureFacts, find_protocol
from agebench.types import Floats, Image, Sample
from agebench.util.files import write_whole
from agebench.util.progress import progress_bars
from agebench.vision.faces import chosen_face
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2

PROTOCOL, PART = "utkface-full", "test"
DETECTOR = "yunet"
SOURCES = 12
"""Faces in a composite."""

SPREAD_YEARS, OLD_SPREAD_YEARS = 1.0, 3.0
"""How far a source's age may be from the composite's label, and where all are above `OLD`."""

OLD_YEARS = 60
APART_YEARS = 1.5
"""Least distance between the labels of two composites of one gender."""

PER_AGE = 16
"""Of one gender and age, only so many of the most frontal faces take part."""

SIDE_PX = 200
CARD = Path(__file__).parent / "sample_card.md"
PAD_PX = 100
"""Detectors look for a face with room around it."""

MOST_TURNED_PX = 12.0
"""A face is too far turned if, after the best similarity transform, one of its five points is
further than this from the place that it usually has."""

MOST_ALIKE = 0.5
"""Faces whose detail correlates more are not put into one composite: they may be one person.

The record tells which share of all pairs, nearly all of different people, this is.
"""

DETAIL_SIGMAS_PX = (2.0, 8.0)
"""Gaussian blurs whose difference is that detail."""

QUALITY = 90
FACE_ROWS, FACE_COLUMNS = slice(30, 165), slice(40, 160)
"""Where the face is in a chip; only there pixels are compared."""


@dataclass(frozen=True, eq=False)
class Chip:
    """One source.

    Attributes:
        sample: whose label it has.
        image_bgr: its picture, uint8 (200, 200, 3).
        points_xy: eyes, nose tip and mouth corners, (5, 2).
        turned_px: how far a point is from where it usually is, at most.
        detail: what tells it from other faces, a vector of length 1.
    """

    sample: Sample
    image_bgr: Image
    points_xy: Floats
    turned_px: float
    detail: Floats

    @property
    def age(self) -> float:
        """The label, years."""
        assert self.sample.age_years is not None  # noqa: S101 - UTKFace has no ranges
        return self.sample.age_years


@dataclass(frozen=True, eq=False)
class Composite:
    """What one file shows."""

    name: str
    gender: str
    chips: tuple[Chip, ...]
    faces_bgr: Image
    """The sources after warping, uint8 (sources, 200, 200, 3)."""

    @property
    def age(self) -> float:
        """The mean of the sources' labels, years."""
        return float(np.mean([chip.age for chip in self.chips]))

    @property
    def average_bgr(self) -> Image:
        """The mean of the faces."""
        mean: Image = np.rint(self.faces_bgr.astype(np.float64).mean(axis=0)).astype(np.uint8)
        return mean


def one_of_each(samples: Iterable[Sample], facts: PictureFacts) -> list[Sample]:
    """Leave out all copies of a picture but the first."""
    copies = {name for group in facts.duplicates for name in group.members[1:]}
    return [sample for sample in samples if sample.name not in copies]


def find_points(sample: Sample, detector: FaceDetector) -> tuple[Image, Floats] | None:
    """Read a chip and return it with its five points; None where no face is found."""
    image = read_image(sample.path)
    padded = cv2.copyMakeBorder(image, PAD_PX, PAD_PX, PAD_PX, PAD_PX, cv2.BORDER_REPLICATE)
    face = chosen_face(detector.detect(np.asarray(padded, np.uint8)))
    if image.shape != (SIDE_PX, SIDE_PX, 3) or face is None:
        return None
    return image, np.asarray(face.landmarks_xy) - PAD_PX


def similarity(source_xy: Floats, target_xy: Floats) -> tuple[complex, complex]:
    """Return factor and offset of the least-squares similarity transform, as complex numbers."""
    source, target = (points @ np.array([1, 1j]) for points in (source_xy, target_xy))
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred).real
    return complex(factor), complex(target.mean() - factor * source.mean())


def make_chips(found: Mapping[str, tuple[Image, Floats]], samples: Sequence[Sample]) -> list[Chip]:
    """Compare every face with all of them."""
    usual: Floats = np.median([points for _, points in found.values()], axis=0)
    turned, details = [], []
    for image, points in found.values():
        factor, offset = similarity(points, usual)
        moved = factor * (points @ np.array([1, 1j])) + offset
        turned.append(float(np.abs(moved - usual @ np.array([1, 1j])).max()))
        turn = np.array(
            [[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]]
        )
        upright = cv2.warpAffine(image, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
        gray = upright.astype(np.float32).mean(axis=-1)
        fine, coarse = (cv2.GaussianBlur(gray, (0, 0), sigma) for sigma in DETAIL_SIGMAS_PX)
        details.append(_unit((fine - coarse)[FACE_ROWS, FACE_COLUMNS].astype(np.float64).ravel()))
    common = np.mean(details, axis=0)
    by_name = {sample.name: sample for sample in samples}
    return [
        Chip(by_name[name], image, points, turned[at], _unit(details[at] - common))
        for at, (name, (image, points)) in enumerate(found.items())
    ]


def _unit(vector: Floats) -> Floats:
    centred: Floats = vector - vector.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-9)


def in_order(chips: Iterable[Chip], seed: int) -> list[Chip]:
    """Sort chips by age, the oldest first, and drawn at random within an age."""
    by_age: dict[float, list[Chip]] = defaultdict(list)
    for chip in sorted(chips, key=lambda chip: (chip.turned_px, chip.sample.name)):
        if chip.turned_px <= MOST_TURNED_PX and len(by_age[chip.age]) < PER_AGE:
            by_age[chip.age].append(chip)
    draw = random.Random(seed)
    return [
        chip
        for age in sorted(by_age, reverse=True)
        for chip in draw.sample(by_age[age], len(by_age[age]))
    ]


def groups(chips: Sequence[Chip]) -> Iterator[tuple[Chip, ...]]:
    """Yield groups of neighbours in age that do not look alike; no chip is in two."""
    start, before = 0, np.inf
    while start + SOURCES <= len(chips):
        group = chips[start : start + SOURCES]
        ages = np.array([chip.age for chip in group])
        spread = OLD_SPREAD_YEARS if ages.min() > OLD_YEARS else SPREAD_YEARS
        label = float(ages.mean())
        details = np.array([chip.detail for chip in group])
        alike = np.triu(details @ details.T, 1).max() > MOST_ALIKE
        if np.abs(ages - label).max() <= spread and before - label >= APART_YEARS and not alike:
            yield tuple(group)
            start, before = start + SOURCES, label
        else:
            start += 1


def warp(chip: Chip, target_xy: Floats) -> Image:
    """Warp a chip so that its five points come to lie on the target's.

    Around the face it is moved by a similarity transform; thin plates bend in between.
    """
    ends = np.linspace(0, SIDE_PX - 1, 3)
    border = np.array([(x, y) for x in ends for y in ends if (x, y) != (ends[1], ends[1])])
    factor, offset = similarity(target_xy, chip.points_xy)
    moved = factor * (border @ np.array([1, 1j])) + offset
    bend = RBFInterpolator(
        np.concatenate([target_xy, border]),
        np.concatenate([chip.points_xy, np.stack([moved.real, moved.imag], axis=1)]),
        kernel="thin_plate_spline",
    )
    grid = np.stack(np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX)), axis=-1)
    places = bend(grid.reshape(-1, 2).astype(np.float64)).reshape(SIDE_PX, SIDE_PX, 2)
    xy = places.astype(np.float32)
    warped = cv2.remap(
        chip.image_bgr, xy[..., 0], xy[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def compose(gender: str, chips: tuple[Chip, ...]) -> Composite:
    """Warp the faces of a group to their mean shape."""
    target: Floats = np.mean([chip.points_xy for chip in chips], axis=0)
    label = float(np.mean([chip.age for chip in chips]))
    name = f"composite_{gender}_{label:04.1f}.jpg".replace(".", "_", 1)
    return Composite(name, gender, chips, np.stack([warp(chip, target) for chip in chips]))


def encode(image_bgr: Image) -> bytes:
    """Return a JPEG, the same for the same pixels."""
    packed = io.BytesIO()
    picture = PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    picture.save(packed, "JPEG", quality=QUALITY, optimize=True)
    return packed.getvalue()


def labels(composites: Sequence[Composite]) -> bytes:
    """Return the table of labels."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "age", "gender", "sources", "youngest", "oldest"])
    for item in composites:
        ages = [chip.age for chip in item.chips]
        row = [f"{item.age:.3f}", item.gender, len(item.chips), f"{min(ages):g}", f"{max(ages):g}"]
        table.writerow([item.name, *row])
    return text.getvalue().encode()


def card(composites: Sequence[Composite], record: Mapping[str, Any], size_bytes: int) -> bytes:
    """Return the data card."""
    rows = []
    for item in composites:
        ages = [chip.age for chip in item.chips]
        years = f"{min(ages):g}-{max(ages):g}"
        cells = (item.name, item.gender, f"{item.age:.1f}", str(len(ages)), years)
        rows.append(f"| {' | '.join(cells)} |")
    means = [item.age for item in composites]
    text = Template(CARD.read_text(encoding="utf-8")).substitute(
        record["faces"],
        count=len(composites),
        size=round(size_bytes / 1000),
        sources=SOURCES,
        fingerprint=record["protocol"]["fingerprint"][:16],
        detector=DETECTOR,
        per_age=PER_AGE,
        seed=record["seed"],
        alike=MOST_ALIKE,
        alike_percent=f"{100 * record['faces']['pairs_alike'] / record['faces']['pairs']:.3f}",
        even=f"{1 / SOURCES:.4f}",
        least_share=record["least_share"],
        greatest_share=record["greatest_share"],
        youngest=f"{min(means):.1f}",
        oldest=f"{max(means):.1f}",
        rows="\n".join(rows),
    )
    return text.encode()


def _face(images_bgr: Image) -> Floats:
    """Gray levels of the face alone, float64 (..., pixels), of mean 0."""
    gray = images_bgr[..., FACE_ROWS, FACE_COLUMNS, :].astype(np.float64).mean(axis=-1)
    flat = gray.reshape(*gray.shape[:-2], -1)
    centred: Floats = flat - flat.mean(axis=-1, keepdims=True)
    return centred


def shares(image_bgr: Image, faces_bgr: Image) -> tuple[Floats, float]:
    """Compute by least squares how much of each face is in a picture.

    Returns:
        The shares, float64 (faces,), and the root mean square of what they don't explain, in
        gray levels: what compression changed.
    """
    faces, picture = _face(faces_bgr), _face(image_bgr)
    found: Floats = np.asarray(np.linalg.lstsq(faces.T, picture, rcond=None)[0], np.float64)
    return found, float(np.sqrt(np.mean((faces.T @ found - picture) ** 2)))


def likeness(image_bgr: Image, faces_bgr: Image, common: Floats) -> float:
    """Return how well the most similar of some faces correlates with a picture.

    Args:
        image_bgr: a composite.
        faces_bgr: uint8 (n, 200, 200, 3).
        common: what all composites have in common; it is taken off first.
    """
    picture, faces = _face(image_bgr) - common, _face(faces_bgr) - common
    lengths = np.linalg.norm(faces, axis=1) * np.linalg.norm(picture)
    return float((faces @ picture / lengths).max())


def record_of(
    composites: Sequence[Composite], folder: Path, split: Split, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Read the files back and say what is in them; no source is named."""
    images = [read_image(folder / item.name) for item in composites]
    common: Floats = np.mean([_face(image) for image in images], axis=0)
    rows: list[dict[str, Any]] = []
    for item, image in zip(composites, images, strict=True):
        found, rest = shares(image, item.faces_bgr)
        others = [one for one in composites if one is not item and one.gender == item.gender]
        rows.append(
            {
                "image": item.name,
                "sources": len({chip.sample.name for chip in item.chips}),
                "least_share": round(float(found.min()), 4),
                "greatest_share": round(float(found.max()), 4),
                "unexplained_gray_levels": round(rest, 2),
                "likeness_to_own": round(likeness(image, item.faces_bgr, common), 3),
                "likeness_to_others": round(
                    max(likeness(image, one.faces_bgr, common) for one in others), 3
                ),
            }
        )
    used = [chip.sample.name for item in composites for chip in item.chips]
    return {
        "protocol": {"name": PROTOCOL, "part": PART, "fingerprint": split.fingerprint},
        "faces": {**counts, "used": len(used), "used_twice": len(used) - len(set(used))},
        "used_of_other_parts": sum(split.parts[name] != PART for name in used),
        "least_sources": min(row["sources"] for row in rows),
        "least_share": min(row["least_share"] for row in rows),
        "greatest_share": max(row["greatest_share"] for row in rows),
        "furthest_from_label_years": {
            "up to 60": _furthest(item for item in composites if _youngest(item) <= OLD_YEARS),
            "above 60": _furthest(item for item in composites if _youngest(item) > OLD_YEARS),
        },
        "versions": {name: version(name) for name in ("agebench", "opencv-contrib-python")},
        "composites": rows,
    }


def _youngest(item: Composite) -> float:
    return min(chip.age for chip in item.chips)


def _furthest(composites: Iterable[Composite]) -> float:
    return max(round(abs(chip.age - item.age), 3) for item in composites for chip in item.chips)


def sheet(composites: Sequence[Composite], folder: Path, columns: int = 11) -> Image:
    """Return all composites side by side, with their labels."""
    tiles = []
    for item in composites:
        tile = cv2.copyMakeBorder(read_image(folder / item.name), 0, 20, 0, 0, cv2.BORDER_CONSTANT)
        text = f"{item.gender} {item.age:.1f}"
        cv2.putText(
            tile, text, (4, 215), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA
        )
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def gather(root: Path) -> tuple[list[Chip], Split, dict[str, int]]:
    """Return the faces that may be used, the split, and how many fell out on the way."""
    pictures = load_dataset("utkface", root)
    detector = load_detector(DETECTOR)
    with progress_bars() as progress:
        facts = read_facts(pictures, progress, criteria=find_protocol(PROTOCOL).criteria)
        split = make_split(PROTOCOL, pictures, facts)
        samples = part(pictures, split, PART).samples
        kept = one_of_each(samples, facts)
        found = {}
        for done, sample in enumerate(kept, start=1):
            face = find_points(sample, detector) if "gender" in sample.attributes else None
            if face is not None:
                found[sample.name] = face
            progress("faces", done, len(kept))
    chips = make_chips(found, samples)
    turned = sum(chip.turned_px > MOST_TURNED_PX for chip in chips)
    counts = {"test": len(samples), "copies": len(samples) - len(kept)}
    details = np.array([chip.detail for chip in chips])
    alike = np.triu(details @ details.T, 1) > MOST_ALIKE
    counts |= {"pairs": len(chips) * (len(chips) - 1) // 2, "pairs_alike": int(alike.sum())}
    return chips, split, counts | {"no_face": len(kept) - len(chips), "turned": turned}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("utkface", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chips, split, counts = gather(arguments.utkface)
    composites = []
    for gender in ("female", "male"):
        own = [chip for chip in chips if chip.sample.attributes["gender"] == gender]
        composites += [compose(gender, group) for group in groups(in_order(own, arguments.seed))]
    composites.sort(key=lambda item: item.name)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for item in composites:
        write_whole(arguments.out / item.name, encode(item.average_bgr))
    write_whole(arguments.out / "labels.csv", labels(composites))
    record = {"seed": arguments.seed, **record_of(composites, arguments.out, split, counts)}
    size = sum(file.stat().st_size for file in arguments.out.glob("*.jpg"))
    write_whole(arguments.out / "README.md", card(composites, record, size))
    write_whole(arguments.record, (json.dumps(record, indent=1) + "\n").encode())
    if arguments.sheet is not None:
        write_whole(arguments.sheet, encode_png(sheet(composites, arguments.out)))
    print(json.dumps({key: value for key, value in record.items() if key != "composites"}))
    print(len(composites), "composites")
    return 0


if __name__ == "__main__":
    sys.exit(main())
