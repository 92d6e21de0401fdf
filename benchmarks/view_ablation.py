"""Do eyes and mouth help?  Networks with and without them, trained alike from good streams.

    python -m benchmarks.view_ablation pretrained/multicrop-resnet-10.toml --root UTKFACE \
        --fgnet FGNET --kept KEPT.json

Every row starts from streams that were trained before, read back from the bundled files
(benchmarks/read_back.py): its face's from `multicrop-resnet-open`, which has seen neither eyes nor
mouth, nor UTKFace; those of eyes and mouth from `multicrop-resnet`.  All are trained on UTKFace
alone.  The rows of one seed have the same pictures, samples, steps and settings; `FACE_PX` keeps
this to minutes a row.  "face, larger" looks at the face alone, for about the operations of the
three streams: it is what the time of eyes and mouth could be spent on instead.  Errors are on
the validation part and, never trained on, FG-NET's subjects 1 to 20; differences are paired, over
pictures or people, of errors averaged over the seeds that both rows have.
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
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import no_progress
from agebench.registry.plugins import load_dataset, load_detector
from agebench.runtimes.base import Model, ModelSource, Tensor, use_threads
from agebench.runtimes.model_cost import model_cost
from agebench.runtimes.opening import open_model
from agebench.runtimes.torch_graph import read_graph
from agebench.train.distributed import DistributedContext
from agebench.train.evaluate import predicted_years, using_weights
from agebench.train.face_cache import TrainingFaces, gather_faces
from agebench.train.loop import Trainer
from agebench.train.losses import LOSSES
from agebench.train.model_settings import ModelSettings, ViewSettings
from agebench.train.networks import MultiCropResNet
from agebench.train.settings import TrainSettings, read_settings
from agebench.trainer.pictures import TrainingPictures
from agebench.types import Floats, plain
from agebench.util.files import write_whole
from benchmarks.ablation import SPANS
from benchmarks.hse_start import fill_joint
from benchmarks.read_back import folded, unfold, views

RESULTS = Path(__file__).parent / "results" / "view_ablation.json"
FACE_PX, LARGER_PX = 96, 112
LARGER = "larger"
"""Name of the larger face's view; the others are those of the settings."""

EARLY = "face + eyes + mouth, early fusion"
ROWS: Mapping[str, tuple[str, ...]] = {
    "face": ("face",),
    "face + eyes + mouth": ("face", "eyes", "mouth"),
    "face, larger": (LARGER,),
    "face + eyes": ("face", "eyes"),
    "face + mouth": ("face", "mouth"),
    "face + left eye + right eye + mouth": ("face", "eye_left", "eye_right", "mouth"),
    "face + eyes + mouth + original": ("face", "eyes", "mouth", "original"),
    EARLY: ("face", "eyes", "mouth"),
}
"""Views of each row."""

EYE_HW = (64, 64)
"""Height and width of the crop of one eye, pixels."""

FACE_FILE, OTHERS_FILE = "multicrop-resnet-open", "multicrop-resnet"
FILE_SETTINGS = {FACE_FILE: "multicrop-resnet-open.toml", OTHERS_FILE: "multicrop-resnet-12.toml"}
"""The bundled files that the streams are read back from, and the settings of each."""

STREAMS: Mapping[str, tuple[str, str]] = {
    "face": (FACE_FILE, "face"),
    LARGER: (FACE_FILE, "face"),
    "original": (FACE_FILE, "face"),
    "eyes": (OTHERS_FILE, "eyes"),
    "eye_left": (OTHERS_FILE, "eyes"),
    "eye_right": (OTHERS_FILE, "eyes"),
    "mouth": (OTHERS_FILE, "mouth"),
}
"""Of each view, the file and the view in it whose stream it starts from."""

TYPICAL_BATCHES = 6
"""Number of batches that their normalisations are set with."""

EARLY_SCALE = 0.1
"""Of the first filters on the further views, relative to those on the face."""

BASES = ("face", "face + eyes + mouth")
"""Rows that the others are compared with."""

FGNET_PICTURES = 251
"""Those of subjects 1 to 20."""

TITLES = {"val": "UTKFace, validation part", "fgnet": "FG-NET, subjects 1 to 20"}

Faces: TypeAlias = Mapping[str, tuple[TrainingFaces, Sequence[Hashable] | None]]
"""Sets to measure on, with who is in each picture where that is known."""


