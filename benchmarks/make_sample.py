"""Make the bundled sample: averages of at least twelve faces each, which show no single person.

    python -m benchmarks.make_sample UTKFACE --out pretrained/sample \
        --record benchmarks/results/sample.json --sheet FILE.png

UTKFACE is the folder with the aligned chips.  Only the test part of the protocol `utkface-full` is
used.  The files are then read back, and the weight of each source in a composite is computed from
their pixels.  The sheet shows only the composites.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from agebench import load_dataset, load_detector
from agebench.splits.building import make_split, read_contents
from agebench.splits.parts import Split, part
from agebench.splits.protocols import find_protocol
from agebench.types import Floats, Image
from agebench.util.files import write_whole
from agebench.util.progress import progress_bars
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2
from benchmarks.sample_faces import (
    FACE_COLUMNS,
    FACE_ROWS,
    MOST_ALIKE,
    MOST_TURNED_PX,
    OLD_YEARS,
    PER_AGE,
    SOURCES,
    Chip,
    Composite,
    compose,
    find_points,
    groups,
    in_order,
    make_chips,
    one_of_each,
)

PROTOCOL, PART = "utkface-full", "test"
DETECTOR = "yunet"
CARD = Path(__file__).parent / "sample_card.md"
QUALITY = 90


def encode(image_bgr: Image) -> bytes:
    """Return a picture as JPEG; the same pixels give the same bytes."""
    packed = io.BytesIO()
    picture = PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    picture.save(packed, "JPEG", quality=QUALITY, optimize=True)
    return packed.getvalue()


def labels(composites: Sequence[Composite]) -> bytes:
    """Return the table of labels as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "age", "gender", "sources", "youngest", "oldest"])
    for item in composites:
        ages = [chip.age for chip in item.chips]
        row = [f"{item.age:.3f}", item.gender, len(item.chips), f"{min(ages):g}", f"{max(ages):g}"]
        table.writerow([item.name, *row])
    return text.getvalue().encode()


def card(composites: Sequence[Composite], record: Mapping[str, Any], size_bytes: int) -> bytes:
    """Return the data card as Markdown."""
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
    """Return the gray levels of the face region only, float64 (..., pixels), with mean 0."""
    gray = images_bgr[..., FACE_ROWS, FACE_COLUMNS, :].astype(np.float64).mean(axis=-1)
    flat = gray.reshape(*gray.shape[:-2], -1)
    centred: Floats = flat - flat.mean(axis=-1, keepdims=True)
    return centred


def weights_of(image_bgr: Image, faces_bgr: Image) -> tuple[Floats, float]:
    """Compute the weight of each face in a picture by least squares.

    Returns:
        The weights, float64 (faces,), and the root mean square of the residual in gray levels,
        which is due to compression.
    """
    faces, picture = _face(faces_bgr), _face(image_bgr)
    found: Floats = np.asarray(np.linalg.lstsq(faces.T, picture, rcond=None)[0], np.float64)
    return found, float(np.sqrt(np.mean((faces.T @ found - picture) ** 2)))


def likeness(image_bgr: Image, faces_bgr: Image, common: Floats) -> float:
    """Return the highest correlation of a face with a picture.

    Args:
        image_bgr: a composite.
        faces_bgr: uint8 (n, 200, 200, 3).
        common: mean of all composites; subtracted first.
    """
    picture, faces = _face(image_bgr) - common, _face(faces_bgr) - common
    lengths = np.linalg.norm(faces, axis=1) * np.linalg.norm(picture)
    return float((faces @ picture / lengths).max())


def record_of(
    composites: Sequence[Composite], folder: Path, split: Split, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Read the files back and return the record of their contents; no source is named."""
    images = [read_image(folder / item.name) for item in composites]
    common: Floats = np.mean([_face(image) for image in images], axis=0)
    rows: list[dict[str, Any]] = []
    for item, image in zip(composites, images, strict=True):
        found, rest = weights_of(image, item.faces_bgr)
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
    """Return all composites in a grid, with their labels."""
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
    """Return the usable faces, the split, and how many pictures were excluded by each step."""
    pictures = load_dataset("utkface", root)
    detector = load_detector(DETECTOR)
    with progress_bars() as progress:
        contents = read_contents(pictures, progress, criteria=find_protocol(PROTOCOL).criteria)
        split = make_split(PROTOCOL, pictures, contents)
        samples = part(pictures, split, PART).samples
        kept = one_of_each(samples, contents)
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
