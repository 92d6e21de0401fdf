"""How many near copies of training pictures are recognised, and how many others by mistake.

    python -m benchmarks.near_copies --root UTKFACE [--others "FairFace=csv:LIST.csv"]

The looks are those that come with the package.  Training pictures of UTKFace are drawn by seed,
changed in known ways and saved again as JPEG; each copy counts if its original is found

- by the looks alone, as `compare` does where the training pictures are not available,
- by the looks and then by pixels, as it does where they are,
- by the doctor: perceptual hash, then pixels.

Then pictures that were not trained on are compared with all looks: how many are called near copies
although the pixels differ.  benchmarks/near_pairs.py has the pairs that were judged by eye.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agebench.api.doctor import open_dataset, split_against
from agebench.duplicates.look_search import (
    CANDIDATE_BITS,
    CANDIDATE_MOVED_BITS,
    SURE_BITS,
    SURE_MOVED_BITS,
    Query,
)
from agebench.duplicates.near_search import CURRENT, pictures_agree
from agebench.duplicates.training_hashes import find_hashes
from agebench.duplicates.training_looks import LooksLike, TrainingLooks
from agebench.harness.environment import describe_call
from agebench.harness.near_copies import is_copy
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import ProgressStep
from agebench.types import Image, Sample
from agebench.util.files import write_whole
from agebench.util.progress import progress_bars
from agebench.vision.images import read_image
from agebench.vision.looks import AS_IT_IS
from agebench.vision.opencv import cv2
from agebench.vision.similarity import picture_hashes

RESULTS = Path(__file__).parent / "results"
MODEL = "multicrop-resnet.onnx"
QUALITY = 92

Change = Callable[[Image], Image]


def saved(image: Image, quality: int) -> Image:
    """Return a picture as it is after it was saved as JPEG and opened again."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def jpeg(quality: int) -> Change:
    """Save as JPEG."""
    return lambda image: saved(image, quality)


def resized(factor: float) -> Change:
    """Resize both sides."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda image: np.asarray(
        cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), np.uint8
    )


def light(gain: float, offset: float) -> Change:
    """Change contrast about middle gray, and brightness in gray levels."""

    def change(image: Image) -> Image:
        return np.clip((image.astype(float) - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)

    return change


def cut(left: float, top: float, right: float, bottom: float) -> Change:
    """Cut off a fraction of each of the four sides."""

    def change(image: Image) -> Image:
        height, width = image.shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        columns = slice(round(left * width), width - round(right * width))
        return np.ascontiguousarray(image[rows, columns])

    return change


def turned(degrees: float) -> Change:
    """Rotate about the centre; the corners repeat the border."""

    def change(image: Image) -> Image:
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        return np.asarray(
            cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    return change


def mirrored(image: Image) -> Image:
    """Mirror left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def gray(image: Image) -> Image:
    """Remove the colours."""
    one = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(one, cv2.COLOR_GRAY2BGR), np.uint8)


def framed(image: Image) -> Image:
    """Put a black frame around it, a tenth of the height wide."""
    wide = round(image.shape[0] / 10)
    return np.asarray(
        cv2.copyMakeBorder(image, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=(0, 0, 0)),
        np.uint8,
    )


def printed_over(image: Image) -> Image:
    """Print a line of text over the lower quarter."""
    copy = image.copy()
    height, width = copy.shape[:2]
    place = (round(width * 0.05), round(height * 0.85))
    cv2.putText(copy, "a watermark", place, cv2.FONT_HERSHEY_SIMPLEX, width / 250, (255,) * 3, 2)
    return copy


def blurred(sigma: float) -> Change:
    """Blur; sigma in pixels of the picture."""
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def after(*steps: Change) -> Change:
    """Apply one after the other."""

    def change(image: Image) -> Image:
        for step in steps:
            image = step(image)
        return image

    return change


