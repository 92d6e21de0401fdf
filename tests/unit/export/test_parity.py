"""The gate: what passes is written with its report, what does not leaves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from agebench.errors import AgebenchError, ModelError
from agebench.export.candidate import Candidate
from agebench.export.parity import BATCHES, Tolerance, variants
from agebench.export.writing import export, proven
from agebench.runtimes.age_file import AgeFile, generated
from agebench.types import Crops


def test_an_equal_file_is_written_with_its_report(tiny: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    written = export(tiny, out)
    report = json.loads((tmp_path / "model.parity.json").read_text())
    assert report["passed"]
    assert report["spread_years"] > 1
    tried = {(row["runtime"]["runtime"], row["batch"], row["missing"]) for row in report["rows"]}
    assert tried == {
        (runtime, batch, missing)
        for runtime in ("onnxruntime", "cv2dnn")
        for batch in (1, 2, 7, 64)
        for missing in ("", "face", "mouth")
    }
    assert max(row["max_years"] for row in report["rows"]) < 1e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.parity.json"]
    assert written.size_bytes == out.stat().st_size


@pytest.mark.parametrize("where", ["all", "one face", "missing view"])
def test_a_differing_file_leaves_nothing(tiny: Candidate, tmp_path: Path, where: str) -> None:
    def other(crops: Crops) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        years = tiny.source(crops).copy()
        if where == "all":
            return years + 0.02
        if where == "one face":
            years[3] += 0.02
            return years
        return years + 0.02 * ~crops.present["mouth"]

    with pytest.raises(ModelError, match=r"up to 0\.02\d* years.*nothing was written"):
        export(replace(tiny, source=other), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_outlives_a_failed_export(tiny: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    export(tiny, out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError):
        export(replace(tiny, source=lambda crops: tiny.source(crops) + 1), out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_source_without_finite_ages_is_refused(tiny: Candidate, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="finite ages"):
        export(replace(tiny, source=lambda crops: np.full(len(crops), np.nan)), tmp_path / "m.onnx")


def test_given_crops_and_a_wider_tolerance_are_used(tiny: Candidate, tmp_path: Path) -> None:
    crops = generated(tiny.spec.crop, 5, seed=9)
    off = replace(tiny, source=lambda crops: tiny.source(crops) + 0.3)
    written = export(
        off, tmp_path / "m.onnx", crops=crops, described="five", tolerance=Tolerance(0.5, 0.5)
    )
    assert written.report is not None
    assert written.report.crops == "five"
    assert {row.faces for row in written.report.rows} == {5}
    assert {row.batch for row in written.report.rows} == set(BATCHES)


def test_without_the_check_no_report_is_left(tiny: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    export(tiny, out)
    export(replace(tiny, source=lambda _: np.zeros(0)), out, check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_faces_left_without_any_view_are_not_compared(tiny: Candidate) -> None:
    crops = generated(tiny.spec.crop, 4)
    only_face = np.array([True, False, False, True])
    present = {"face": np.ones(4, np.bool_), "mouth": ~only_face}
    part = Crops(crops.views, present, crops.outside)
    counts = {missing: len(found) for missing, found in variants(part, tiny.spec)}
    assert counts == {"": 4, "face": 2, "mouth": 4}


def test_withheld_marks_and_blackens_one_view(tiny: Candidate) -> None:
    crops = generated(tiny.spec.crop, 2).without("face")
    assert not crops.views["face"].any()
    assert not crops.present["face"].any()
    assert crops.present["mouth"].all()


def test_generated_crops_are_repeatable_and_varied(tiny: Candidate) -> None:
    first, again, other = (generated(tiny.spec.crop, 8, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.views["face"], again.views["face"])
    assert not np.array_equal(first.views["face"], other.views["face"])
    assert len(np.unique(first.views["face"].mean(axis=(1, 2, 3)))) == 8


def test_zero_faces_give_an_empty_answer(tiny: Candidate, tmp_path: Path) -> None:
    export(tiny, tmp_path / "m.onnx")
    years, shares = AgeFile(tmp_path / "m.onnx").answer(generated(tiny.spec.crop, 0))
    assert years.shape == (0,)
    assert shares.shape == (0, 3)


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", Mock(side_effect=OSError(28, "full")))
    with pytest.raises(AgebenchError, match="can't be written: full"):
        proven(b"x", "m.onnx", Mock())
