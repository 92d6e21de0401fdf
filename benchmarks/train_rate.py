"""Whether the data pipeline slows down training.

Three ways of feeding the same network take turns, some steps each:
- real: what `agebench train` does: gathered by a thread, filtered, augmented, trained;
- memory: the same batches, gathered before the clock starts; same augmentation, trained;
- ready: finished views held in memory; trained only.

    python benchmarks/train_rate.py UTKFACE [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agebench.harness.environment import describe_environment
from agebench.train.batches import Batches, HostBatch, ViewBatch, prefetched
from agebench.train.distributed import DistributedContext
from agebench.train.face_cache import TrainingFaces
from agebench.train.loop import Trainer
from agebench.train.settings import TrainSettings, read_settings
from agebench.trainer.pictures import TrainingPictures
from agebench.types import plain
from agebench.util.files import write_whole

RESULTS = Path(__file__).parent / "results" / "train_rate.json"
SETTINGS = Path(__file__).parents[1] / "pretrained" / "multicrop-resnet.toml"


class Feeder:
    """The three ways of feeding, over the same random pictures."""

    def __init__(self, settings: TrainSettings, faces: TrainingFaces, steps: int) -> None:
        device = torch.device("cpu")
        self._settings, self._faces, self._steps = settings, faces, steps
        self._batches = Batches(faces, settings.model.crop, settings.augment, 0, device)
        self._trainer = Trainer(settings, faces, faces, None, DistributedContext(0, 1, device))
        self._held = [self._gather(step) for step in range(steps)]
        self._ready = self._batches.views(self._held[0])

    def _gather(self, step: int) -> HostBatch:
        rng = np.random.default_rng(step)
        rows = rng.integers(0, len(self._faces), self._settings.batch)
        return self._batches.gather(step, rows, slice(None))

    def _train(self, views: ViewBatch) -> None:
        trainer = self._trainer
        trainer.model.rng.begin(0, 0, self._settings.batch)
        trainer.learn(views)

    def _real(self) -> Iterator[ViewBatch]:
        for batch in prefetched(self._gather, range(self._steps)):
            yield self._batches.views(batch)

    def _memory(self) -> Iterator[ViewBatch]:
        for batch in self._held:
            yield self._batches.views(batch)

    def _views(self) -> Iterator[ViewBatch]:
        for _ in range(self._steps):
            yield self._ready

    def ways(self) -> dict[str, Callable[[], Iterator[ViewBatch]]]:
        """Return the ways by name."""
        return {"real": self._real, "memory": self._memory, "ready": self._views}

    def seconds(self, way: Callable[[], Iterator[ViewBatch]]) -> float:
        """Return how long `steps` steps take."""
        began = time.perf_counter()
        for views in way():
            self._train(views)
        return (time.perf_counter() - began) / self._steps


def main() -> None:
    """Time the ways in turns and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("utkface")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = read_settings(SETTINGS, [f"data.root={args.utkface}"])
    settings = replace(settings, data=replace(settings.data, train_fraction=0.2))
    pictures = TrainingPictures.of(settings, lambda _stage, _done, _total: None)
    feeder = Feeder(settings, pictures.gather("train", 0.2), args.steps)
    times: dict[str, list[float]] = {name: [] for name in feeder.ways()}
    feeder.seconds(feeder.ways()["ready"])  # warm-up
    for _ in range(args.turns):
        for name, way in feeder.ways().items():
            times[name].append(feeder.seconds(way))
    result = _summary(times, settings.batch, args.threads)
    write_whole(RESULTS, json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("pictures_per_second", "ratios")}, indent=1))


def _summary(times: dict[str, list[float]], batch: int, threads: int) -> dict[str, Any]:
    seconds = {name: np.array(values) for name, values in times.items()}
    ratios = {
        "real over memory": seconds["memory"] / seconds["real"],
        "real over ready": seconds["ready"] / seconds["real"],
    }
    return {
        "batch": batch,
        "threads": threads,
        "seconds_per_step": times,
        "pictures_per_second": {
            name: batch / float(np.median(values)) for name, values in seconds.items()
        },
        "ratios": {
            name: {"median": float(np.median(values)), "each": values.tolist()}
            for name, values in ratios.items()
        },
        "environment": plain(describe_environment()),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