CHANGES: Mapping[str, Change] = {
    "saved again, JPEG 92": lambda image: image,
    "JPEG 80": jpeg(80),
    "JPEG 50": jpeg(50),
    "JPEG 30": jpeg(30),
    "mirrored": mirrored,
    "resized to 0.5": resized(0.5),
    "resized to 0.75": resized(0.75),
    "resized to 1.5": resized(1.5),
    "brighter by 40 levels": light(1.0, 40),
    "darker by 40 levels": light(1.0, -40),
    "contrast times 1.4": light(1.4, 0),
    "contrast times 0.6": light(0.6, 0),
    "gray": gray,
    "blurred, sigma 1 px": blurred(1),
    "blurred, sigma 2 px": blurred(2),
    "black frame, 10 %": framed,
    "text printed over": printed_over,
    "cut by 2 % a side": cut(0.02, 0.02, 0.02, 0.02),
    "cut by 5 % a side": cut(0.05, 0.05, 0.05, 0.05),
    "shifted by 2 %": cut(0.02, 0.02, 0, 0),
    "shifted by 5 %": cut(0.05, 0.05, 0, 0),
    "turned by 3 degrees": turned(3),
    "turned by 5 degrees": turned(-5),
    "turned by 10 degrees": turned(10),
    "mirrored, 0.5, JPEG 50": after(mirrored, resized(0.5), jpeg(50)),
    "gray, brighter, JPEG 50": after(gray, light(1.2, 30), jpeg(50)),
    "cut by 2 %, 0.75, JPEG 50": after(cut(0.02, 0.02, 0.02, 0.02), resized(0.75), jpeg(50)),
    "mirrored, cut by 5 %, 0.75": after(mirrored, cut(0.05, 0.05, 0.05, 0.05), resized(0.75)),
    "turned by 3, cut by 5 %, JPEG 50": after(turned(3), cut(0.05, 0.05, 0.05, 0.05), jpeg(50)),
}


def prefix_of(path: Path) -> bytes:
    """Return the start of the hash of a file, by which lists know it."""
    return hashlib.sha256(path.read_bytes()).digest()[:8]


def hashed(samples: Iterable[Sample]) -> list[tuple[bytes, Sample]]:
    """Return the samples, each with the start of its file's hash."""
    return [(prefix_of(sample.path), sample) for sample in samples]


def agree(copy: Image, like: LooksLike, at_hand: Mapping[bytes, Sample]) -> bool:
    """Return whether the pixels confirm a candidate."""
    return is_copy(copy, read_image(at_hand[like.prefix].path), like.match)


def hashes_agree(first: Image, second: Image) -> bool:
    """Return whether the doctor considers two pictures copies: hash, then pixels."""
    upright, _ = picture_hashes(first)
    for hashed, image in zip(picture_hashes(second), (second, mirrored(second)), strict=True):
        near = (upright ^ hashed).bit_count() <= CURRENT.max_distance_bits
        if near and pictures_agree(first, image):
            return True
    return False


def recall(
    originals: Sequence[tuple[bytes, Sample]],
    looks: TrainingLooks,
    at_hand: Mapping[bytes, Sample],
    progress: ProgressStep,
) -> list[dict[str, Any]]:
    """Return the fraction of originals found after each change."""
    counts = {name: [0, 0, 0, 0] for name in CHANGES}
    for done, (prefix, sample) in enumerate(originals, start=1):
        original = read_image(sample.path)
        for name, change in CHANGES.items():
            copy = saved(change(original), QUALITY)
            like = looks.like(Query.of(copy))
            mine = [item for item in like if item.prefix == prefix]
            here = [item for item in like if item.prefix in at_hand]
            found = (
                any(item.match.is_sure for item in like),
                bool(mine),
                any(agree(copy, item, at_hand) for item in here),
                hashes_agree(original, copy),
            )
            counts[name] = [one + new for one, new in zip(counts[name], found, strict=True)]
        progress("changed copies", done, len(originals))
    total = len(originals)
    names = ("looks_alone", "among_the_candidates", "looks_and_pixels", "doctor")
    return [
        {"change": name, **{what: n / total for what, n in zip(names, found, strict=True)}}
        for name, found in counts.items()
    ]


