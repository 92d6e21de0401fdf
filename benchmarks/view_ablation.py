"""Do eyes and mouth help?  Networks with and without them, trained alike from good streams.

    python -m benchmarks.view_ablation pretrained/multicrop-resnet-10.toml --root UTKFACE \
        --fgnet FGNET --face LISTS/hse-2/hse.safetensors --others RUN11/best.safetensors \
        --kept KEPT.json

Every row starts from streams that were trained before, as the bundled network did
(benchmarks/hse_start.py): its face's from the fine-tuned `hse-mobilenet`, those of eyes and mouth
from a network that learned from all of them together.  All are trained on UTKFace alone.  The rows
of one seed have the same pictures, samples, steps and settings; `FACE_PX` keeps this to minutes a
row.  "face, larger" looks at the face alone, for somewhat more operations than the three streams:
it is what the time of eyes and mouth could be spent on instead.  Errors are on the validation part
and, never trained on, FG-NET's subjects 1 to 20; differences are paired, over pictures or people,
of errors averaged over the seeds that a row has.
The same command resumes an interrupted run; with --seeds 0 it writes the tables of what there is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from agebench.datasets.base import limit
from agebench.export.multi_crop import multi_crop_candidate
from agebench.harness.environment import describe_environment
from agebench.metrics.intervals import mean_interval
from agebench.protocols import no_progress
from agebench.registry.plugins import load_dataset, load_detector
from agebench.runtimes.base import Model, ModelSource, Tensor, use_threads
from agebench.runtimes.model_cost import model_cost
from agebench.runtimes.opening import open_model
from agebench.runtimes.torch_graph import read_graph
from agebench.train.checkpoint import read_checkpoint
from agebench.train.distributed import DistributedContext
from agebench.train.evaluate import predicted_years, using_weights
from agebench.train.face_cache import TrainingFaces, gather_faces
from agebench.train.loop import Trainer
from agebench.train.losses import LOSSES
from agebench.train.mobilenet import MobileNet
from agebench.train.model_settings import ModelSettings, ViewSettings
from agebench.train.networks import MultiCropResNet
from agebench.train.settings import TrainSettings, read_settings
from agebench.trainer.pictures import TrainingPictures
from agebench.types import Floats, plain
from agebench.util.files import write_whole
from benchmarks.ablation import SPANS
from benchmarks.hse_start import fill_dense, fill_face, fill_others
from benchmarks.hse_teacher import started

RESULTS = Path(__file__).parent / "results" / "view_ablation.json"
FACE_PX, LARGER_PX = 96, 128
LARGER = "larger"
"""Name of the larger face's view; the others are those of the settings."""

ROWS: Mapping[str, tuple[str, ...]] = {
    "face": ("face",),
    "face + eyes + mouth": ("face", "eyes", "mouth"),
    "face, larger": (LARGER,),
    "face + eyes": ("face", "eyes"),
    "face + mouth": ("face", "mouth"),
}
"""Views of each row."""

BASES = ("face", "face + eyes + mouth")
"""Rows that the others are compared with."""

FGNET_PICTURES = 251
"""Those of subjects 1 to 20."""

TITLES = {"val": "UTKFace, validation part", "fgnet": "FG-NET, subjects 1 to 20"}

Faces: TypeAlias = Mapping[str, tuple[TrainingFaces, Sequence[Hashable] | None]]
"""Sets to measure on, with who is in each picture where that is known."""


def all_views(settings: TrainSettings) -> TrainSettings:
    """Return settings with the views of every row, and no further sets."""
    face = settings.model.views["face"]
    views: dict[str, ViewSettings] = {
        **settings.model.views,
        "face": replace(face, size_hw=(FACE_PX, FACE_PX)),
        LARGER: replace(face, size_hw=(LARGER_PX, LARGER_PX)),
    }
    return replace(
        settings,
        model=replace(settings.model, views=views),
        data=replace(settings.data, extra={}),
    )


def row_settings(settings: TrainSettings, row: str, seed: int, epochs: int) -> TrainSettings:
    """Return settings of one row and seed."""
    views = {name: settings.model.views[name] for name in ROWS[row]}
    dropout = settings.model.view_dropout if len(views) > 1 else 0.0
    return replace(
        settings,
        model=replace(settings.model, views=views, view_dropout=dropout),
        bootstrap=replace(settings.bootstrap, seed=seed),
        stability=replace(settings.stability, min_epochs=epochs),
        epochs=epochs,
        seed=seed,
    )


