"""The bundled sample: whole, small, of many faces each, and called what it is everywhere."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from agebench import load_dataset, load_detector
from agebench.cli.main import main
from agebench.datasets import sample as sample_module
from agebench.datasets.names import parse_utkface
from agebench.errors import DatasetError, UsageError
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import DatasetSpec
from agebench.registry import defaults
from agebench.registry.defaults import choose_detector
from agebench.types import Floats, Problem
from agebench.vision.faces import chosen_face
from agebench.vision.images import read_image

ROOT = Path(__file__).parents[2]
FOLDER = bundled_dir() / "sample"
LIMIT_BYTES = 1_500_000
WARNING = "FOR DEMONSTRATION AND TESTS ONLY"


def _rows() -> list[dict[str, str]]:
    with (FOLDER / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_listed_without_a_root() -> None:
    sample = load_dataset("sample")
    assert 60 <= len(sample.samples) <= 100
    assert sample.spec.aligned
    assert sample.spec.label_kind == "dex-estimated"
    assert WARNING in sample.spec.notes[0]
    assert "non-commercial" in sample.spec.licence
    assert not sample.problems
    with pytest.raises(UsageError, match="leave the root out"):
        load_dataset("sample", Path())


def test_it_covers_all_decades_up_to_ninety_and_both_genders() -> None:
    samples = load_dataset("sample").samples
    decades = Counter(int(item.age_years or 0) // 10 for item in samples)
    assert set(decades) == set(range(9))
    genders = Counter(item.attributes["gender"] for item in samples)
    assert min(genders["female"], genders["male"]) >= 25
    assert genders.total() == len(samples)


def test_every_picture_is_a_chip_and_all_are_small() -> None:
    for item in load_dataset("sample").samples:
        assert read_image(item.path).shape == (200, 200, 3)
    files = list(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < LIMIT_BYTES
    listed = {row["image"] for row in _rows()} | {"labels.csv", "README.md"}
    assert {file.name for file in files} == listed


def test_labels_keep_to_the_rule() -> None:
    """The mean lies between the sources' ages, which are within 1 year of it (3 above 60)."""
    for row in _rows():
        label, youngest, oldest = (float(row[name]) for name in ("age", "youngest", "oldest"))
        assert int(row["sources"]) >= 12
        spread = 3 if youngest > 60 else 1
        assert 0 <= label - youngest <= spread + 5e-4
        assert 0 <= oldest - label <= spread + 5e-4
        # A mean of twelve whole numbers.
        assert abs(label * 12 - round(label * 12)) < 0.01


def test_no_name_of_a_source_is_in_the_package() -> None:
    for name in ("labels.csv", "README.md"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"\d+_[01]_[0-4]_\d{14,}", text)
    for file in FOLDER.glob("*.jpg"):
        assert isinstance(parse_utkface(file.name), Problem)
        assert b"Exif" not in file.read_bytes()


def test_the_record_says_that_no_source_stands_out() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "sample.json").read_text("utf-8"))
    assert record["used_of_other_parts"] == record["faces"]["used_twice"] == 0
    assert record["protocol"]["name"] == "utkface-full"
    assert record["protocol"]["part"] == "test"
    assert {item["image"] for item in record["composites"]} == {row["image"] for row in _rows()}
    for item in record["composites"]:
        assert item["sources"] >= 12
        # A twelfth is 0.0833.
        assert 0.07 < item["least_share"] <= item["greatest_share"] < 0.1
        assert item["unexplained_gray_levels"] < 2


def test_the_card_says_what_it_is() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for said in ("demonstration", "utkface-full", "test part", "seed 0", "non-commercial", "12"):
        assert said in card
    for row in _rows():
        assert f"| {row['image']} | {row['gender']} | {float(row['age']):.1f} |" in card


@pytest.mark.shared
def test_faces_lie_as_in_utkface(shared_weights: Path) -> None:
    """Eyes at about 29 % of the height, mouth at about 69 %, upright and in the middle."""
    assert shared_weights.is_dir()
    detector = load_detector("yolov8-face")
    places = []
    for item in load_dataset("sample").samples[::6]:
        faces = detector.detect(read_image(item.path))
        assert faces, item.name
        face = chosen_face(faces)
        assert face is not None
        places.append(np.array(face.landmarks_xy))
    points: Floats = np.mean(places, axis=0) / 200
    eyes, mouth = points[:2], points[3:]
    assert eyes[:, 1].mean() == pytest.approx(0.29, abs=0.02)
    assert mouth[:, 1].mean() == pytest.approx(0.69, abs=0.03)
    assert eyes[:, 0].mean() == pytest.approx(0.48, abs=0.03)
    assert abs(eyes[0, 1] - eyes[1, 1]) < 0.02


