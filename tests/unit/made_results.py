"""Results that are made up: what their JSON is made of, and how it becomes records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agebench.harness.analysis import AnalysisSettings, analyse
from agebench.harness.columns import columns_of
from agebench.harness.contents import Result
from agebench.metrics.error_summary import summarise
from agebench.timing.ratios import compare_speeds, measure_control
from agebench.types import plain
from agebench.util.typed_records import read_record

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
    "decode_threads": 2,
    "threads": None,
    "latency_pictures": 20,
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


def stage_json(samples: npt.ArrayLike) -> dict[str, Any]:
    """Return the times of one stage."""
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


def timing_json(estimators: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
        "control": plain(control),
        "comparisons": plain(compare_speeds(samples, 1, control, number=pairs)),
    }


def spec_json(name: str) -> dict[str, Any]:
    """Return what an estimator is."""
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


def errors_json(true: Any, predicted: Any, people: Sequence[str | None]) -> dict[str, Any]:
    """Return the errors in years of some ages."""
    content: dict[str, Any] = plain(summarise(true, predicted, clusters=people))
    return content


def estimator_json(
    name: str, true: Any, predicted: Any, people: Sequence[str | None]
) -> dict[str, Any]:
    """Return the entry of an estimator."""
    times = np.random.default_rng(len(name)).gamma(50.0, len(name) / 50, 20)
    errors = errors_json(true, predicted, people)
    return {
        "name": name,
        "available": True,
        "unavailable_reason": "",
        "mae_years": errors["mae_years"],
        "spec": spec_json(name),
        "latency": {
            "crop": stage_json(times / 10),
            "infer": stage_json(times),
            "total": stage_json(times * 1.1 + 2),
        },
        "scored": len(true),
        "missed": 0,
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


def outcome_json(years: float, true: float, believes: bool) -> dict[str, Any]:
    """Return what an estimator said of a picture."""
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


def image_json(name: str, true: float, person: str | None) -> Any:
    """Return the entry of a picture, without attributes and predictions."""
    return {
        "picture": name,
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


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a result of which a test says a part; the rest is made up."""
    given = json.loads(json.dumps(content))
    dataset = {**DATASET, "content_sha256": "ab" * 32, **given.pop("dataset", {})}
    estimators = [
        {
            "unavailable_reason": "",
            "latency": {},
            **dict.fromkeys(("scored", "missed", "failed", "clipped"), 0),
            "errors": errors_json([], [], []),
            "own_errors": errors_json([], [], []),
            **dict.fromkeys(("classes", "ranges", "seen_in_training")),
            **item,
            "spec": None if item["spec"] is None else {**spec_json(item["name"]), **item["spec"]},
        }
        for item in ({"spec": {}, **item} for item in given.pop("estimators"))
    ]
    images = [
        {
            **image_json(f"{at}.jpg", 0.0, None),
            "attributes": {},
            **image,
            "predictions": {
                name: {"status": "ok", **said} for name, said in image["predictions"].items()
            },
        }
        for at, image in enumerate(given.pop("pictures"))
    ]
    return {
        "schema_version": 4,
        "created": "2026-01-02T03:04:05+00:00",
        "command": [],
        "environment": ENVIRONMENT,
        "detector": DETECTOR,
        "settings": SETTINGS,
        "counts": {"total": len(images), "common_subset": 0, "several_faces": 0},
        "shared_latency": {},
        **given,
        "dataset": dataset,
        "estimators": estimators,
        "pictures": images,
    }


def whole(content: Mapping[str, Any]) -> Result:
    """Return the record of such a result."""
    return read_record(completed(content), Result)


def analysed(
    content: Mapping[str, Any], settings: AnalysisSettings | None = None
) -> dict[str, Any]:
    """Return the JSON of the statistics of such a result."""
    result = whole({name: value for name, value in content.items() if name != "analysis"})
    names = [item.name for item in result.estimators if item.available]
    columns = columns_of(result.pictures, names)
    seed = result.settings["seed"]
    found: dict[str, Any] = plain(
        analyse(columns, result.estimators, result.dataset, seed, settings)
    )
    return found
