"""The one pass over faces: which face is meant, and what everybody counts a bad picture as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from agebench.datasets.base import SampleList
from agebench.errors import DatasetError, ImageError, RunEndsError, UsageError
from agebench.estimators.constant import Constant
from agebench.fitting.frames import fit_frame
from agebench.fitting.labelled_crops import cut_samples
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.harness.settings import CompareSettings
from agebench.harness.spec_check import check_described
from agebench.prediction.predictor import AgePredictor
from agebench.protocols import DatasetSpec, DetectorSpec, no_progress
from agebench.timing.sweep_faces import real_faces
from agebench.types import FIVE_POINTS, CropSpec, Face, FaceFrame, Image, Sample, ViewSpec
from agebench.vision import faces as faces_module
from agebench.vision.faces import LeftOut, LeftOutError, cut_faces, face_pictures, find_faces
from agebench.vision.images import encode_png

SMALL, LARGE = (4.0, 4.0, 20.0, 24.0), (24.0, 8.0, 56.0, 50.0)
SPEC = CropSpec({"face": ViewSpec("face", (8, 8))})
EAR = CropSpec({"face": ViewSpec("ear", (8, 8))})
MAX_PIXELS = 10_000

in_turn = partial(face_pictures, workers=0, max_pixels=MAX_PIXELS)


class UnprintableError(RuntimeError):
    """Of someone whose message can't be made."""

    def __str__(self) -> str:
        raise ValueError("no words")


