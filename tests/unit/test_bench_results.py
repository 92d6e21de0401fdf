"""The result files: schema, hashes, and nothing half-written."""

from __future__ import annotations

import copy
import csv
import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from PIL import Image as PillowImage
from rich.console import Console

from agebench.datasets.base import SampleList
from agebench.errors import AgebenchError, ContractError, UsageError, WeightsUnavailableError
from agebench.harness import results
from agebench.harness.compare import compare
from agebench.harness.prediction_rows import CSV_COLUMNS
from agebench.harness.reading import measured
from agebench.harness.results import CompareResult, prepare_folder
from agebench.harness.settings import CompareSettings
from agebench.metrics.age_classes import ADIENCE_CLASSES as ADIENCE
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.report.joining import join
from agebench.report.terminal_grids import full_grids, grid_table
from agebench.report.terminal_tables import print_result
from agebench.types import (
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    Image,
    Problem,
    Sample,
    Setting,
    ViewSpec,
)
from agebench.util.files import write_whole
from agebench.util.locks import alone_in

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text())


class Whole:
    def __init__(self) -> None:
        self.spec = DetectorSpec("whole")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        height, width = image_bgr.shape[:2]
        return [] if width == 1 else [Face((0.0, 0.0, float(width), float(height)), 1.0)]


class Classes:
    """Eight classes, always 25-32."""

    def __init__(self, name: str = "classes", **settings: Setting) -> None:
        crop = CropSpec({"face": ViewSpec("face", (4, 4))})
        self.spec = EstimatorSpec(
            name, crop, "midpoint", bins=ADIENCE, classes=ADIENCE, settings=settings
        )

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(28.5, np.eye(8)[4])] * len(crops)


class Broken(Classes):
    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        raise RuntimeError("broken")


def _sample(folder: Path, name: str, size: int, **labels: Any) -> Sample:
    path = folder / name
    PillowImage.fromarray(np.full((size, size, 3), 90, np.uint8)).save(path, "PNG")
    labels = {"age_years": 30.0, **labels}
    return Sample(path, name, **labels)


@pytest.fixture
def dataset(tmp_path: Path) -> SampleList:
    text = tmp_path / "d, \u00e9\u2603.jpg"
    text.write_text("no picture")
    samples = [
        _sample(tmp_path, "a.png", 20, identity="ann", attributes={"gender": "female"}),
        _sample(tmp_path, "b.png", 20, identity="bob", age_years=22.5),
        _sample(tmp_path, "c.png", 1),
        Sample(text, text.name, 4.0),
        _sample(tmp_path, "e.png", 20, age_years=None, age_range=(60, 100)),
    ]
    problems = (Problem("x.jpg", "no age"),)
    return SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples), problems)


def _run(dataset: SampleList, out: Path | None = None, **settings: Any) -> CompareResult:
    return compare(
        [Classes(), Broken("broken"), "constant"],
        dataset,
        detector=Whole(),
        out=out,
        settings=CompareSettings(**{"latency_pictures": 2, **settings}),
    )


def _no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not a valid JSON number")