def started_network(settings: TrainSettings, face: Path, others: Path) -> MultiCropResNet:
    """Return a row's network with streams that were trained before."""
    torch.manual_seed(settings.seed)
    model, teacher = MultiCropResNet(settings.model), started(face)
    name = next(iter(settings.model.views))
    backbone = model.backbones[name]
    if not isinstance(backbone, MobileNet):
        raise SystemExit("expected a face stream of kind mobilenet")
    fill_face(backbone, teacher)
    fill_dense(model, teacher, name)
    fill_others(model, read_checkpoint(others).averaged, name)
    return model


def train_row(
    settings: TrainSettings, train: TrainingFaces, sets: Faces, start: MultiCropResNet
) -> dict[str, Any]:
    """Train a network; return its ages on every set, and the validation MAE of each epoch."""
    trainer = Trainer(
        settings, train, sets["val"][0], None, DistributedContext(0, 1, torch.device("cpu")),
        start=start.state_dict(),
    )  # fmt: skip

    trainer.run()
    spec = LOSSES[settings.loss.name]
    with using_weights(trainer.model, trainer.averaged):
        ages = {
            name: predicted_years(trainer.model, faces, spec, settings).tolist()
            for name, (faces, _) in sets.items()
        }
    return {"ages": ages, "epochs_mae": [record.val_mae for record in trainer.state.history]}


def costs(rows: Mapping[str, ModelSettings], repeats: int = 200) -> dict[str, dict[str, float]]:
    """Return each row's operations and median time for one face, exported, on one thread.

    Args:
        rows: the networks' settings; weights are random.
        repeats: number of runs timed of each, in turns.

    Returns:
        Of each row "macs" and "ms".
    """
    rng = np.random.default_rng(0)
    opened: dict[str, tuple[Model, dict[str, Tensor]]] = {}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, use_threads(1):
        for row, settings in rows.items():
            path = Path(folder) / f"{len(opened)}.onnx"
            made = multi_crop_candidate(MultiCropResNet(settings), LOSSES["dldl"], "median")
            path.write_bytes(made.model.SerializeToString())
            source = ModelSource("onnx", path)
            shapes = {name: (1, *shape) for name, shape in read_graph(path).shapes.items()}
            found[row] = {"macs": model_cost(source, shapes).macs or 0}
            pixels: dict[str, Tensor] = {
                name: rng.uniform(1, 255, shape).astype(np.float32)
                for name, shape in shapes.items()
            }
            opened[row] = open_model(source, runtime="onnxruntime"), pixels
        times: dict[str, list[float]] = {row: [] for row in rows}
        for _ in range(repeats + 10):
            for row, (model, pixels) in opened.items():
                began = time.perf_counter()
                model.run(pixels)
                times[row].append((time.perf_counter() - began) * 1000)
    for row, values in times.items():
        found[row]["ms"] = float(np.median(values[10:]))
    return found


def gathered(settings: TrainSettings, fgnet: Path) -> tuple[TrainingFaces, Faces]:
    """Read the pictures to train on, and those to measure on."""
    pictures = TrainingPictures.of(settings, no_progress)
    train = pictures.with_extra(pictures.gather(settings.data.train_part))
    people = limit(load_dataset("fgnet", fgnet), FGNET_PICTURES)
    faces = gather_faces(people, load_detector("yunet"), settings.model.crop)
    identities = {item.name: item.identity for item in people.samples}
    return train, {
        "val": (pictures.gather(settings.data.val_part), None),
        "fgnet": (faces, [identities[name] for name in faces.names]),
    }


def seeds_of(runs: Mapping[str, Any], row: str) -> list[str]:
    """Return the seeds with which a row was trained."""
    keys = [key.rpartition(" / ") for key in runs]
    return [seed for name, _, seed in keys if name == row]


def errors(
    runs: Mapping[str, Any], row: str, seeds: Sequence[str], name: str, faces: TrainingFaces
) -> Floats:
    """Return a row's absolute errors on a set, years: (seeds, pictures)."""
    ages = np.array([runs[f"{row} / {seed}"]["ages"][name] for seed in seeds])
    found: Floats = np.abs(ages - faces.ages)
    return found


def summary(runs: Mapping[str, Any], sets: Faces) -> dict[str, dict[str, Any]]:
    """Return each row's figures on each set: MAE, by span of ages, and how it differs."""
    figures: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        seeds = seeds_of(runs, row)
        for name, (faces, people) in sets.items() if seeds else ():
            each = errors(runs, row, seeds, name, faces)
            mine = each.mean(0)
            figures.setdefault(row, {})[name] = {
                "n": len(mine),
                "mae_years": mine.mean(),
                "mae_by_seed": each.mean(1),
                "spans": [
                    mine[(faces.ages >= low) & (faces.ages < high)].mean() for low, high in SPANS
                ],
                "differences": {
                    base: difference(runs, row, base, name, faces, people)
                    for base in BASES
                    if base != row
                },
            }
    found: dict[str, dict[str, Any]] = plain(figures)
    return found


