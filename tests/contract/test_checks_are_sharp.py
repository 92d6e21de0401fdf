"""The contract checks catch estimators and detectors that are wrong on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agebench.errors import ContractError
from agebench.protocols import DetectorSpec, EstimatorSpec
from agebench.testing import check_detector, check_estimator
from agebench.types import (
    FIVE_POINTS,
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    Floats,
    Image,
    ViewSpec,
)

BINS = AgeBins((0, 60), (59, 100))
SPEC = EstimatorSpec(
    "right", CropSpec({"face": ViewSpec("face", (6, 5))}), "mean", bins=BINS, classes=BINS
)


def _shares(crops: Crops) -> list[Floats]:
    dark = crops.views["face"].mean(axis=(1, 2, 3)) / 255
    return [np.array([share, 1 - share]) for share in dark]


class Right:
    """Keeps every promise: the darker, the older."""

    def __init__(self) -> None:
        self.spec: Any = SPEC

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(100 * float(share[1]), share) for share in _shares(crops)]


class _Duck:
    def __init__(self, years: float) -> None:
        self.years, self.probabilities = years, None


class MarksAllPresent(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        crops.present["face"][:] = False
        return super().predict(crops)


class ForgetsWhatLiesOutside(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        crops.outside["face"][:] = 0.5
        return super().predict(crops)


class OlderInLargeBatches(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        more = 3 * (len(crops) > 8)
        return [
            AgePrediction(min(100.0, answer.years + more), answer.probabilities)
            for answer in super().predict(crops)
        ]


class NeedsEveryView(Right):
    def __init__(self) -> None:
        view = ViewSpec("face", (6, 5))
        self.spec = replace(SPEC, crop=CropSpec({"face": view, "mouth": view}))

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        assert all(flags.all() for flags in crops.present.values())
        return super().predict(crops)


class NotANumber(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        answers = list(super().predict(crops))
        for answer in answers[2:3]:
            object.__setattr__(answer, "years", float("nan"))
        return answers


class RefusedNumber(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(float("nan")) for _ in range(len(crops))]


class BareNumbers(Right):
    def predict(self, crops: Crops, /) -> Any:
        return [_Duck(answer.years) for answer in super().predict(crops)]


class OneTooFew(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return super().predict(crops)[:-1]


class NothingForNobody(Right):
    def predict(self, crops: Crops, /) -> Any:
        return super().predict(crops) if len(crops) else [AgePrediction(1.0, np.eye(2)[0])]


class CrashesOnNobody(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        assert crops.views["face"][0].any()
        return super().predict(crops)


class Generator(Right):
    def predict(self, crops: Crops, /) -> Any:
        return (answer for answer in super().predict(crops))


class Reversed(Right):
    """Sorts by darkness: right for one, wrong for many."""

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return sorted(super().predict(crops), key=lambda answer: answer.years)


class Backwards(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return super().predict(crops)[::-1]


class BatchDependent(Right):
    """Normalises by the batch, as a network left in training mode does."""

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        shares = _shares(crops)
        middle = np.mean([share[1] for share in shares]) if shares else 0
        return [AgePrediction(50 + 20 * (share[1] - middle), share) for share in shares]


class ChangesCrops(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        answers = super().predict(crops)
        crops.views["face"][...] //= 2
        return answers


class Stateful(Right):
    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        self._calls += 1
        answers = super().predict(crops)
        return [
            AgePrediction(answer.years * 0.99**self._calls, answer.probabilities)
            for answer in answers
        ]


class SharedBuffer(Right):
    """Keeps its input in itself, which two threads then share."""

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        self._crops = crops
        time.sleep(0.01)
        return super().predict(self._crops)


class OneThreadOnly(Right):
    def __init__(self) -> None:
        super().__init__()
        self._home = threading.get_ident()

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        if threading.get_ident() != self._home:
            raise RuntimeError("wrong thread")
        return super().predict(crops)


class TooManyBins(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(answer.years, np.full(3, 1 / 3)) for answer in super().predict(crops)]


class NoDistribution(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(answer.years) for answer in super().predict(crops)]


class UnannouncedDistribution(Right):
    def __init__(self) -> None:
        self.spec = replace(SPEC, bins=None, classes=None)


class ShufflesShares(Right):
    """The years are right, the distribution belongs to a neighbour."""

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        answers = super().predict(crops)
        return [
            AgePrediction(answer.years, other.probabilities)
            for answer, other in zip(answers, answers[::-1], strict=True)
        ]


class ChangingSpec(Right):
    @property
    def spec(self) -> EstimatorSpec:
        self._reads = getattr(self, "_reads", 0) + 1
        return replace(SPEC, settings={"reads": self._reads})

    @spec.setter
    def spec(self, _value: EstimatorSpec) -> None:
        pass


class SpecFollowsData(Right):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        self.spec = replace(SPEC, notes=("used",))
        return super().predict(crops)


class NoSpec:
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return []


class OtherSpec(Right):
    def __init__(self) -> None:
        self.spec = {"name": "mine"}


class Nameless(Right):
    def __init__(self) -> None:
        self.spec = replace(SPEC, name="")


class Undecoded(Right):
    def __init__(self) -> None:
        self.spec = replace(SPEC, decode="")


class ClassesWithoutBins(Right):
    def __init__(self) -> None:
        self.spec = replace(SPEC, bins=None)


WRONG_ESTIMATORS: list[tuple[Callable[[], Any], str]] = [
    (NotANumber, "years must be finite, got nan"),
    (MarksAllPresent, "must not fail, got ValueError: assignment destination is read-only"),
    (ForgetsWhatLiesOutside, "must not fail, got ValueError: assignment destination is read-only"),
    (OlderInLargeBatches, "a large batch: ages differ by up to 3.0"),
    (NeedsEveryView, "predict of 5 faces must not fail, got AssertionError"),
    (RefusedNumber, "predict of 5 faces must not fail, got ValueError: age must be"),
    (BareNumbers, "must return AgePrediction values, got _Duck"),
    (OneTooFew, "5 faces must give 5 predictions, got 4"),
    (NothingForNobody, "0 faces must give 0 predictions, got 1"),
    (CrashesOnNobody, "predict of 0 faces must not fail, got IndexError"),
    (Generator, "predict of 0 faces must not fail, got TypeError"),
    (Reversed, "one by one against a batch: ages differ"),
    (Backwards, "one by one against a batch: ages differ"),
    (BatchDependent, "one by one against a batch: ages differ"),
    (ChangesCrops, "must not fail, got ValueError: output array is read-only"),
    (Stateful, "same crops again: ages differ"),
    (SharedBuffer, "from several threads"),
    (OneThreadOnly, "must not fail, got RuntimeError: wrong thread"),
    (TooManyBins, "expected 2 probabilities (spec.bins), got 3"),
    (NoDistribution, "spec.bins promises a distribution, the prediction has none"),
    (UnannouncedDistribution, "a prediction with probabilities needs spec.bins"),
    (ShufflesShares, "one by one against a batch: probabilities differ"),
    (ChangingSpec, "spec must not change from one reading to the next"),
    (SpecFollowsData, "predict must not change the spec"),
    (NoSpec, "an estimator needs `spec` and `predict`"),
    (OtherSpec, "spec must be an EstimatorSpec, got <class 'dict'>"),
    (Nameless, "spec.name must not be empty"),
    (Undecoded, "spec.decode must say how years are computed"),
    (ClassesWithoutBins, "an estimator with classes needs bins"),
]


def test_the_right_estimator_passes() -> None:
    check_estimator(Right())


@pytest.mark.parametrize(("make", "said"), WRONG_ESTIMATORS)
def test_wrong_estimators_are_caught(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_estimator(make())
    assert said in str(caught.value)


DETECTOR = DetectorSpec("right", FIVE_POINTS)


class RightDetector:
    """Keeps every promise: the brightest and the darkest pixel are faces."""

    def __init__(self) -> None:
        self.spec: Any = DETECTOR

    def detect(self, image_bgr: Image, /) -> Any:
        gray = image_bgr.sum(axis=2, dtype=np.int64)
        found = []
        for score, index in ((0.9, int(gray.argmax())), (0.5, int(gray.argmin()))):
            y, x = divmod(index, gray.shape[1])
            points = tuple((x + step / 10, float(y)) for step in range(5))
            found.append(Face((x - 1.0, y - 1.0, x + 1.0, y + 1.0), score, points, FIVE_POINTS))
        return found


class WorstFirst(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        return super().detect(image_bgr)[::-1]


class PaintsThePicture(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        found = super().detect(image_bgr)
        image_bgr[0, 0] ^= 255
        return found


class NeedsToWrite(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        first = image_bgr[0, 0].copy()
        image_bgr[0, 0] = 0
        image_bgr[0, 0] = first
        return super().detect(image_bgr)


class ReadsRawMemory(RightDetector):
    """Takes the memory for the picture, and a view into a larger array for another one."""

    def detect(self, image_bgr: Image, /) -> Any:
        base = image_bgr if image_bgr.base is None else image_bgr.base
        return super().detect(np.asarray(base))


class UnannouncedLandmarks(RightDetector):
    def __init__(self) -> None:
        self.spec = replace(DETECTOR, landmark_scheme="")


class CrashesOnAPixel(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        assert image_bgr[:, ::2].std() >= 0
        return super().detect(image_bgr[1:]) if len(image_bgr) == 1 else super().detect(image_bgr)


class BareBoxes(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        return [face.box_xyxy for face in super().detect(image_bgr)]


class SaysNone(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        return None


class Wavering(RightDetector):
    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def detect(self, image_bgr: Image, /) -> Any:
        self._calls += 1
        face = super().detect(image_bgr)[0]
        left, top, right, bottom = face.box_xyxy
        return [replace(face, box_xyxy=(left, top, right + 0.1 * self._calls, bottom))]


class WaveringPoints(RightDetector):
    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def detect(self, image_bgr: Image, /) -> Any:
        self._calls += 1
        face = super().detect(image_bgr)[0]
        moved = tuple((x + self._calls, y) for x, y in face.landmarks_xy)
        return [replace(face, landmarks_xy=moved)]


class SharedInput(RightDetector):
    """Keeps the picture in itself, as `cv2.dnn.Net.setInput` does."""

    def detect(self, image_bgr: Image, /) -> Any:
        self._input = image_bgr
        time.sleep(0.01)
        return super().detect(self._input)


class SpecOfTheLastPicture(RightDetector):
    def detect(self, image_bgr: Image, /) -> Any:
        self.spec = replace(DETECTOR, settings={"size": len(image_bgr)})
        return super().detect(image_bgr)


class NamelessDetector(RightDetector):
    def __init__(self) -> None:
        self.spec = replace(DETECTOR, name="")


class NoDetect:
    spec = DETECTOR


WRONG_DETECTORS: list[tuple[Callable[[], Any], str]] = [
    (WorstFirst, "faces must come with the best score first"),
    (PaintsThePicture, "detect changed the picture"),
    (NeedsToWrite, "must not fail, got ValueError: assignment destination is read-only"),
    (ReadsRawMemory, "a view into a larger array: expected"),
    (UnannouncedLandmarks, "spec says landmarks '', a face has '5-point'"),
    (CrashesOnAPixel, "detect on a picture of 1x1 pixels must not fail, got ValueError"),
    (BareBoxes, "detect must return Face values, got <class 'tuple'>"),
    (SaysNone, "detect on a picture of 1x1 pixels must not fail, got TypeError"),
    (Wavering, "same picture again: expected"),
    (WaveringPoints, "same picture again: expected"),
    (SharedInput, "from several threads"),
    (SpecOfTheLastPicture, "detect must not change the spec"),
    (NamelessDetector, "spec.name must not be empty"),
    (NoDetect, "a detector needs `spec` and `detect`"),
]


def test_the_right_detector_passes(astronaut_bgr: Image) -> None:
    check_detector(RightDetector())
    check_detector(RightDetector(), astronaut_bgr)


@pytest.mark.parametrize(("make", "said"), WRONG_DETECTORS)
def test_wrong_detectors_are_caught(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_detector(make())
    assert said in str(caught.value)
