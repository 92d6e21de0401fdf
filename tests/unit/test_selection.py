"""Comparing on a part of a protocol: which pictures, what the result says, what was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image as PillowImage
from rich.console import Console

from agebench import compare
from agebench.datasets.base import SampleList
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.errors import AgebenchError, ContractError, DatasetError, UsageError
from agebench.harness import results
from agebench.harness.comparability import Scored, comparable
from agebench.harness.reading import measured
from agebench.harness.selection import scored_on
from agebench.harness.settings import CompareSettings
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.report.terminal_tables import print_result
from agebench.splits.building import build_split
from agebench.splits.files import write_split
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image, Sample, ViewSpec

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text())
COUNT = 60


class Whole:
    def __init__(self) -> None:
        self.spec = DetectorSpec("whole")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        height, width = image_bgr.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]


class Thirty:
    def __init__(self, name: str = "thirty") -> None:
        self.spec = EstimatorSpec(name, CropSpec({"face": ViewSpec("face", (4, 4))}), "constant")

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(30.0)] * len(crops)


class Trained(Thirty):
    def __init__(self, answer: Any, name: str = "trained") -> None:
        super().__init__(name)
        self._answer = answer

    def training_hashes(self) -> TrainingHashes | None:
        if isinstance(self._answer, Exception):
            raise self._answer
        answer: TrainingHashes | None = self._answer
        return answer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SampleList:
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    samples = []
    for index in range(COUNT):
        path = folder / f"{index:02d}.png"
        PillowImage.fromarray(noise.integers(0, 255, (24, 24, 3), np.uint8)).save(path)
        samples.append(Sample(path, path.name, float(index)))
    return SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))


def run(dataset: SampleList, *estimators: Thirty, **settings: Any) -> results.CompareResult:
    return compare(
        list(estimators or (Thirty(),)),
        dataset,
        detector=Whole(),
        settings=CompareSettings(**{"latency_pictures": 0, **settings}),
    )


def names(result: results.CompareResult) -> list[str]:
    return [record.sample.name for record in result.records]


def about(result: results.CompareResult) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    of_dataset: dict[str, Any] = content["dataset"]
    return of_dataset


def scored(result: results.CompareResult) -> Scored:
    return scored_on(measured(result).dataset)


def test_only_the_part_is_scored_and_the_result_says_so(dataset: SampleList) -> None:
    split = build_split("holdout", dataset, {"seed": 3, "fraction": 0.2})
    result = run(dataset, protocol="holdout seed=3 fraction=0.2")
    assert names(result) == [name for name, where in split.parts.items() if where == "test"]
    assert len(result.records) == 12
    said = about(result)
    assert said["protocol"] == "holdout/test"
    assert said["split"]["fingerprint"] == split.fingerprint
    assert said["split"]["parameters"]["seed"] == 3
    console = Console(file=StringIO(), width=200)
    print_result(result, console)
    assert "holdout/test" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_parts_can_be_joined_left_out_and_sampled(dataset: SampleList) -> None:
    split = build_split("holdout", dataset)
    rest = [name for name, where in split.parts.items() if where != "test"]
    joined = run(dataset, protocol="holdout", part="train+val")
    assert names(joined) == rest
    left_out = run(dataset, protocol="holdout", part="not-test")
    assert names(left_out) == rest
    assert about(left_out)["split"]["parts"] == ["train", "val"]
    few = run(dataset, protocol="holdout", part="train", sample=5, seed=2)
    assert len(few.records) == 5
    assert about(few)["protocol"] == "holdout/train, random 5, seed 2"
    assert about(run(dataset, limit=3))["protocol"] == "first 3 by name"
    assert about(run(dataset))["protocol"] == "all pictures"
    for count in (COUNT, 1000):
        for whole in (run(dataset, limit=count), run(dataset, sample=count)):
            assert about(whole)["protocol"] == "all pictures"
    whole = run(dataset, protocol="holdout seed=3 fraction=0.2", limit=12)
    assert about(whole)["protocol"] == "holdout/test"
    assert about(run(dataset))["split"] is None


def test_a_written_split_gives_the_same_result(dataset: SampleList, tmp_path: Path) -> None:
    file = tmp_path / "my split.csv"
    write_split(build_split("holdout", dataset), file)
    made, read = run(dataset, protocol="holdout"), run(dataset, protocol=str(file))
    assert names(made) == names(read)
    assert about(made) == about(read)
    assert comparable(scored(made), scored(read)) == ""


def test_other_parts_and_data_are_not_ranked(dataset: SampleList) -> None:
    test = scored(run(dataset, protocol="holdout"))
    val = scored(run(dataset, protocol="holdout", part="val"))
    seed = scored(run(dataset, protocol="holdout seed=1"))
    everything = scored(run(dataset))
    assert "holdout/val" in comparable(test, val)
    assert "all pictures" in comparable(test, everything)
    assert "pictures or labels differ" in comparable(test, seed)


def test_wrong_protocols_are_refused_before_anything_runs(
    dataset: SampleList, tmp_path: Path
) -> None:
    for protocol, message in (
        ("hold-out", "neither a protocol nor a split file: did you mean 'holdout'"),
        ("", "neither a protocol"),
        ("\0", "neither a protocol"),
        ("holdout seeds=3", "did you mean 'seed'"),
        ("holdout seed=x", "seed=x"),
        ("holdout extra", "is not a name with options"),
        ("utkface-full", "for the data set 'utkface', got 'tiny'"),
    ):
        with pytest.raises(UsageError, match=message):
            run(dataset, protocol=protocol)
    with pytest.raises(UsageError, match="needs a protocol"):
        run(dataset, part="test")
    with pytest.raises(UsageError, match="no part 'tset'"):
        run(dataset, protocol="holdout", part="tset")
    with pytest.raises(DatasetError, match="holds no list"):
        run(dataset, protocol=str(tmp_path))


def test_pictures_seen_in_training_are_counted(dataset: SampleList) -> None:
    keys = [hashlib.sha256(item.path.read_bytes()).hexdigest() for item in dataset.samples]
    half = TrainingHashes.of("mine/train", keys[: COUNT // 2])
    none = TrainingHashes.of("mine/other", [hashlib.sha256(b"x").hexdigest()])
    result = run(dataset, Trained(half), Trained(none, "clean"), Trained(None, "silent"), Thirty())
    about(result)
    found = {item["name"]: item["seen_in_training"] for item in result.to_json()["estimators"]}
    assert found["trained"]["what"] == "mine/train"
    assert found["trained"]["count"] == COUNT // 2
    assert found["trained"]["pictures"] == [f"{index:02d}.png" for index in range(COUNT // 2)]
    assert found["clean"]["count"] == 0
    assert found["silent"] is None
    assert found["thirty"] is None
    console = Console(file=StringIO(), width=200)
    print_result(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    lines = text.splitlines()
    below = lines[next(at for at, line in enumerate(lines) if line.startswith("trained ")) + 1]
    assert below.startswith("  ! trained on 30 of its 60 pictures: no verdict; on the 30 common")
    assert text.count("! trained on") == 1


def test_a_stranger_who_fails_to_tell_stops_the_run_at_once(dataset: SampleList) -> None:
    for answer, message in (
        (RuntimeError("lost"), "RuntimeError: lost"),
        ("all of them", "must return TrainingHashes or None, got str"),
    ):
        with pytest.raises(ContractError, match=message):
            run(dataset, Trained(answer))
    with pytest.raises(AgebenchError, match="damaged"):
        run(dataset, Trained(AgebenchError("damaged")))