def all_views(settings: TrainSettings) -> TrainSettings:
    """Return settings with the views of every row, and no further sets."""
    own = settings.model.views
    face, eyes = own["face"], own["eyes"]
    views: dict[str, ViewSettings] = {
        **own,
        "face": replace(face, size_hw=(FACE_PX, FACE_PX)),
        LARGER: replace(face, size_hw=(LARGER_PX, LARGER_PX)),
        "original": replace(face, region="original", size_hw=(FACE_PX, FACE_PX)),
        **{name: replace(eyes, region=name, size_hw=EYE_HW) for name in ("eye_left", "eye_right")},
    }
    return replace(
        settings,
        model=replace(settings.model, views=views),
        data=replace(settings.data, extra={}),
        precision="bf16",
    )


def row_settings(settings: TrainSettings, row: str, seed: int, epochs: int) -> TrainSettings:
    """Return settings of one row and seed."""
    model = settings.model
    views = {name: model.views[name] for name in ROWS[row]}
    if row == EARLY:  # all views are of one size, and go through one network, the face's
        size = views["face"].size_hw
        views = {name: replace(view, size_hw=size) for name, view in views.items()}
    dropout = model.view_dropout if len(views) > 1 else 0.0
    return replace(
        settings,
        model=replace(
            model, views=views, view_dropout=dropout, fusion="early" if row == EARLY else "late"
        ),
        bootstrap=replace(settings.bootstrap, seed=seed),
        stability=replace(settings.stability, min_epochs=epochs),
        epochs=epochs,
        seed=seed,
    )


def bundled_networks(train: TrainingFaces) -> dict[str, MultiCropResNet]:
    """Return the trainable networks of the bundled files, normalised for training pictures."""
    found: dict[str, MultiCropResNet] = {}
    for file, settings_file in FILE_SETTINGS.items():
        settings = read_settings(bundled_dir() / settings_file)
        found[file] = folded(bundled_dir() / f"{file}.onnx", settings)
        unfold(found[file], views(settings, train, TYPICAL_BATCHES))
    return found


@torch.no_grad()
def started_network(
    settings: TrainSettings, trained: Mapping[str, MultiCropResNet]
) -> MultiCropResNet:
    """Return a row's network with streams that were trained before.

    Args:
        settings: of the row.
        trained: the bundled files' networks, by name of the file.
    """
    torch.manual_seed(settings.seed)
    model, own = MultiCropResNet(settings.model), trained[FACE_FILE]
    if settings.model.fusion == "early":
        fill_early(model, own)
    else:
        for name in settings.model.views:
            file, view = STREAMS[name]
            model.backbones[name].load_state_dict(trained[file].backbones[view].state_dict())
            model.absent[name].copy_(trained[file].absent[view])
        fill_joint(model, own.joint, next(iter(settings.model.views)))
    model.head.load_state_dict(own.head.state_dict())
    return model


def fill_early(model: MultiCropResNet, own: MultiCropResNet) -> None:
    """Start the network of all views as the face's, with small first filters on the others.

    The first layer has the planes of each view and one that says whether it is present.
    """
    state = model.backbones["all"].state_dict()
    for name, value in own.backbones["face"].state_dict().items():
        if state[name].shape == value.shape:
            state[name].copy_(value)
            continue
        planes = value.shape[1]
        state[name].zero_()
        for index in range(len(model.settings.views)):
            first = index * (planes + 1)
            scale = EARLY_SCALE if index else 1.0
            state[name][:, first : first + planes].copy_(value * scale)
    fill_joint(model, own.joint, "all")


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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--row", dest="rows", action="append", choices=ROWS, help="only these")
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
    missing = [
        (row, seed)
        for seed in range(args.seeds)
        for row in args.rows or ROWS
        if f"{row} / {seed}" not in kept
    ]
    trained = bundled_networks(train) if missing else {}
    for row, seed in missing:
        settings = row_settings(everything, row, seed, args.epochs)
        run = train_row(settings, train, sets, started_network(settings, trained))
        kept[f"{row} / {seed}"] = run
        write_whole(args.kept, json.dumps(kept) + "\n")
        print(f"{row} / {seed}", *run["epochs_mae"], flush=True)
    finish(held, kept, sets)


if __name__ == "__main__":
    main()
