"""Fixtures that several of these tests share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from agebench.cli.main import main
from agebench.harness.analysis import analyse
from agebench.metrics.error_summary import summarise
from agebench.timing.ratios import compare_speeds, measure_control
from agebench.types import plain

MakeResult = Callable[..., dict[str, Any]]

TERMS: dict[str, Any] = {"licence": "CC0", "source": "", "citation": "A. Body, 2020", "notes": []}
RUNTIME = {"runtime": "python", "device": "cpu", "detail": "", "version": "3"}
ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.0",
    "system": "Linux",
    "processor": "made-up",
    "cores": 2,
    "memory_bytes": 2**33,
    "opencv_threads": 2,
    "packages": {"agebench": "0.1.0"},
}
SETTINGS: dict[str, Any] = {
    "limit": None,
    "sample": None,
    "seed": 0,
    "batch_size": 32,
    "workers": 2,
    "threads": None,
    "latency_images": 20,
    "max_pixels": 1000,
    "skip_unavailable": False,
    "protocol": None,
    "part": None,
}
DATASET: dict[str, Any] = {
    "name": "made-up",
    "label_kind": "birth-age",
    "aligned": False,
    **TERMS,
    "root": None,
    "protocol": "all pictures",
    "subset": "",
    "split": None,
    "problems": [],
}
DETECTOR: dict[str, Any] = {
    "reference": "whole",
    "chosen_because": "",
    "name": "whole",
    "landmark_scheme": "",
    "box_to_frame": {"dx": 0.0, "dy": 0.0, "height": 1.0},
    "layout": False,
    "weights": [],
    "runtime": RUNTIME,
    "runtime_proven": True,
    "settings": {},
    **TERMS,
}


def _stage(samples: npt.ArrayLike) -> dict[str, Any]:
    times = np.asarray(samples, np.float64)
    figures = dict(
        zip(("p50_ms", "p90_ms", "p99_ms"), np.percentile(times, (50, 90, 99)), strict=True)
    )
    return {
        "n": len(times),
        "mean_ms": float(times.mean()),
        **{name: float(value) for name, value in figures.items()},
        "samples_ms": [float(value) for value in times],
    }


def _timing(estimators: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Who is faster by the made-up times, on a machine that did nothing else."""
    samples = [(item["name"], item["latency"]["total"]["samples_ms"]) for item in estimators]
    name, times = samples[0]
    control = measure_control(name, 1, times, (np.asarray(times) * 1.001).tolist())
    pairs = len(samples) * (len(samples) - 1) // 2
    return {
        "load_average_before": [0.0, 0.0, 0.0],
        "load_average_after": [0.0, 0.0, 0.0],
        "others_processors": 0.0,
        "too_busy": "",
        "control": control.to_json(),
        "comparisons": [
            item.to_json() for item in compare_speeds(samples, 1, control, number=pairs)
        ],
    }


def _spec(name: str) -> dict[str, Any]:
    view = {
        "region": "face",
        "size_hw": [4, 4],
        "margin": 0.0,
        "margin_px": 0.0,
        "align": False,
        "border": "replicate",
        "max_outside": 1.0,
    }
    return {
        "name": name,
        "crop": {"views": {"face": view}},
        "decode": "expectation",
        "channel_order": "bgr",
        "mean": [0.0, 0.0, 0.0],
        "scale": 1.0,
        "bins": None,
        "classes": None,
        "weights": [],
        "trained_on": "",
        "label_kind": "unknown",
        "runtime": RUNTIME,
        "settings": {},
        **TERMS,
    }


def _errors(true: Any, predicted: Any, people: Sequence[str | None]) -> dict[str, Any]:
    summary = summarise(true, predicted, clusters=people)
    content: dict[str, Any] = plain(summary)
    interval = summary.mae_interval
    content["mae_interval"] = None if interval is None else [interval.low, interval.high]
    for part, decade in zip(content["by_decade"], summary.by_decade, strict=True):
        ends = decade.mae_interval
        part["mae_interval"] = None if ends is None else [ends.low, ends.high]
    return content


def _estimator(
    name: str, shown: dict[str, Any], true: Any, predicted: Any, people: Sequence[str | None]
) -> dict[str, Any]:
    times = np.random.default_rng(len(name)).gamma(50.0, len(name) / 50, 20)
    errors = _errors(true, predicted, people)
    return {
        "name": name,
        "available": True,
        "unavailable_reason": "",
        "mae_years": errors["mae_years"],
        "spec": _spec(name),
        "latency": {
            "crop": _stage(times / 10),
            "infer": _stage(times),
            "total": _stage(times * 1.1 + 2),
        },
        "scored": len(true),
        "missed": shown["missed"],
        "failed": 0,
        "clipped": 0,
        "errors": errors,
        "own_errors": errors,
        "classes": None,
        "ranges": None,
        "seen_in_training": None,
        "contamination": None,
        "unseen_errors": None,
        "unclipped_errors": None,
        "runtime_proven": True,
    }


def _outcome(years: float, true: float, believes: bool) -> dict[str, Any]:
    spread = dict.fromkeys(("nll", "crps_years", "pit"))
    ends = dict.fromkeys(("interval_50", "interval_80", "interval_95"))
    content = {"status": "ok", "years": years, "class_index": None, "outside": 0.0, "reason": ""}
    if not believes:
        return {**content, **spread, **ends}
    wide = {
        f"interval_{level}": [max(0.0, years - half), min(120.0, years + half)]
        for level, half in ((50, 3.0), (80, 6.0), (95, 12.0))
    }
    pit = min(max(0.5 + (true - years) / 40, 0.0), 1.0)
    return {**content, "nll": 3.0, "crps_years": abs(true - years) / 2, "pit": pit, **wide}


