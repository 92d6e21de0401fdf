"""Predictions of the bundled network with subsets of its views, for faces altered in several ways.

Used by view_gain.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx.utils import Extractor

from agebench.estimators.multicrop_resnet import FILE
from agebench.metrics.calibration import score_distributions
from agebench.modelfiles.weights import resolve
from agebench.protocols import Dataset, FaceDetector
from agebench.runtimes.age_file import feeds_of
from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.onnx_metadata import AGE, PRESENT, PROBABILITIES
from agebench.runtimes.onnx_reading import read_age_file
from agebench.runtimes.opening import open_model
from agebench.types import Crops, FaceFrame, Floats, Image
from agebench.vision.crops import cut_crops
from agebench.vision.faces import FacePicture, LeftOut, face_pictures
from agebench.vision.images import MAX_PIXELS
from agebench.vision.variants import parse_variant
from benchmarks.drawn_covers import with_mask, with_sunglasses

VIEWS = ("face", "eyes", "mouth")
SUBSETS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "all": (1, 1, 1),
        "face": (1, 0, 0),
        "face+eyes": (1, 1, 0),
        "face+mouth": (1, 0, 1),
        "eyes+mouth": (0, 1, 1),
        "eyes": (0, 1, 0),
        "mouth": (0, 0, 1),
    }
)
AT_ONCE = 16

Change = Callable[[Image, FaceFrame, str], Image]


def _variant(text: str) -> Change:
    return lambda image_bgr, frame, name: parse_variant(text).apply(image_bgr, frame, name, 0)[0]


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "as it is": lambda image_bgr, _frame, _name: image_bgr,
        "face-px=48": _variant("face-px=48"),
        "face-px=32": _variant("face-px=32"),
        "cover-mouth": _variant("cover-mouth"),
        "mask": lambda image_bgr, frame, _name: with_mask(image_bgr, frame),
        "cover-eyes": _variant("cover-eyes"),
        "sunglasses": lambda image_bgr, frame, _name: with_sunglasses(image_bgr, frame),
    }
)
"""The alterations; those from `agebench.vision.variants` have the same names as there."""


class SplitNetwork:
    """The bundled network in two parts, so that each view is processed once for all subsets."""

    def __init__(self) -> None:
        file = read_age_file(resolve(FILE).path)
        self.spec, self.sha256 = file.spec, file.sha256
        parts = Extractor(onnx.shape_inference.infer_shapes(onnx.load_from_string(file.data)))
        self._backbones = _opened(parts, VIEWS, ("features",))
        self._joint = _opened(parts, ("features", PRESENT), (AGE, PROBABILITIES))

    def answers(self, crops: Crops) -> tuple[Floats, Floats]:
        """Return ages (n, subsets) and probabilities (n, subsets, bins) for n faces."""
        features = self._backbones.run(feeds_of(crops, VIEWS, with_present=False))["features"]
        ages, probabilities = [], []
        for there in SUBSETS.values():
            present = np.tile(np.array(there, np.float32)[:, None, None], (len(crops), 1, 1, 1))
            found = self._joint.run({"features": features, PRESENT: present})
            ages.append(found[AGE].reshape(len(crops)))
            probabilities.append(found[PROBABILITIES])
        return np.stack(ages, 1).astype(float), np.stack(probabilities, 1).astype(float)


def _opened(parts: Extractor, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    data = parts.extract_model(list(inputs), list(outputs)).SerializeToString()
    source = ModelSource("onnx", Path(FILE), outputs=tuple(outputs), data=data)
    return open_model(source, runtime="onnxruntime")


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions for n faces, each altered in several ways.

    Attributes:
        true_years: shape (n,).
        people: the identity of each face; None if unknown.
        years: shape (n, changes, subsets).
        widths: of the central 80 % interval with all views, years, shape (n, changes).
        left_out: a description of the pictures without a face or a view.
    """

    true_years: Floats
    people: tuple[str | None, ...]
    years: Floats
    widths: Floats
    left_out: str = ""

    @property
    def errors(self) -> Floats:
        """Predicted minus true, shape (n, changes, subsets)."""
        return self.years - self.true_years[:, None, None]


def ask(dataset: Dataset, detector: FaceDetector, network: SplitNetwork) -> Answers:
    """Return the answers for all faces in a data set for which all views can be cut."""
    left_out, rows = LeftOut(), []
    pictures = face_pictures(
        dataset.samples, detector, [network.spec.crop], workers=1, max_pixels=MAX_PIXELS
    )
    usable = (picture for picture in left_out.watch(pictures) if picture.complete)
    people, ages = [], []
    for batch in _batches(usable):
        rows.append(_ask_batch(batch, network))
        people += [picture.sample.identity for picture in batch]
        ages += [picture.sample.age_years for picture in batch]
        print(f"{dataset.spec.name}: {len(people)} of {len(dataset.samples)}", flush=True)
    years, widths = (np.concatenate(columns) for columns in zip(*rows, strict=True))
    true_years = np.array(ages, np.float64)
    return Answers(true_years, tuple(people), years, widths, str(left_out).strip(" ()"))


def _batches(pictures: Iterable[FacePicture]) -> Iterator[list[FacePicture]]:
    rest = iter(pictures)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch


def _ask_batch(pictures: Sequence[FacePicture], network: SplitNetwork) -> tuple[Floats, Floats]:
    parts = []
    for picture in pictures:
        image_bgr, frame = picture.required()
        for change in CHANGES.values():
            changed = change(image_bgr, frame, picture.sample.name)
            parts.append(cut_crops(changed, [frame], network.spec.crop))
    years, probabilities = network.answers(Crops.join(parts))
    nothing = np.full(len(years), np.nan)
    scored = score_distributions(probabilities[:, 0], network.spec.age_bins, nothing)
    widths = np.diff(scored.intervals[0.8], axis=1)
    shape = (len(pictures), len(CHANGES))
    return years.reshape(*shape, -1), widths.reshape(shape)


_NUMBERS = ("true_years", "years", "widths")


def kept(file: Path, network: SplitNetwork, make: Callable[[], Answers]) -> Answers:
    """Return the answers cached in `file` for these weights and changes, or make and cache them."""
    made_by = {"sha256": network.sha256, "changes": list(CHANGES)}
    if file.is_file():
        with np.load(file) as arrays:
            about = json.loads(str(arrays["about"]))
            if made_by.items() <= about.items():
                numbers = {name: arrays[name] for name in _NUMBERS}
                return Answers(people=tuple(about["people"]), left_out=about["left_out"], **numbers)
    made = make()
    about = {**made_by, "people": made.people, "left_out": made.left_out}
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = {name: getattr(made, name) for name in _NUMBERS}
    np.savez_compressed(file, about=json.dumps(about), **numbers)
    return made
