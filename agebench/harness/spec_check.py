"""Checking the predictions of a model described in a spec file for signs of a wrong spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from agebench.errors import ImageError, UsageError
from agebench.protocols import Estimator, FaceDetector
from agebench.registry.plugins import load_dataset
from agebench.types import MAX_AGE_YEARS, Crops, Floats, Image, Sample
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS
from agebench.vision.opencv import cv2

LEAST_SPREAD_YEARS = 1.0
"""Ages of different people that differ by less count as equal."""

CLEARLY_BETTER = 0.8
"""Ratio of the errors below which swapped channels are considered to be the right order."""

SAME_YEARS = 0.1
"""Ages under two runtimes that differ by more are not explained by rounding; nor are those of two
faces and of the same with red and blue exchanged, as two people may be of the same age."""

MANY_LIMITED = 0.05
"""Fraction of ages; a single -1 for a baby is not a sign of a wrong scale."""

LEAST_FOLLOWING = 0.3
"""Rank correlation with the ages of the 71 composites that chance reaches once in a hundred trials.
The public models of pretrained/zoo reach 0.76 to 0.96."""

TILE_PX = 160


@dataclass(frozen=True, slots=True)
class SpecCheck:
    """The findings of a check.

    Attributes:
        names: of the pictures with a face.
        years: the ages.
        swapped_years: the ages with red and blue exchanged.
        true_years: the labels; empty if the pictures have none.
        following: rank correlation of the ages with the labels, -1 to 1; None without labels, and
            if all ages are equal.
        other_years: the ages under another runtime; empty without one.
        without_face: names of the pictures without one.
        wrong: what looks wrong, one sentence each.
        crops: the network's input, uint8 (n, height, width, 3).
    """

    names: tuple[str, ...]
    years: Floats
    swapped_years: Floats
    true_years: Floats
    following: float | None
    other_years: Floats
    without_face: tuple[str, ...]
    wrong: tuple[str, ...]
    crops: Image


def check_described(
    estimator: Estimator,
    pictures: Sequence[Path],
    detector: FaceDetector,
    other: Estimator | None = None,
) -> SpecCheck:
    """Predict the ages of pictures, by default of the bundled composites.

    Args:
        estimator: with one view.
        pictures: files; the largest face of each is used.
        detector: finds them.
        other: the same model under another runtime, which should predict the same ages.

    Raises:
        UsageError: no picture has a face, or the estimator has several views.
        ModelError, ImageError: the model fails, or a picture can't be read.
    """
    if len(estimator.spec.crop.views) != 1:
        raise UsageError(
            f"{estimator.spec.name} has several views, but a model in a spec file has one"
        )
    labels: list[float] = []
    samples: Sequence[Sample] = [Sample(path, path.name, None) for path in pictures]
    if not pictures:
        samples = load_dataset("sample").samples
        labels = [sample.age_years or 0.0 for sample in samples]
    parts, names, without = [], [], []
    crop = estimator.spec.crop
    for picture in face_pictures(samples, detector, [crop], workers=0, max_pixels=MAX_PIXELS):
        if picture.status == "no_face":
            without.append(picture.sample.path.name)
            continue
        if picture.status != "ok":
            raise ImageError(f"{picture.sample.path}: {picture.reason}")
        names.append(picture.sample.path.name)
        parts.append(picture.crops[0])
    if not parts:
        raise UsageError(f"no face was found in {', '.join(without)}: give other pictures")
    crops = Crops.join(parts)
    name = next(iter(crops.views))
    turned = Crops({name: crops.views[name][..., ::-1]}, crops.present, crops.outside)
    years, swapped = (
        np.array([answer.years for answer in estimator.predict(shown)]) for shown in (crops, turned)
    )
    true = np.asarray(labels, np.float64)
    following = None
    if len(true) and np.ptp(years) > 0:
        following = float(spearmanr(years, true).statistic)
    others = [] if other is None else [answer.years for answer in other.predict(crops)]
    apart = None if other is None else _apart(years, np.array(others), estimator, other)
    stretched = [note for note in estimator.spec.notes if note.startswith("the view ")]
    faces = len({crop.tobytes() for crop in crops.views[name]})
    alike = _alike(years, swapped, faces)
    found = _wrong(years, swapped, true, None if alike else following)
    return SpecCheck(
        tuple(names),
        years,
        swapped,
        true,
        following,
        np.array(others, np.float64),
        tuple(without),
        (*filter(None, [alike]), *found, *filter(None, [apart]), *stretched),
        crops.views[name],
    )


def _alike(years: Floats, swapped: Floats, faces: int) -> str:
    """Return that all ages are about the same, "" if they are not or there is only one face.

    Args:
        years: the ages.
        swapped: with red and blue exchanged.
        faces: number of different ones.
    """
    ages = years if faces > 2 else np.concatenate([years, swapped])
    spread = float(np.ptp(ages))
    if faces < 2 or spread >= (LEAST_SPREAD_YEARS if faces > 2 else SAME_YEARS):
        return ""
    return (
        f"{'both' if len(years) == 2 else f'all {len(years)}'} ages lie within {spread:.2f} years: "
        "mean, scale or the part of the output is probably wrong"
    )


def _wrong(years: Floats, swapped: Floats, true: Floats, following: float | None) -> list[str]:
    """Return what looks wrong about the ages, one sentence each."""
    found = []
    if following is not None and following < LEAST_FOLLOWING:
        found.append(
            f"predicted ages hardly rise with true ages (rank correlation {following:.2f}, "
            "working models reach 0.8 or more): mean, scale, the crop or the part of the output "
            "is probably wrong"
        )
    limited = int(np.count_nonzero((years <= 0) | (years >= MAX_AGE_YEARS)))
    if limited > MANY_LIMITED * len(years):
        found.append(
            f"{limited} of {len(years)} ages were limited to 0 to {MAX_AGE_YEARS:g} years: the "
            "output's scale or offset is probably wrong"
        )
    if len(true):
        mae_years, swapped_mae = (float(np.abs(ages - true).mean()) for ages in (years, swapped))
        if swapped_mae < CLEARLY_BETTER * mae_years:
            found.append(
                f"with red and blue exchanged the error is {swapped_mae:.1f} years instead of "
                f"{mae_years:.1f}: channel_order should probably be the other one"
            )
    return found


def _apart(years: Floats, others: Floats, estimator: Estimator, other: Estimator) -> str:
    """Return that two runtimes predict different ages, "" if they agree."""
    largest = float(np.abs(years - others).max())
    if largest <= SAME_YEARS:
        return ""
    first, second = estimator.spec.runtime.runtime, other.spec.runtime.runtime
    return (
        f"under {second} the ages differ by up to {largest:.1f} years from those under {first}: "
        "one of them computes this model wrongly; compare both with the model's own library "
        "([golden])"
    )


def by_decade(check: SpecCheck) -> dict[str, tuple[int, float]]:
    """Return the number of labelled pictures per decade, and their mean predicted age."""
    decades = (check.true_years // 10).astype(int)
    return {
        f"{10 * decade} to {10 * decade + 9}": (
            int((decades == decade).sum()),
            round(float(check.years[decades == decade].mean()), 1),
        )
        for decade in np.unique(decades).tolist()
    }


def sheet(check: SpecCheck) -> Image:
    """Return a picture of the network's inputs, up to eight per row, with the ages below."""
    tiles = []
    for crop, years in zip(check.crops, check.years, strict=True):
        height, width = crop.shape[:2]
        wide = max(1, round(TILE_PX * width / height))
        tile = np.full((TILE_PX + 22, wide + 4, 3), 255, np.uint8)
        tile[:TILE_PX, :wide] = cv2.resize(crop, (wide, TILE_PX), interpolation=cv2.INTER_NEAREST)
        place, font = (2, TILE_PX + 16), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(tile, f"{years:.1f}", place, font, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    rows = [np.concatenate(tiles[start : start + 8], axis=1) for start in range(0, len(tiles), 8)]
    wide = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, wide - row.shape[1]), (0, 0)), constant_values=255) for row in rows
    ]
    return np.concatenate(padded, axis=0)