def _strict(text: str) -> Any:
    content = json.loads(text, parse_constant=_no_constant)
    jsonschema.Draft202012Validator(
        SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(content)
    return content


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("latency_pictures", [0, 2])
def test_a_written_result_fits_the_schema(
    dataset: SampleList, tmp_path: Path, latency_pictures: int
) -> None:
    _run(dataset, tmp_path / "out", latency_pictures=latency_pictures)
    content = _strict((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    names = [item["name"] for item in content["estimators"]]
    assert names == ["classes", "broken", "constant"]
    # |28.5-30| and |28.5-22.5|; 22 is in the gap between two classes
    assert content["estimators"][0]["mae_years"] == pytest.approx((1.5 + 6) / 2)
    # 30 and the range 60-100, which lies in one class
    assert content["estimators"][0]["classes"]["n"] == 2
    assert content["estimators"][0]["classes"]["exact"] == 0.5
    assert content["estimators"][0]["ranges"]["distance_years"] == 31.5
    assert content["estimators"][1]["mae_years"] is None
    counts = {"total": 5, "common_subset": 3, "several_faces": 0, "taken_over": 0}
    assert content["counts"] == counts
    assert bool(content["shared_latency"]) == bool(latency_pictures)
    assert content["pictures"][3]["picture"] == "d, \u00e9\u2603.jpg"


def test_skipped_estimators_fit_the_schema_and_come_last(
    dataset: SampleList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(reference: str) -> Classes:
        if reference == "away":
            raise WeightsUnavailableError("nowhere")
        return Classes(reference)

    monkeypatch.setattr("agebench.registry.plugins.load_estimator", load)
    monkeypatch.setattr("agebench.harness.loading.require_registered", lambda *_: None)
    result = compare(
        ["away", "here"],
        dataset,
        detector=Whole(),
        out=tmp_path / "out",
        settings=CompareSettings(skip_unavailable=True, latency_pictures=1),
    )
    content = _strict((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    here, away = content["estimators"]
    assert (here["name"], away["name"], away["unavailable_reason"]) == ("here", "away", "nowhere")
    assert content["pictures"][0]["predictions"]["here"]["years"] == 28.5
    assert "away" not in (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")
    print_result(result, Console(file=io.StringIO()))


def test_every_name_and_type_counts(dataset: SampleList) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    good = json.loads(json.dumps(_run(dataset).to_json()))
    assert validator.is_valid(good)
    breaks: list[Callable[[Any], Any]] = [
        lambda content: content.pop("detector"),
        lambda content: content.update(extra=1),
        lambda content: content["estimators"][0].update(mae_years="4.2"),
        lambda content: content["estimators"][0]["errors"].pop("rmse_years"),
        lambda content: content["estimators"][0]["errors"].update(mae=1),
        lambda content: content["estimators"][0].update(available=False),
        lambda content: content["pictures"][0].update(status="fine"),
        lambda content: content["pictures"][0]["predictions"]["classes"].update(years=None),
        lambda content: content["pictures"][0]["predictions"]["classes"].update(outside=1.5),
        lambda content: content["pictures"][0].update(box_xyxy=[1, 2, 3]),
        lambda content: content["shared_latency"].pop("decode"),
        lambda content: content["estimators"][0]["latency"]["infer"].update(p50_ms=-1),
    ]
    for break_it in breaks:
        bad = json.loads(json.dumps(good))
        break_it(bad)
        assert not validator.is_valid(bad)


def test_the_documentation_names_every_field() -> None:
    page = Path(__file__).parents[2] / "docs" / "result-schema.md"
    text = page.read_text(encoding="utf-8")
    pending, names = [SCHEMA], set()
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            names |= set(node.get("properties", {}))
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_predictions_csv_fits_its_hash_and_its_columns(dataset: SampleList, tmp_path: Path) -> None:
    _run(dataset, tmp_path / "out")
    table = (tmp_path / "out" / "predictions.csv").read_bytes()
    content = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert content["predictions_sha256"] == hashlib.sha256(table).hexdigest()
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8"), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 5 * 3
    assert [row["estimator"] for row in rows[:3]] == ["classes", "broken", "constant"]
    first, second, last = rows[0], rows[1], rows[-1]
    assert (first["picture"], first["true_years"], first["predicted_years"]) == (
        "a.png",
        "30.0",
        "28.5",
    )
    assert (first["box_left"], first["box_bottom"], first["status"]) == ("0.0", "20.0", "ok")
    assert (second["status"], second["predicted_years"]) == ("estimator_failed", "")
    assert second["reason"] == "RuntimeError: broken"
    assert (last["true_years"], last["true_range"]) == ("", "60-100")
    unreadable = next(row for row in rows if row["picture"] == "d, \u00e9\u2603.jpg")
    assert unreadable["status"] == "unreadable"


def test_equal_data_has_an_equal_hash(dataset: SampleList) -> None:
    first, again = (_run(dataset).about["dataset"]["content_sha256"] for _ in range(2))
    assert first == again
    (dataset.samples[3].path).write_text("another text")
    assert _run(dataset).about["dataset"]["content_sha256"] != first


def test_figures_do_not_depend_on_batches_or_workers(dataset: SampleList) -> None:
    def figures(batch_size: int, workers: int) -> Any:
        result = _run(dataset, batch_size=batch_size, decode_threads=workers, latency_pictures=0)
        content = result.to_json()
        return content["pictures"], [item["errors"] for item in content["estimators"] if item]

    expected = figures(1, 0)
    assert all(figures(n, workers) == expected for n in (7, 32) for workers in (0, 2))


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_half_written(
    dataset: SampleList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    result = _run(dataset)
    out.mkdir()
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(AgebenchError, match=r"predictions\.csv.*No space left"):
        result.save(out)
    assert list(out.iterdir()) == []


def test_a_full_disk_spares_the_result_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "result.json"
    write_whole(target, "the old one")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(AgebenchError):
        write_whole(target, "the new one")
    assert target.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "result.json", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_is_no_number_is_a_sentence(dataset: SampleList, tmp_path: Path) -> None:
    with pytest.raises(AgebenchError, match="not a finite number"):
        compare(
            [Classes(alpha=float("nan"))],
            dataset,
            detector=Whole(),
            out=tmp_path / "out",
            settings=CompareSettings(latency_pictures=0),
        )
    assert not (tmp_path / "out").exists()


def test_a_command_that_is_no_unicode_is_written_as_escapes(
    dataset: SampleList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["agebench", "\udcff"])
    _run(dataset, tmp_path / "out")
    content = _strict((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert content["command"] == ["agebench", "\udcff"]


def test_output_folders_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        with pytest.raises(AgebenchError, match=r"can't be written to.*--out"):
            prepare_folder(folder)
    (tmp_path / "out" / "result.json").mkdir(parents=True)
    with pytest.raises(AgebenchError, match="holds a folder named result"):
        prepare_folder(tmp_path / "out")
    with pytest.raises(AgebenchError, match="can't be written to"):
        prepare_folder(tmp_path / "nul\0byte")


def test_two_runs_are_not_in_one_folder(dataset: SampleList, tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(AgebenchError, match="another run is at work in"):
        _run(dataset, tmp_path)
    _run(dataset, tmp_path)
    assert {path.name for path in tmp_path.glob("*.*")} >= {"result.json", "predictions.csv"}
    assert not (tmp_path / ".lock").exists()


def test_preparing_leaves_nothing_behind(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_ranges_that_lie_in_one_class_are_judged_by_class(tmp_path: Path) -> None:
    # Right, next to it, in two classes, partly in none, wrong.
    ranges = [(25, 32), (38, 43), (38, 48), (8, 23), (60, 100)]
    samples = [
        _sample(tmp_path, f"{number}.png", 20, age_years=None, age_range=bounds)
        for number, bounds in enumerate(ranges)
    ]
    dataset = SampleList(DatasetSpec("groups", "apparent"), tuple(samples))
    result = compare(
        [Classes(), "constant"],
        dataset,
        detector=Whole(),
        settings=CompareSettings(latency_pictures=0),
    )
    score = result.estimators[0].score
    assert score is not None
    assert score.classes == ClassAccuracy(3, 0, 0, 1 / 3, 2 / 3)
    text = io.StringIO()
    print_result(result, Console(file=text, width=120), full=True)
    (row,) = [line for line in text.getvalue().splitlines() if "classes" in line and "33.3" in line]
    assert "66.7" in row
    short = io.StringIO()
    print_result(result, Console(file=short, width=120))  # the ranking has no figure to show
    assert "years to the range" in short.getvalue()


def test_all_tables_are_printed(dataset: SampleList) -> None:
    text = io.StringIO()
    print_result(_run(dataset), Console(file=text, width=120), full=True)
    shown = text.getvalue()
    for part in ("3.75", "broken", "Against age ranges", "p50 / p90 / p99", "x.jpg: no age"):
        assert part in shown
    assert "d, \u00e9\u2603.jpg" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"sample": 0},
        {"limit": 1, "sample": 1},
        {"seed": -1},
        {"batch_size": 0},
        {"decode_threads": -1},
        {"threads": 0},
        {"threads": 2**31},
        {"latency_pictures": -1},
        {"max_pixels": 0},
    ],
)
def test_settings_out_of_range_are_usage_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CompareSettings(**wrong)


def test_the_table_of_times_says_what_ran_each_row(dataset: SampleList) -> None:
    result = _run(dataset)
    about = copy.deepcopy(dict(result.about))
    about["detector"]["runtime"] |= {"runtime": "cv2dnn", "device": "opencl"}
    text = io.StringIO()
    joined = join([measured(replace(result, about=about))])
    (times,) = (grid for grid in full_grids(joined) if grid.caption.startswith("Milliseconds"))
    Console(file=text, width=120).print(grid_table(times))
    rows = {line.strip("│ ").partition(" ")[0]: line for line in text.getvalue().splitlines()}
    assert "cv2dnn opencl" in rows["detect"]
    assert "python cpu" in rows["constant"]
    assert "cpu" not in rows["decode"]


def test_names_break_behind_hyphens_and_markup_in_them_is_text(dataset: SampleList) -> None:
    joined = join([measured(_run(dataset))])
    entries = [
        replace(entry, label=f"long-named-[red]net-{at}") for at, entry in enumerate(joined.entries)
    ]
    (decades,) = (
        grid_table(grid)
        for grid in full_grids(replace(joined, entries=tuple(entries)))
        if grid.caption.startswith("MAE by decade")
    )
    assert "(of fewer than 20 pictures: \u2013)" in str(decades.title)
    text = io.StringIO()
    Console(file=text, width=60).print(decades)
    assert "long-" in text.getvalue()
    assert "[red]net-" in text.getvalue()
    wide = io.StringIO()
    Console(file=wide, width=200).print(decades)
    assert "long-named-[red]net-0" in wide.getvalue()


def test_a_spec_that_no_result_can_hold_stops_before_anything_runs(dataset: SampleList) -> None:
    odd = Classes()
    odd.spec = replace(odd.spec, licence=cast("str", None))
    told = r"its spec can't be written to a result: licence: expected text, got None"
    with pytest.raises(ContractError, match=told):
        compare([odd], dataset, detector=Whole(), settings=CompareSettings(latency_pictures=0))
