"""Which views, which fusion and which sampling help, and what each costs: a table on validation.

Each row is the mean over seeds of short runs on a part of the training data of `utkface-full`: the
figures rank the rows, and a full run is better.  On chips, the view "original" is the chip itself,
the same pixels as "face".  The same command resumes an interrupted run.

    python benchmarks/ablation.py UTKFACE

With --recipe, each row is trained on the whole training part, for --epochs epochs, with the loss,
augmentation, optimiser, view sizes, backbones, extra data and teacher of a settings file; the
result is ablation-NAME.json, named after that file:

    python benchmarks/ablation.py UTKFACE --recipe pretrained/multicrop-resnet-5.toml --epochs 30
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agebench.harness.environment import describe_environment
from agebench.metrics.age_errors import mae
from agebench.metrics.error_summary import mae_by_decade
from agebench.train.bootstrap import BootstrapSettings
from agebench.train.distributed import DistributedContext
from agebench.train.evaluate import predicted_years, using_weights
from agebench.train.face_cache import TrainingFaces
from agebench.train.loop import Trainer
from agebench.train.losses import LOSSES
from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings
from agebench.train.networks import MultiCropResNet
from agebench.train.sections import DataSettings, OptimSettings
from agebench.train.settings import TrainSettings, read_settings
from agebench.train.stability import StabilitySettings
from agebench.trainer.pictures import TrainingPictures
from agebench.trainer.teacher import read_teacher, with_answers
from agebench.types import plain
from agebench.util.files import write_whole

RESULTS = Path(__file__).parent / "results" / "ablation.json"
EPOCHS = 6
TRAIN_FRACTION = 1 / 3
SEEDS = (0, 1, 2)

_SMALL = BackboneSettings(depth=10, width=24)
VIEWS: Mapping[str, ViewSettings] = {
    "face": ViewSettings("chip", (88, 88), backbone=BackboneSettings(width=32)),
    "eyes": ViewSettings("eyes", (48, 96), backbone=_SMALL),
    "mouth": ViewSettings("mouth", (48, 72), backbone=_SMALL),
    "original": ViewSettings("original", (88, 88), backbone=BackboneSettings(width=32)),
}


def _model(*names: str, fusion: str = "late") -> ModelSettings:
    views = {name: VIEWS[name] for name in names}
    if fusion == "early":
        views = {name: replace(view, size_hw=(88, 88)) for name, view in views.items()}
        return ModelSettings(views=views, fusion="early")
    return ModelSettings(views=views)


THREE = ("face", "eyes", "mouth")
LINES: Mapping[str, tuple[ModelSettings, float]] = {
    "face": (_model("face"), 0.0),
    "face + eyes": (_model("face", "eyes"), 0.0),
    "face + mouth": (_model("face", "mouth"), 0.0),
    "face + eyes + mouth": (_model(*THREE), 0.0),
    "face + eyes + mouth + original": (_model(*THREE, "original"), 0.0),
    "face + eyes + mouth, early fusion": (_model(*THREE, fusion="early"), 0.0),
    "face + eyes + mouth, balanced 0.5": (_model(*THREE), 0.5),
}
"""Model and balance of the bootstrap by name; 0 draws as the data is, or as a recipe says."""


def _of_recipe(line: str, seed: int, recipe: TrainSettings) -> TrainSettings:
    """Return a recipe with a line's views and fusion; views that it has keep its sizes."""
    model, balance = LINES[line]
    own = recipe.model.views
    views = {name: own.get(name, view) for name, view in model.views.items()}
    if "original" in views and "face" in own:
        views["original"] = replace(own["face"], region="original")
    if model.fusion == "early":
        size_hw = next(iter(views.values())).size_hw
        views = {name: replace(view, size_hw=size_hw) for name, view in views.items()}
    bootstrap = replace(recipe.bootstrap, seed=seed)
    return replace(
        recipe,
        model=replace(recipe.model, views=views, fusion=model.fusion),
        bootstrap=replace(bootstrap, balance=balance) if balance else bootstrap,
        seed=seed,
        start="",
    )


def _settings(
    line: str, seed: int, root: str, precision: str, recipe: TrainSettings | None
) -> TrainSettings:
    if recipe is not None:
        return _of_recipe(line, seed, recipe)
    model, balance = LINES[line]
    return TrainSettings(
        data=DataSettings(root=root, train_fraction=TRAIN_FRACTION),
        model=model,
        bootstrap=BootstrapSettings(balance=balance, seed=seed),
        optim=OptimSettings(warmup=0.2, ema=0.99),
        stability=StabilitySettings(min_epochs=EPOCHS),
        epochs=EPOCHS,
        seed=seed,
        precision="bf16" if precision == "bf16" else "float32",
    )