def false_alarms(
    samples: Sequence[tuple[bytes, Sample]],
    looks: TrainingLooks,
    at_hand: Mapping[bytes, Sample],
    progress: ProgressStep,
) -> dict[str, Any]:
    """Compare pictures that were not trained on with all looks."""
    claimed, candidates = 0, 0
    confirmed, open_ = [], []
    for done, (prefix, sample) in enumerate(samples, start=1):
        image = read_image(sample.path)
        like = looks.like(Query.of(image))
        here = [item for item in like if item.prefix in at_hand]
        candidates += bool(like)
        same = next((item for item in here if agree(image, item, at_hand)), None)
        if same is not None:
            confirmed.append(_pair(prefix, same))
        sure = [item for item in like if item.match.is_sure]
        claimed += bool(sure)
        if sure and same is None:
            open_.append(_pair(prefix, sure[0]) | {"at_hand": sure[0].prefix in at_hand})
        progress("other pictures", done, len(samples))
    return {
        "pictures": len(samples),
        "with_a_candidate": candidates,
        "confirmed_by_pixels": len(confirmed),
        "called_copies_by_looks_alone": claimed,
        "of_these_not_confirmed": len(open_),
        "confirmed": confirmed,
        "not_confirmed": open_,
    }


def _pair(prefix: bytes, like: LooksLike) -> dict[str, Any]:
    match = like.match
    return {
        "picture": prefix.hex(),
        "training": like.prefix.hex(),
        "mirrored": match.mirrored,
        "bits": match.bits,
        "as_it_is": match.move == AS_IT_IS,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of UTKFace")
    parser.add_argument("--others", action="append", default=[], metavar="NAME=[KIND:]ROOT")
    parser.add_argument("--originals", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=4000, help="pictures of each set")
    parser.add_argument("--name", default="near_copies")
    args = parser.parse_args()
    trained = find_hashes(bundled_dir() / MODEL)
    if trained is None or trained.looks is None:
        raise SystemExit(f"{MODEL} comes without looks")
    utkface = hashed(open_dataset("utkface", Path(args.root)).samples)
    at_hand = dict(utkface)
    known = sorted(set(trained.looks.prefixes) & set(at_hand))
    drawn = random.Random(0).sample(known, min(args.originals, len(known)))
    content: dict[str, Any] = describe_call() | {
        "looks_of": len(trained.looks.prefixes),
        "of_them_at_hand": len(known),
        "sure_bits": {"as it is": SURE_BITS, "moved": SURE_MOVED_BITS},
        "candidate_bits": {"as it is": CANDIDATE_BITS, "moved": CANDIDATE_MOVED_BITS},
        "originals": len(drawn),
    }
    with progress_bars() as progress:
        chosen = [(prefix, at_hand[prefix]) for prefix in drawn]
        content["recall"] = recall(chosen, trained.looks, at_hand, progress)
        sets = {"utkface": utkface}
        for text in args.others:
            name, _, place = text.partition("=")
            sets[name] = hashed(open_dataset(*split_against(place)).samples)
        content["others"] = {}
        for name, all_of_it in sets.items():
            unseen = [pair for pair in all_of_it if pair[0] not in trained.prefixes]
            held_out = random.Random(0).sample(unseen, min(args.held_out, len(unseen)))
            content["others"][name] = false_alarms(held_out, trained.looks, at_hand, progress)
    write_whole(RESULTS / f"{args.name}.json", json.dumps(content, indent=1) + "\n")
    for row in content["recall"]:
        print(f"{row.pop('change'):34}", *(f"{what} {n:6.1%}" for what, n in row.items()))
    print(json.dumps(content["others"], indent=1))


if __name__ == "__main__":
    main()
