"""The programs of docs/answers.md, run with stand-ins for the packages that they call.

A stand-in takes what the real one takes and nothing else: as of deepface 0.0.103, MiVOLO's
repository (mivolo/predictor.py, mivolo/structures.py) and botocore 1.44 (the model of Rekognition).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from agebench import compare
from agebench.datasets.csv_list import load
from agebench.estimators.answers_table import read_answers_table
from agebench.harness.settings import CompareSettings
from agebench.protocols import DetectorSpec
from agebench.types import Face, Image

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


class DeepFace:
    """Two faces: a small one of 60 years, and the large one of 20."""

    @staticmethod
    def analyze(
        img_path: Any,
        actions: Sequence[str] = ("emotion", "age", "gender", "race"),
        enforce_detection: bool = True,
        detector_backend: str = "opencv",
        align: bool = True,
        expand_percentage: int = 0,
        silent: bool = False,
        anti_spoofing: bool = False,
    ) -> list[dict[str, Any]]:
        assert Path(img_path).is_file()
        assert set(actions) <= {"emotion", "age", "gender", "race"}
        sys.stdout.write("chatter, which must not get into the file\n")
        eyes = {"left_eye": None, "right_eye": None}
        return [
            {"age": 60, "region": {"x": 0, "y": 0, "w": 6, "h": 8, **eyes}, "face_confidence": 0.9},
            {"age": 20, "region": {"x": 8, "y": 8, "w": 22, "h": 26, **eyes}},
        ]


class Predictor:
    """A person without an age, and the face of 20 years."""

    def __init__(self, config: Any, verbose: bool = False) -> None:
        for name in ("detector_weights", "device", "checkpoint"):
            assert isinstance(getattr(config, name), str)
        assert not config.draw
        assert not config.disable_faces
        assert config.with_persons

    def recognize(self, image: Image) -> tuple[Any, None]:
        assert image.dtype == np.uint8
        boxes = {"person": [0], "face": [1, 2]}
        places = np.array([[0, 0, 40, 40], [8, 8, 30, 34], [0, 0, 5, 5]], np.int32)
        found = SimpleNamespace(
            ages=[33.0, 20.0, None],
            get_bboxes_inds=lambda category: boxes[category],
            get_bbox_by_ind=lambda ind: places[ind],
        )
        return found, None


class Client:
    """Two faces, of which the higher one is 18 to 22 years."""

    @staticmethod
    def detect_faces(**asked: Any) -> dict[str, Any]:
        assert asked.keys() == {"Image", "Attributes"}
        assert asked["Image"].keys() == {"Bytes"}
        assert asked["Image"]["Bytes"].startswith(b"\x89PNG")
        assert set(asked["Attributes"]) <= {"DEFAULT", "ALL", "AGE_RANGE", "GENDER"}
        box = {"Left": 0.1, "Top": 0.1, "Width": 0.2}
        return {
            "FaceDetails": [
                {"AgeRange": {"Low": 60, "High": 70}, "BoundingBox": {**box, "Height": 0.1}},
                {"AgeRange": {"Low": 18, "High": 22}, "BoundingBox": {**box, "Height": 0.6}},
            ]
        }


def stand_in(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


STAND_INS = {
    "deepface": stand_in("deepface", DeepFace=DeepFace),
    "mivolo": stand_in("mivolo"),
    "mivolo.predictor": stand_in("mivolo.predictor", Predictor=Predictor),
    "boto3": stand_in("boto3", client=lambda name: {"rekognition": Client}[name]),
}


class Middle:
    """Finds the face that all of them find."""

    spec = DetectorSpec(name="middle")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        return [Face((8.0, 8.0, 30.0, 34.0), 0.9)]


def test_the_page_has_three_programs() -> None:
    assert len(PROGRAMS) == 3


@pytest.mark.parametrize("program", PROGRAMS, ids=["deepface", "mivolo", "service"])
def test_its_file_is_scored(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.png", "b, with a comma.png"]
    for name in names:
        picture = np.full((40, 40, 3), 7 * len(name), np.uint8)
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    (tmp_path / "list.csv").write_text("path;age\n" + "".join(f"{name};25\n" for name in names))
    for name, module in STAND_INS.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["answers.py", *(str(tmp_path / name) for name in names)])
    exec(compile(program, str(PAGE), "exec"), {"__name__": "__main__"})  # noqa: S102 - our page
    (file,) = (path for path in tmp_path.glob("*.csv") if path.name != "list.csv")
    assert read_answers_table(file).problems == ()
    result = compare(
        [f"answers:{file}"],
        load(tmp_path / "list.csv"),
        detector=Middle(),
        settings=CompareSettings(latency_pictures=0, decode_threads=0),
    )
    (scored,) = result.estimators
    assert result.common == 2
    assert scored.mae_years == 5.0
    assert scored.score is not None
    assert scored.score.failed == 0
