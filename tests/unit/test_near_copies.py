"""Near copies of what a contender was trained on are told among the scored pictures."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from agebench import compare
from agebench.datasets.base import SampleList
from agebench.duplicates.look_search import Match, Query
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.duplicates.training_looks import LooksLike, looks_in
from agebench.errors import ImageError
from agebench.harness import contamination, near_copies, results
from agebench.harness.kept_detections import KeptDetections
from agebench.harness.near_copies import NearCopies, NearCopyWatch
from agebench.harness.records import ImageRecord
from agebench.harness.settings import CompareSettings
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec, no_progress
from agebench.report.terminal_tables import print_result
from agebench.splits.parts import Split
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image, Sample, ViewSpec
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2
from tests.unit.blobs import fine_blobs

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text())


def smaller(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA), np.uint8)


def turned(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


SCORED: dict[str, Callable[[], Image]] = {
    "same": lambda: fine_blobs(0),
    "smaller": lambda: smaller(fine_blobs(1)),
    "turned": lambda: turned(fine_blobs(2)),
    "cut": lambda: np.ascontiguousarray(fine_blobs(3)[5:-5, 5:-5]),
    "other": lambda: fine_blobs(9),
}


class Set:
    """Four training pictures, four scored ones, and a list with looks of the former."""

    def __init__(self, folder: Path) -> None:
        images = {f"train{seed}": fine_blobs(seed) for seed in range(4)}
        images |= {name: make() for name, make in SCORED.items()}
        samples, self.sha256 = [], {}
        for name, image in sorted(images.items()):
            data = encode_png(image)
            (folder / f"{name}.png").write_bytes(data)
            samples.append(Sample(folder / f"{name}.png", name, 30.0))
            self.sha256[name] = hashlib.sha256(data).hexdigest()
        self.dataset = SampleList(DatasetSpec("mine", "birth-age"), tuple(samples))
        hashes = [self.sha256[f"train{seed}"] for seed in range(4)]
        trained = TrainingHashes.of("mine/train", hashes)
        trained.write_looks_beside(folder, samples)
        (file,) = looks_in(folder)
        self.trained = replace(trained, looks=file.of(sorted(trained.prefixes)))

    def found(
        self,
        *trained: TrainingHashes | None,
        split: bool,
        kept: KeptDetections | None = None,
    ) -> list[NearCopies | None]:
        parts = {
            item.name: "test" if item.name in SCORED else "train" for item in self.dataset.samples
        }
        made = Split("x", parts, sha256=self.sha256) if split else None
        watch = NearCopyWatch(trained, self.dataset, made, kept)
        records = []
        for sample in self.dataset.samples:
            if sample.name in SCORED:
                records.append(ImageRecord(sample, sha256=self.sha256[sample.name]))
                watch.look(records[-1], read_image(sample.path))
        return watch.found(records, no_progress)


class Thirty:
    """Answers 30 years, and knows what it was trained on."""

    def __init__(self, trained: TrainingHashes) -> None:
        self.spec = EstimatorSpec("mine", CropSpec({"face": ViewSpec("face", (4, 4))}), "constant")
        self._trained = trained

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(30.0)] * len(crops)

    def training_hashes(self) -> TrainingHashes:
        return self._trained


class Whole:
    spec = DetectorSpec("whole")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        height, width = image_bgr.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return Set(tmp_path_factory.mktemp("pictures"))


def test_averages_of_faces_are_copies_of_none(pictures: Set) -> None:
    averages = SampleList(DatasetSpec("mine", "birth-age", averages=True), pictures.dataset.samples)
    watch = NearCopyWatch([pictures.trained], averages, None)
    assert not watch.needs_pixels
    assert watch.found([], no_progress) == [None]


def test_copies_are_told_by_their_looks_alone(pictures: Set) -> None:
    without = TrainingHashes.of("mine/train", [pictures.sha256["train1"]])
    assert pictures.found(None, pictures.trained, without, split=False) == [
        None,
        NearCopies(("cut", "smaller", "turned"), by_pixels=0),
        None,
    ]


def test_a_second_run_takes_the_looks_that_the_first_kept(
    pictures: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Image] = []

    def counting(image_bgr: Image) -> Query:
        looked.append(image_bgr)
        return Query.of(image_bgr)

    monkeypatch.setattr(near_copies, "Query", SimpleNamespace(of=counting))
    looks = pictures.trained.looks
    assert looks is not None
    fewer = [bytes.fromhex(pictures.sha256[f"train{seed}"][:16]) for seed in (1, 2)]
    other = TrainingHashes("fewer", frozenset(fewer), looks.only(fewer))
    file = tmp_path / "detections.sqlite"
    with KeptDetections(file) as kept:
        first = pictures.found(pictures.trained, split=True, kept=kept)
    assert len(looked) == 4, "all but the one whose very bytes were trained on"
    with KeptDetections(file) as kept:
        assert pictures.found(pictures.trained, split=True, kept=kept) == first
        assert len(looked) == 4
        (found,) = pictures.found(other, split=False, kept=kept)
        assert (kept.used, kept.added) == (0, 0), "these count faces alone"
    assert found == NearCopies(("smaller", "turned"))
    assert len(looked) == 9, "another list is searched anew"


def test_the_pixels_decide_where_they_are_at_hand(
    pictures: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = pictures.found(pictures.trained, split=True)
    assert found == NearCopies(("cut", "smaller", "turned"), by_pixels=3)

    def like_anything(_self: object, _pair: object) -> tuple[LooksLike, ...]:
        prefix = bytes.fromhex(pictures.sha256["train0"][:16])
        return (LooksLike(prefix, Match(0, 3, False)), LooksLike(prefix, Match(0, 3, True)))

    monkeypatch.setattr(type(pictures.trained.looks), "like", like_anything)
    (refuted,) = pictures.found(pictures.trained, split=True)
    assert refuted == NearCopies((), by_pixels=4), "looks alike, but the pixels differ"
    (believed,) = pictures.found(pictures.trained, split=False)
    assert believed == NearCopies(("cut", "other", "smaller", "turned"))


def test_a_training_picture_that_cannot_be_read_leaves_the_others(
    pictures: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_the_first(path: Path) -> Image:
        if path.stem == "train0":
            raise ImageError(f"{path} has gone")
        return read_image(path)

    def like(sure_bits: int) -> Callable[[object, object], tuple[LooksLike, ...]]:
        prefixes = [bytes.fromhex(pictures.sha256[f"train{seed}"][:16]) for seed in (0, 1)]
        found = (
            LooksLike(prefixes[0], Match(0, sure_bits, False)),
            LooksLike(prefixes[1], Match(1, 30, False)),
        )
        return lambda _self, _query: found

    monkeypatch.setattr(near_copies, "read_image", without_the_first)
    monkeypatch.setattr(type(pictures.trained.looks), "like", like(30))
    (found,) = pictures.found(pictures.trained, split=True)
    assert found == NearCopies(("smaller",), by_pixels=4), "train1 was looked at all the same"
    monkeypatch.setattr(type(pictures.trained.looks), "like", like(3))
    (sure,) = pictures.found(pictures.trained, split=True)
    assert sure == NearCopies(("cut", "other", "smaller", "turned"), by_pixels=4)


def test_who_is_sure_by_looks_is_not_counted_as_compared_by_pixels(
    pictures: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand = bytes.fromhex(pictures.sha256["train0"][:16])
    found = (LooksLike(at_hand, Match(0, 30, False)), LooksLike(b"elsewher", Match(1, 3, False)))
    monkeypatch.setattr(type(pictures.trained.looks), "like", lambda _self, _query: found)
    (told,) = pictures.found(pictures.trained, split=True)
    assert told == NearCopies(("cut", "other", "smaller", "turned"), by_pixels=0)


def test_a_result_tells_the_same_bytes_from_near_copies(pictures: Set, tmp_path: Path) -> None:
    scored = [item for item in pictures.dataset.samples if item.name in SCORED]
    dataset = SampleList(pictures.dataset.spec, tuple(scored))
    settings = CompareSettings(latency_pictures=0)
    result = compare(
        [Thirty(pictures.trained)], dataset, detector=Whole(), out=tmp_path, settings=settings
    )
    content = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(content, SCHEMA)
    (item,) = content["estimators"]
    assert item["seen_in_training"] == {
        "what": "mine/train",
        "count": 1,
        "pictures": ["same"],
        "near_copies": {
            "count": 3,
            "pictures": ["cut", "smaller", "turned"],
            "compared_by_pixels": 0,
        },
    }
    assert item["contamination"] == "trained on 1 of its 5 pictures and near copies of 3 more"
    assert item["unseen_errors"]["n"] == 1
    rows = csv.DictReader((tmp_path / "predictions.csv").open(encoding="utf-8"))
    told = {row["picture"]: row["seen_in_training"] for row in rows}
    assert told == {
        "same": "yes",
        "smaller": "near",
        "turned": "near",
        "cut": "near",
        "other": "no",
    }
    console = Console(file=StringIO(), width=200)
    print_result(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "! trained on 1 of its 5 pictures and near copies of 3 more: no verdict" in text


def test_few_near_copies_are_told_beside_the_figures(pictures: Set) -> None:
    """Below the share that leaves no verdict they are still said, with the error without them."""
    scored = [item for item in pictures.dataset.samples if item.name != "same"]
    looks = pictures.trained.looks
    trained = replace(TrainingHashes.of("mine/train", [pictures.sha256["train3"]]), looks=looks)
    dataset = SampleList(pictures.dataset.spec, tuple(scored))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "NEAR_FRACTION", 0.9)
        patch.setattr(TrainingHashes, "contains", lambda *_: False)
        result = compare(
            [Thirty(trained)],
            dataset,
            detector=Whole(),
            settings=CompareSettings(latency_pictures=0),
        )
        console = Console(file=StringIO(), width=200)
        print_result(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "was trained on near copies of 7 of its 8 pictures" in text
    assert "no verdict" not in text
