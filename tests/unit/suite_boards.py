"""Made-up leaderboards and suites for the tests of `agebench.suite`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from agebench.harness.contamination import why_contaminated
from agebench.harness.contents_setup import PublicDataset
from agebench.suite.board import BOARD_FILE, MODELS, SETS, Board, read_board
from agebench.suite.board_structure import SetFile
from agebench.suite.compact import FORMAT, stated_figures
from agebench.suite.packed import NO_FACE, as_years, pack_numbers
from agebench.util.typed_records import read_record

TERMS: dict[str, Any] = {"licence": "CC0", "source": "", "citation": "", "notes": []}
RUNTIME = {"runtime": "python", "device": "cpu", "detail": "", "version": "3"}
ENVIRONMENT = {
    "python": "3.11.0",
    "system": "Linux",
    "processor": "made-up",
    "cores": 2,
    "memory_bytes": 2**33,
    "opencv_threads": 1,
    "packages": {},
}
DETECTOR = {
    "reference": "whole",
    "chosen_because": "",
    "name": "whole",
    "weights": [],
    "runtime": RUNTIME,
    "settings": {},
    **TERMS,
}
DATA = "d" * 64


def made_set(
    key: str,
    true: Sequence[float] | None = None,
    *,
    ranges: Sequence[tuple[int, int]] | None = None,
    people: Sequence[int] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    changed: bool = False,
    kind: str = "birth-age",
) -> dict[str, Any]:
    """Return the file of a set."""
    count = len(true or ranges or ())
    coded = {}
    for name, values in (groups or {}).items():
        names = sorted(set(values))
        coded[name] = {"names": names, "codes": pack_numbers([names.index(one) for one in values])}
    return {
        "format": FORMAT,
        "key": key,
        "changed": changed,
        "title": f"The set {key}",
        "note": "",
        "dataset": {
            "name": key,
            "label_kind": kind,
            "aligned": False,
            **TERMS,
            "protocol": "all pictures",
            "subset": "",
            "split": None,
            "content_sha256": DATA,
        },
        "pictures": count,
        "true_years": None if true is None else pack_numbers([round(100 * age) for age in true]),
        "range_low": None if ranges is None else pack_numbers([low for low, _ in ranges]),
        "range_high": None if ranges is None else pack_numbers([high for _, high in ranges]),
        "people": None if people is None else pack_numbers(people),
        "groups": coded,
    }


def made_model(
    name: str,
    ages: Mapping[tuple[str, str], Sequence[float | None]],
    sets: Mapping[str, Mapping[str, Any]],
    trained_sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the file of a model; `sets` has those that its ages are of, "KEY.changed" too."""
    spec = {
        "name": name.partition(" ")[0],
        "crop": {"views": {}},
        "decode": "expectation",
        "channel_order": "bgr",
        "weights": [{"file": "net.onnx", "sha256": "a" * 64}],
        "trained_on": " and ".join(trained_sets),
        "trained_sets": list(trained_sets),
        "label_kind": "birth-age",
        "runtime": RUNTIME,
        "settings": {},
        **TERMS,
    }
    cells = []
    for (key, variant), given in ages.items():
        of = sets.get(f"{key}.changed", sets[key]) if variant else sets[key]
        numbers = np.array([NO_FACE if age is None else round(100 * age) for age in given])
        figures = stated_figures(numbers, as_years(numbers), *_labels(of))
        cells.append(
            {
                "set": key,
                "variant": variant,
                "spec": 0,
                "detector": 0,
                "environment": 0,
                "created": "2026-01-02T03:04:05+00:00",
                "seed": 0,
                "content_sha256": DATA,
                "pictures": len(given),
                "runtime_proven": True,
                "seen_in_training": None,
                "contamination": why_contaminated(
                    read_record(of["dataset"], PublicDataset), figures["scored"], None, trained_sets
                ),
                "years": pack_numbers(numbers),
                **figures,
            }
        )
    return {
        "format": FORMAT,
        "model": name,
        "title": f"The model {name}",
        "specs": [spec],
        "detectors": [DETECTOR],
        "environments": [ENVIRONMENT],
        "cells": cells,
    }


def _labels(content: Mapping[str, Any]) -> tuple[Any, list[Any], list[int | None]]:
    from agebench.suite.board import _set

    pictures = _set(read_record(content, SetFile))
    ends = zip(pictures.low_years.tolist(), pictures.high_years.tolist(), strict=True)
    bounds = [pair if pictures.of_ranges else None for pair in ends]
    people = pictures.clusters(np.arange(len(bounds)))
    return pictures.true_years, bounds, people or [None] * len(bounds)


def write_made(
    folder: Path,
    sets: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    missing: Mapping[str, Mapping[str, str]] | None = None,
    suspected: Mapping[str, Mapping[str, str]] | None = None,
) -> Board:
    """Write the files of a leaderboard, and read them."""
    for part in (SETS, MODELS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for one in sets:
        name = f"{one['key']}.changed" if one["changed"] else one["key"]
        (folder / SETS / f"{name}.json").write_text(json.dumps(one))
    listed = []
    for at, model in enumerate(models):
        (folder / MODELS / f"m{at}.json").write_text(json.dumps(model))
        entry = {"name": model["model"], "title": model["title"], "file": f"m{at}"}
        entry |= {"missing": (missing or {}).get(model["model"], {})}
        doubts = (suspected or {}).get(model["model"])
        listed.append(entry if doubts is None else {**entry, "suspected": doubts})
    keys = [one["key"] for one in sets if not one["changed"]]
    board = {
        "format": FORMAT,
        "title": "Made up",
        "sets": keys,
        "empty_sets": [{"key": "later", "title": "The set of later"}] if missing else [],
        "models": listed,
    }
    (folder / BOARD_FILE).write_text(json.dumps(board))
    return read_board(folder)


def made_pictures(folder: Path, count: int = 24) -> Path:
    """Write small pictures of noise and a list of them with ages, people and groups."""
    random = np.random.default_rng(5)
    lines = ["path,age,identity,gender"]
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        pixels = random.integers(0, 256, (48, 48, 3)).astype(np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"{at:02}.png")
        lines.append(f"{at:02}.png,{10 + 2 * at},p{at // 2},{'female' if at % 2 else 'male'}")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


SUITE = """
title = "Made up"
[settings]
decode_threads = 0
threads = 1
[[contenders]]
model = "constant years=30"
title = "thirty"
[[contenders]]
model = "constant years=40"
title = "forty"
[[sets]]
key = "first"
title = "First"
dataset = "csv label_kind=birth-age"
root = "pictures/list.csv"
detector = "aligned"
groups = ["gender"]
[[sets]]
key = "second"
dataset = "csv label_kind=apparent"
root = "pictures/list.csv"
sample = 12
detector = "aligned"
[robustness]
sets = ["first"]
variants = ["gray", "face-px=24"]
sample = 12
"""


def made_suite(folder: Path, text: str = SUITE) -> Path:
    """Write a suite's file with its pictures beside it."""
    made_pictures(folder / "pictures")
    path = folder / "suite.toml"
    path.write_text(text)
    return path