class TwoFaces:
    """Two faces; none in a black picture; fails on a white one, and worse on a grey one."""

    spec = DetectorSpec("two-faces", FIVE_POINTS)

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        shade = int(image_bgr[0, 0, 0])
        if shade == 255:
            raise RuntimeError("boom")
        if shade == 128:
            raise UnprintableError
        return [] if shade == 0 else [Face(SMALL, 0.9), Face(LARGE, 0.8)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """One picture of each kind, the last with a labelled box."""
    root = tmp_path_factory.mktemp("faces")
    shades = {"good": 60, "none": 0, "boom": 255, "worse": 128, "box": 60, "away": 60}
    for name, shade in shades.items():
        (root / name).write_bytes(encode_png(np.full((64, 64, 3), shade, np.uint8)))
    (root / "text").write_text("words")
    boxes = {"box": SMALL, "away": (60.0, 60.0, 63.0, 63.0)}
    return [Sample(root / name, name, 30.0, box_xyxy=boxes.get(name)) for name in (*shades, "text")]


EXPECTED = {
    "good": ("ok", "", LARGE, 2),
    "none": ("no_face", "the detector found no face", None, 0),
    "boom": ("detector_failed", "detector 'two-faces': RuntimeError: boom", None, 0),
    "worse": (
        "detector_failed",
        "detector 'two-faces': UnprintableError: (its message is not available)",
        None,
        0,
    ),
    "box": ("ok", "", SMALL, 2),
    "away": ("no_face", "the detector found no face where the label's box is", None, 0),
    "text": ("unreadable", "expected a picture, got a file of unknown format", None, 0),
}


def test_every_picture_has_its_status_its_reason_and_the_face_that_is_meant(
    samples: list[Sample],
) -> None:
    seen = list(face_pictures(samples, TwoFaces(), [SPEC], workers=2, max_pixels=MAX_PIXELS))
    assert {
        item.sample.name: (
            item.status,
            item.reason,
            None if item.face is None else item.face.box_xyxy,
            item.found,
        )
        for item in seen
    } == EXPECTED
    assert [item.complete for item in seen] == [item.status == "ok" for item in seen]
    assert [len(item.crops) for item in seen] == [1, 0, 0, 0, 1, 0, 0]
    for item in seen:
        if item.status != "ok":
            with pytest.raises(LeftOutError, match=r"^" + item.reason[:12]) as caught:
                item.required()
            assert caught.value.status == item.status


def test_compare_fitting_prediction_and_bench_see_the_same_faces(samples: list[Sample]) -> None:
    detector, estimator = TwoFaces(), Constant(30.0)
    how = PassSettings(32, 0, MAX_PIXELS)
    records = [one for group in run_accuracy(samples, detector, [estimator], how) for one in group]
    assert {
        one.sample.name: (one.status, one.reason, one.box_xyxy, one.faces) for one in records
    } == EXPECTED
    left_out = LeftOut()
    settings = CompareSettings(decode_threads=0)
    fitted = cut_samples(SPEC, detector, samples, settings, no_progress, "fit", left_out)
    good = [name for name, expected in EXPECTED.items() if expected[0] == "ok"]
    assert [item.sample.name for item, _ in fitted] == good
    assert str(left_out) == (
        " (2 no_face, none: the detector found no face; 2 detector_failed, boom: detector "
        "'two-faces': RuntimeError: boom; 1 unreadable, text: expected a picture, got a file of "
        "unknown format)"
    )
    timed = real_faces(samples, detector, [estimator], origin="these", max_pixels=MAX_PIXELS)
    assert list(timed.names) == good
    predictor = AgePredictor(estimator, detector=detector)
    for sample in samples:
        answer = predictor.predict_one(sample.path, sample.name)
        status, reason = EXPECTED[sample.name][:2]
        if answer.status == "ok":  # every face is wanted, and none is no failure
            assert [found.face.box_xyxy for found in answer.faces] in ([], [SMALL, LARGE])
        else:
            assert (answer.status, answer.reason.removeprefix(f"{sample.path}: ")) == (
                status,
                reason,
            )


def test_training_sees_the_same_faces_and_lists_the_others(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
    from agebench.train import face_cache

    real = face_cache.cache_face

    def breaks(image_bgr: Image, frame: FaceFrame, *rest: object) -> face_cache.CachedFace:
        if frame.box_xyxy == SMALL:
            raise RuntimeError("too odd")
        return real(image_bgr, frame, *rest)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(face_cache, "cache_face", breaks)
    in_order = tuple(sorted(samples, key=lambda item: item.name))
    listed = SampleList(DatasetSpec("made-up", "apparent"), in_order, ())
    gathered = face_cache.gather_faces(listed, TwoFaces(), SPEC, workers=0)
    assert gathered.names == ("good",)
    assert {item.name: item.reason for item in gathered.problems} == {
        "none": "the detector found no face",
        "boom": "the detector failed: detector 'two-faces': RuntimeError: boom",
        "worse": "the detector failed: "
        "detector 'two-faces': UnprintableError: (its message is not available)",
        "box": "RuntimeError: too odd",
        "away": "the detector found no face where the label's box is",
        "text": "expected a picture, got a file of unknown format",
    }
    unlabelled = [replace(item, age_years=None) for item in in_order]
    gathered = face_cache.gather_faces(replace(listed, samples=tuple(unlabelled)), TwoFaces(), SPEC)
    assert {item.reason for item in gathered.problems if item.name != "text"} == {"it has no age"}


def test_one_failure_of_a_detector_ends_neither_bench_nor_the_fit_of_a_frame(
    samples: list[Sample],
) -> None:
    bad = [item for item in samples if item.name in ("boom", "text")]
    said = (
        r"\(1 detector_failed, boom: detector 'two-faces': RuntimeError: boom; 1 unreadable, text: "
        "expected"
    )
    with pytest.raises(DatasetError, match=said):
        real_faces(bad, TwoFaces(), [Constant(30.0)], origin="these", max_pixels=MAX_PIXELS)
    for reference in (detector := TwoFaces(), TwoFaces()):
        with pytest.raises(DatasetError, match=f"face in 0 of 2 pictures.*{said}"):
            fit_frame(detector, reference, bad, max_pixels=MAX_PIXELS)


def test_check_spec_names_the_picture_that_it_failed_on(samples: list[Sample]) -> None:
    paths = {item.name: item.path for item in samples}
    failed = "detector 'two-faces': RuntimeError: boom"
    for name, reason in (("boom", failed), ("text", "expected a picture")):
        with pytest.raises(ImageError, match=f"{name}: {reason}"):
            check_described(Constant(30.0), [paths["good"], paths[name]], TwoFaces())
    with pytest.raises(UsageError, match=r"no face.* none"):
        check_described(Constant(30.0), [paths["none"]], TwoFaces())


def test_every_face_is_meant_unless_a_label_says_which() -> None:
    picture = np.full((64, 64, 3), 60, np.uint8)
    every = find_faces(TwoFaces(), picture, every=True)
    assert [face.box_xyxy for face in every.faces] == [SMALL, LARGE]
    assert [frame.box_xyxy for frame in every.frames] == [SMALL, LARGE]
    labelled = find_faces(TwoFaces(), picture, every=True, labelled_xyxy=SMALL)
    assert [face.box_xyxy for face in labelled.faces] == [SMALL]
    assert (len(every.faces), every.found, labelled.found) == (2, 2, 2)


def test_what_is_cut_comes_from_the_changed_picture(samples: list[Sample]) -> None:
    def darker(sample: Sample, image_bgr: Image, frame: FaceFrame) -> tuple[Image, FaceFrame]:
        assert sample.name == "good"
        return image_bgr // 2, frame

    (seen,) = in_turn(samples[:1], TwoFaces(), [SPEC], change=darker)
    assert seen.image_bgr is not None
    assert seen.image_bgr.max() == 60
    assert seen.crops[0].views["face"].max() == 30


def test_faces_that_are_known_are_asked_for_by_the_hash_of_the_file(samples: list[Sample]) -> None:
    asked: list[str] = []

    def known(_detector: object, sha256: str, _image: Image) -> list[Face]:
        asked.append(sha256)
        return [Face(SMALL, 1.0)]

    (seen,) = in_turn(samples[:1], TwoFaces(), find=known)
    assert asked == [seen.decoded.sha256]
    assert seen.face == Face(SMALL, 1.0)

    def lost(_detector: object, _sha256: str, _image: Image) -> list[Face]:
        raise RunEndsError("the file is gone")

    with pytest.raises(RunEndsError, match="gone"):
        list(in_turn(samples[:1], TwoFaces(), find=lost))


def test_a_picture_of_an_odd_shape_is_left_out_and_a_wrong_spec_ends_the_run(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown region 'ear'"):
        list(in_turn(samples[:1], TwoFaces(), [EAR]))

    def breaks(*_: object) -> list[object]:
        raise ValueError("odd")

    monkeypatch.setattr(faces_module, "cut_shared", breaks)
    (seen,) = in_turn(samples[:1], TwoFaces(), [SPEC])
    assert (seen.status, seen.reason, seen.found) == ("crop_failed", "ValueError: odd", 2)
    assert seen.face == Face(LARGE, 0.8)
    with pytest.raises(LeftOutError, match="odd"):
        cut_faces(np.zeros((8, 8, 3), np.uint8), [], [SPEC])


def test_without_a_detector_pictures_are_only_decoded(samples: list[Sample]) -> None:
    seen = in_turn(samples, None)
    assert [item.status for item in seen] == [*["ok"] * 6, "unreadable"]


def test_a_path_that_a_message_names_is_not_shown(samples: list[Sample], tmp_path: Path) -> None:
    absent = replace(samples[0], path=tmp_path / "gone.png", name="gone")
    (seen,) = in_turn([absent], TwoFaces())
    assert (seen.status, seen.reason) == ("unreadable", "can't be read: No such file or directory")