@pytest.mark.parametrize(
    "row",
    [
        "gone.jpg,30,male",
        "../labels.csv,30,male",
        "labels.csv,old,male",
        "labels.csv,-3,male",
        "labels.csv,nan,male",
        "labels.csv,30,",
    ],
)
def test_a_damaged_package_is_one_sentence(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "labels.csv").write_text(f"image,age,gender\n{row}\n")
    monkeypatch.setattr(sample_module, "bundled_dir", lambda: tmp_path)
    with pytest.raises(DatasetError, match="reinstall agebench"):
        sample_module.load()


def test_a_missing_table_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "bundled_dir", lambda: tmp_path)
    with pytest.raises(DatasetError, match="from the installation: reinstall"):
        sample_module.load()


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(exited.value.code, int)
    return exited.value.code, captured.out, " ".join(captured.err.split())


# All that is said is what was chosen by nobody; but two pictures are timed instead of twenty.
ALONE = """
import sys
sys.modules["torch"] = None
import socket
def refused(*given, **named):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = refused
from agebench.timing import latency
latency.WARM_UP_PICTURES = 1
choose = latency.choose_pictures
latency.choose_pictures = lambda face, count, seed: choose(face, min(count, 2), seed)
from agebench.cli import main
main(["compare"])
"""


def test_nothing_said_compares_our_models_without_network_and_torch(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AGEBENCH_MIRROR"}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", ALONE],
        cwd=tmp_path,
        env={**environment, "AGEBENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / defaults.DEMO_FOLDER).iterdir()}
    assert written == {"result.json", "predictions.csv", "report.html", "run.toml"}
    assert WARNING in done.stdout
    assert "Detector: aligned (the pictures of sample are aligned chips" in done.stdout
    out = tmp_path / defaults.DEMO_FOLDER
    result: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert WARNING in result["dataset"]["notes"][0]
    assert result["detector"]["chosen_because"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert WARNING in page
    assert "Faces were found by aligned: the pictures of sample are aligned chips" in page
    names = [line.split(",")[0] for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    assert names
    assert all(name.startswith("composite_") for name in names)
    maes = {item["name"]: item["mae_years"] for item in result["estimators"]}
    assert list(maes) == list(defaults.ESTIMATORS)
    # Composites, without the wrinkles that age is told by, change the order of real faces.
    order = ("multicrop-resnet-small", "multicrop-resnet", "caffe-age-net-utkface", "constant")
    assert sorted(maes, key=lambda name: maes[name]) == list(order)
    assert all(item["seen_in_training"]["count"] == 0 for item in result["estimators"][:3])


def test_the_constant_is_off_by_what_the_labels_say(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = _run(
        ["compare", "constant", "years=40", "--json", "--latency-pictures", "0"], capsys
    )
    assert code == 0
    ages: npt.NDArray[np.float64] = np.array([float(row["age"]) for row in _rows()])
    figure = json.loads(printed)["estimators"][0]["mae_years"]
    assert figure == pytest.approx(np.abs(ages - 40).mean(), abs=1e-9)


def test_a_root_without_a_data_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, err = _run(["compare", "constant", "--root", "pictures"], capsys)
    assert (code, printed) == (2, "")
    assert "--root needs --dataset" in err


def test_a_named_detector_is_taken_and_needs_no_reason(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "constant", "--dataset", "demo", "--detector", "haar"]
    code, printed, _ = _run([*arguments, "--json", "--latency-pictures", "0"], capsys)
    assert code == 0
    detector = json.loads(printed)["detector"]
    assert (detector["reference"], detector["chosen_because"]) == ("haar", "")


@pytest.mark.parametrize(("aligned", "expected"), [(True, "aligned"), (False, "yolov8-face")])
def test_the_detector_follows_the_layout(aligned: bool, expected: str) -> None:
    spec = DatasetSpec("mine", "unknown", aligned=aligned)
    name, why = choose_detector(None, spec)
    assert name == expected
    assert why
    assert choose_detector("yunet", spec) == ("yunet", "")