def difference(
    runs: Mapping[str, Any],
    row: str,
    base: str,
    name: str,
    faces: TrainingFaces,
    people: Sequence[Hashable] | None,
) -> dict[str, Any] | None:
    """Return how much larger a row's errors are than another's, over the seeds that both have."""
    seeds = [seed for seed in seeds_of(runs, row) if seed in seeds_of(runs, base)]
    if not seeds:
        return None
    mine, other = (errors(runs, each, seeds, name, faces).mean(0) for each in (row, base))
    interval = mean_interval(mine - other, clusters=people, positive=False)
    return {
        "years": (mine - other).mean(),
        "interval": None if interval is None else interval.to_plain(),
    }


def table(held: Mapping[str, Any]) -> str:
    """Return the page."""
    lines = [
        "# Do eyes and mouth help?\n",
        f"MAE in years after {held['made']['steps']} steps from streams trained before, mean over "
        f"seeds; differences are paired, with 95 % intervals. Faces of {FACE_PX} "
        f'pixels, {LARGER_PX} in the row "face, larger". How: benchmarks/view_ablation.py.\n',
    ]
    for name, title in TITLES.items():
        lines += [
            f"| {title} | seeds | MAE | each seed | under 20 | 20-59 | 60 and over | "
            + "".join(f"than {base} | " for base in BASES)
            + "million operations | ms, onnxruntime |",
            "|---|---:|---:|---|---:|---:|---:|" + "---:|" * (len(BASES) + 2),
        ]
        for row, found in held["summary"].items():
            figures = found[name]
            each = figures["mae_by_seed"]
            cells = [
                row, str(len(each)), f"{figures['mae_years']:.3f}",
                " ".join(f"{mae:.2f}" for mae in each),
                *(f"{span:.2f}" for span in figures["spans"]),
                *(differs(figures["differences"].get(base)) for base in BASES),
                f"{held['costs'][row]['macs'] / 1e6:.0f}",
                f"{held['costs'][row]['ms']:.1f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def differs(found: Mapping[str, Any] | None) -> str:
    """Return a difference with its interval as the page shows it; "" if there is none."""
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{found['years']:+.3f} ({low:+.3f} to {high:+.3f})"


def finish(held: dict[str, Any], kept: Mapping[str, Any], sets: Faces) -> None:
    """Write what is committed: figures, not the ages of single pictures."""
    held["summary"] = summary(kept, sets)
    held["epochs_mae"] = {key: run["epochs_mae"] for key, run in kept.items()}
    write_whole(RESULTS, json.dumps(held) + "\n")
    write_whole(RESULTS.with_suffix(".md"), table(held))


def main() -> None:
    """Train what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--root", required=True, help="data.root: UTKFace")
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--face", type=Path, required=True, help="hse.safetensors")
    parser.add_argument("--others", type=Path, required=True, help="checkpoint with eyes and mouth")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--kept", type=Path, required=True, help="file for finished runs")
    args = parser.parse_args()
    everything = all_views(read_settings(args.settings, texts={"data.root": args.root}))
    train, sets = gathered(everything, args.fgnet)
    rows = {row: row_settings(everything, row, 0, args.epochs) for row in ROWS}
    held: dict[str, Any] = {
        "made": {
            "recipe": args.settings.name,
            "steps": args.epochs * (everything.bootstrap.size // everything.batch),
            "train": len(train),
            "environment": plain(describe_environment()),
            "torch": torch.__version__,
        },
        "costs": costs({row: settings.model for row, settings in rows.items()}),
    }
    kept = json.loads(args.kept.read_text()) if args.kept.exists() else {}
    for seed in range(args.seeds):
        for row in ROWS:
            if f"{row} / {seed}" in kept:
                continue
            settings = row_settings(everything, row, seed, args.epochs)
            start = started_network(settings, args.face, args.others)
            kept[f"{row} / {seed}"] = train_row(settings, train, sets, start)
            write_whole(args.kept, json.dumps(kept) + "\n")
            print(f"{row} / {seed}", *kept[f"{row} / {seed}"]["epochs_mae"], flush=True)
    finish(held, kept, sets)


if __name__ == "__main__":
    main()