def _run(settings: TrainSettings, train: TrainingFaces, val: TrainingFaces) -> dict[str, Any]:
    started = time.monotonic()
    trainer = Trainer(settings, train, val, None, DistributedContext(0, 1, torch.device("cpu")))
    trainer.run()
    with using_weights(trainer.model, trainer.averaged):
        years = predicted_years(trainer.model, val, LOSSES[settings.loss.name], settings)
    decades = mae_by_decade(val.ages, years, minimum=1)  # summed up later
    return {
        "mae_years": mae(val.ages, years),
        "decades": plain(decades),
        "epochs_mae": [record.val_mae for record in trainer.state.history],
        "seconds": round(time.monotonic() - started, 1),
    }


def cost_ms(models: Mapping[str, ModelSettings], repeats: int = 100) -> dict[str, float]:
    """Median time of one face through each network, in turns, on one thread of torch."""
    networks = {name: MultiCropResNet(model).eval() for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for turn in range(repeats + 5):
            for name, network in networks.items():
                views = network.settings.views
                pixels = {key: torch.rand(1, 3, *view.size_hw) for key, view in views.items()}
                present = {key: torch.ones(1, 1) for key in views}
                began = time.perf_counter()
                network(pixels, present)
                if turn >= 5:
                    times[name].append((time.perf_counter() - began) * 1000)
    torch.set_num_threads(threads)
    return {name: float(np.median(values)) for name, values in times.items()}


def _recipe(path: Path | None, root: str, epochs: int) -> TrainSettings | None:
    """Read a settings file and replace its number of epochs."""
    if path is None:
        return None
    settings = read_settings(path, texts={"data.root": root})
    stability = replace(settings.stability, min_epochs=epochs)
    return replace(settings, epochs=epochs, stability=stability)


def _gathered(settings: TrainSettings) -> tuple[TrainingPictures, TrainingFaces, TrainingFaces]:
    """Read the pictures to train on, with further sets and a teacher's answers, and to validate."""
    pictures = TrainingPictures.of(settings, lambda _stage, _done, _total: None)
    data = settings.data
    train = pictures.with_extra(pictures.gather(data.train_part, data.train_fraction))
    teacher = read_teacher(settings)
    if teacher is not None:
        train = with_answers(train, teacher)
    return pictures, train, pictures.gather(data.val_part)


def _table(runs: Mapping[str, Any], cost: Mapping[str, float]) -> str:
    lines = [
        "| views | seeds | MAE, mean | MAE, each seed | under 20 | 20-59 | 60 and over | "
        "ms, torch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in LINES:
        found = [run for key, run in sorted(runs.items()) if key.startswith(f"{name} / ")]
        if not found:
            continue
        each = [run["mae_years"] for run in found]
        spans = [np.mean([_span(run, *span) for run in found]) for span in SPANS]
        cells = [name, str(len(found)), f"{np.mean(each):.3f}", " ".join(f"{m:.2f}" for m in each)]
        cells += [f"{span:.2f}" for span in spans] + [f"{cost[name]:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


SPANS = ((0, 20), (20, 60), (60, 200))


def _span(run: Mapping[str, Any], low: int, high: int) -> float:
    """MAE over the decades from `low` up to below `high`, by their numbers of pictures."""
    inside = [row for row in run["decades"] if low <= int(row["decade"].split("-")[0]) < high]
    weights = [row["n"] for row in inside]
    return float(np.average([row["mae_years"] for row in inside], weights=weights))


def main() -> None:
    """Train what is missing, and write the table anew after every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("utkface", help="folder of the aligned chips")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--recipe", type=Path, help="settings file to train the rows with")
    parser.add_argument("--epochs", type=int, default=30, help="of every row, with --recipe")
    args = parser.parse_args()
    recipe = _recipe(args.recipe, args.utkface, args.epochs)
    results = RESULTS if recipe is None else RESULTS.with_stem(f"ablation-{args.recipe.stem}")
    held: dict[str, Any] = {"runs": {}}
    if results.exists():
        held = json.loads(results.read_text())
    everything = _settings(
        "face + eyes + mouth + original", 0, args.utkface, args.precision, recipe
    )
    pictures, train, val = _gathered(everything)
    held["made"] = {
        "epochs": everything.epochs,
        "recipe": None if recipe is None else args.recipe.name,
        "precision": everything.precision,
        "train": len(train),
        "val": len(val),
        "split": pictures.split.fingerprint,
        "environment": plain(describe_environment()),
        "torch": torch.__version__,
    }
    for seed in SEEDS[: args.seeds]:
        for line in LINES:
            key = f"{line} / {seed}"
            if key in held["runs"]:
                continue
            settings = _settings(line, seed, args.utkface, args.precision, recipe)
            held["runs"][key] = _run(settings, train, val)
            print(key, f"{held['runs'][key]['mae_years']:.3f}", flush=True)
            write_whole(results, json.dumps(held) + "\n")
    held["cost_ms"] = cost_ms({name: model for name, (model, _) in LINES.items()})
    write_whole(results, json.dumps(held) + "\n")
    table = _table(held["runs"], held["cost_ms"])
    write_whole(results.with_suffix(".md"), table)
    print(table)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