def _image(name: str, true: float, person: str | None) -> dict[str, Any]:
    return {
        "image": name,
        "sha256": hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest(),
        "true_years": true,
        "true_range": None,
        "identity": person,
        "status": "ok",
        "reason": "",
        "faces": 1,
        "box_xyxy": [0.0, 0.0, 4.0, 4.0],
        "detector_score": 1.0,
        "landmarks_xy": [],
        "landmark_scheme": "",
        "frame_from": "box",
    }


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return what it exits with, its output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main(list(map(str, arguments)))
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Make the JSON of a result that is right in itself.

    The arguments are the predictions by estimator (shape (n,); the first one gives a distribution
    too), true ages, names of the pictures, who they show and further labels; and what else is to
    stand in the data set's entry.  Without true ages there are 60 pictures of 1 to 60 years.
    """

    def make(
        predicted: Mapping[str, npt.ArrayLike] | None = None,
        true: Sequence[float] | None = None,
        images: Sequence[str] | None = None,
        people: Sequence[str | None] | None = None,
        attributes: Mapping[str, str] | None = None,
        **dataset: Any,
    ) -> dict[str, Any]:
        ages = np.arange(1.0, 61.0) if true is None else np.asarray(true, np.float64)
        if predicted is None:
            predicted = {"good": ages + np.resize([1.0, -1.0], len(ages)), "poor": 0 * ages + 30}
        names = images or [f"p{row:03d}.png" for row in range(len(ages))]
        who = people or [None] * len(ages)
        given = {name: np.asarray(years, np.float64) for name, years in predicted.items()}
        sha256 = hashlib.sha256(repr((names, ages)).encode()).hexdigest()
        content: dict[str, Any] = {
            "schema_version": 2,
            "created": "2026-01-02T03:04:05+00:00",
            "command": ["/somewhere/agebench", "compare", *given, "--root", "a b"],
            "environment": ENVIRONMENT,
            "dataset": {**DATASET, "content_sha256": sha256, **dataset},
            "detector": DETECTOR,
            "settings": SETTINGS,
            "pictures": {"total": len(ages), "common_subset": len(ages), "several_faces": 0},
            "shared_latency": {"decode": _stage([1.0] * 20), "detect": _stage([1.0] * 20)},
            "estimators": [
                _estimator(name, {"missed": 0}, ages, years, who) for name, years in given.items()
            ],
            "images": [
                {
                    **_image(name, float(ages[row]), who[row]),
                    "attributes": dict(attributes or {}),
                    "predictions": {
                        estimator: _outcome(float(years[row]), float(ages[row]), place == 0)
                        for place, (estimator, years) in enumerate(given.items())
                    },
                }
                for row, name in enumerate(names)
            ],
        }
        content["timing"] = _timing(content["estimators"])
        content["analysis"] = analyse(content)
        # Nothing is shared with the next one: tests change what they get.
        copied: dict[str, Any] = json.loads(json.dumps(content))
        return copied

    return make


@pytest.fixture
def write_result(tmp_path: Path, make_result: MakeResult) -> Callable[..., Path]:
    """Write such a result into a folder of its own below `tmp_path`; return the file."""

    def write(folder: str = "a", content: dict[str, Any] | None = None, **given: Any) -> Path:
        path = tmp_path / folder / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content or make_result(**given)), encoding="utf-8")
        return path

    return write


AGE_LIST_SETTINGS = """
epochs = 3
batch = 8
[data]
dataset = "csv"
root = "{folder}/list.csv"
protocol = "{folder}/split.csv"
detector = "aligned"
decode_threads = 0
[model]
dense = 16
youngest = 0
oldest = 90
[model.views.face]
region = "chip"
size_hw = [32, 32]
backbone = {{ depth = 10, width = 4, stochastic_depth = 0.1 }}
[model.views.mouth]
region = "mouth"
size_hw = [32, 32]
backbone = {{ depth = 10, width = 4 }}
[augment]
filters = {{ equalise = 0.1, jpeg = 0.1 }}
[stability]
min_epochs = 1000
"""


@pytest.fixture(scope="session")
def age_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a small data set to train on.

    It holds 40 made-up chips that are the brighter the older, list.csv with their ages,
    ranges.csv with decades instead for half of them, split.csv (24 train, 8 val, 8 test) and
    settings.toml for a tiny network over two views.
    """
    from PIL import Image

    folder = tmp_path_factory.mktemp("age-list")
    rng = np.random.default_rng(0)
    exact, ranges, parts = ["path,age"], ["path,age"], ["image,part"]
    for index in range(40):
        name, age = f"p{index:02d}.png", int(rng.integers(0, 90))
        coarse = rng.integers(0, 100, (5, 5, 3)) + age
        picture = Image.fromarray(coarse.astype(np.uint8))
        picture.resize((40, 40), Image.Resampling.BICUBIC).save(folder / name)
        decade = age // 10 * 10
        exact.append(f"{name},{age}")
        ranges.append(f"{name},{f'{decade}-{decade + 9}' if index % 2 else age}")
        parts.append(f"{name},{('train', 'train', 'train', 'val', 'test')[index % 5]}")
    for name, lines in (("list", exact), ("ranges", ranges), ("split", parts)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "settings.toml").write_text(AGE_LIST_SETTINGS.format(folder=folder.as_posix()))
    return folder
