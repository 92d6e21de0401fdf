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
from agebench.timing.roofline import Peaks, measure_peaks
from tests.unit.made_results import (
    DATASET,
    DETECTOR,
    ENVIRONMENT,
    SETTINGS,
    analysed,
    estimator_json,
    image_json,
    outcome_json,
    stage_json,
    timing_json,
)

MakeResult = Callable[..., dict[str, Any]]


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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training draw no curves, which takes as long as a short run itself.

    test_train_cli.py and test_curves.py have them.
    """
    monkeypatch.setattr("agebench.trainer.run.draw_curves", lambda *_given, **_named: None)


@pytest.fixture
def short_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prove exports in batches of up to 7, where two faces need not be repeated to fill 64.

    test_parity.py and test_cli_export_onnx.py have the whole proof.
    """
    monkeypatch.setattr("agebench.export.parity.BATCHES", (1, 2, 7))


@pytest.fixture
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `bench` find out in moments, and in this process, what the processor can do."""

    def peaks(_: object, threads: int) -> dict[str, Peaks]:
        return {"cpu": measure_peaks(threads, seconds=0.02)}

    monkeypatch.setattr("agebench.benchmark.speed._peaks", peaks)
    monkeypatch.setattr("agebench.timing.roofline.MATRIX_SIDE", 256)
    monkeypatch.setattr("agebench.timing.roofline.COPY_BYTES", 2**22)


@pytest.fixture
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm models up for a moment before they are timed, where no one looks at the times.

    test_bench_latency.py and test_sweep.py have the whole warm-up.
    """
    monkeypatch.setattr("agebench.timing.latency.WARM_UP_PICTURES", 1)
    monkeypatch.setattr("agebench.benchmark.sweep.MAX_WARM_UP_RUNS", 1)


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
            "schema_version": 4,
            "created": "2026-01-02T03:04:05+00:00",
            "command": ["/somewhere/agebench", "compare", *given, "--root", "a b"],
            "environment": ENVIRONMENT,
            "dataset": {**DATASET, "content_sha256": sha256, **dataset},
            "detector": DETECTOR,
            "settings": SETTINGS,
            "counts": {"total": len(ages), "common_subset": len(ages), "several_faces": 0},
            "shared_latency": {"decode": stage_json([1.0] * 20), "detect": stage_json([1.0] * 20)},
            "estimators": [estimator_json(name, ages, years, who) for name, years in given.items()],
            "pictures": [
                {
                    **image_json(name, float(ages[row]), who[row]),
                    "attributes": dict(attributes or {}),
                    "predictions": {
                        estimator: outcome_json(float(years[row]), float(ages[row]), place == 0)
                        for place, (estimator, years) in enumerate(given.items())
                    },
                }
                for row, name in enumerate(names)
            ],
        }
        content["timing"] = timing_json(content["estimators"])
        content["analysis"] = analysed(content)
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
