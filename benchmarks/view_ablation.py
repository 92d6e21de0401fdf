"""Do eyes and mouth help?  Networks with and without them, trained alike from good streams.

    python -m benchmarks.view_ablation pretrained/multicrop-resnet-10.toml --root UTKFACE \
        --fgnet FGNET --kept KEPT.json

Every row starts from streams of the bundled `multicrop-resnet` (benchmarks/read_back.py), where all
learned together from several sets, with views withheld at random, and which was chosen on the very
sets measured here: rows of face, eyes and mouth start as that network with the others withheld.
Single eyes, the original and early fusion start from streams that never saw such crops, so a loss
there may be one of too few steps.  All rows are then trained on UTKFace alone.  Those of one seed
have the same pictures, samples, steps and settings, but that a single view is never withheld;
numbers are bfloat16, and `FACE_PX` keeps this to minutes a row.  "face, larger" looks at the face
alone, for about the operations of the three streams: it is what the time of eyes and mouth could be
spent on instead.  Errors are on the validation part and, never trained on, FG-NET's subjects 1 to
20; differences are paired, over pictures or people, of errors averaged over the seeds that both
rows have.
The same command resumes an interrupted run; with --row it trains these rows alone, and with
--seeds 0 it writes the tables of what there is.
"""

from __future__ import annotations

import argparse
import hashlib
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
from benchmarks.read_back import folded
from benchmarks.view_starts import LARGER, normalised, start_file, started_network

RESULTS = Path(__file__).parent / "results" / "view_ablation.json"
FACE_PX, LARGER_PX = 96, 112

EARLY = "face + eyes + mouth, early fusion"
ROWS: Mapping[str, tuple[str, ...]] = {
    "face": ("face",),
    "face + eyes + mouth": ("face", "eyes", "mouth"),
    "face, larger": (LARGER,),
    "face + eyes": ("face", "eyes"),
    "face + mouth": ("face", "mouth"),
    "face + left eye + right eye + mouth": ("face", "eye_left", "eye_right", "mouth"),
    "face + eyes + mouth + original": ("face", "eyes", "mouth", "original"),
    EARLY: ("face", "eyes_square", "mouth_square"),
}
"""Views of each row."""

EYE_HW = (64, 64)
"""Height and width of the crop of one eye, pixels."""

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
        # For early fusion, all views are of one size and go through one network, the face's.
        **{
            f"{name}_square": replace(own[name], size_hw=(FACE_PX, FACE_PX))
            for name in ("eyes", "mouth")
        },
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
    """Return a difference with its interval as the page shows it; "" without either."""
    if found is None or found["interval"] is None:
        return ""
    low, high = found["interval"]
    return f"{found['years']:+.3f} ({low:+.3f} to {high:+.3f})"


def finished(path: Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the finished runs of a file, or none if it does not exist.

    Raises:
        SystemExit: they were made in another way.
    """
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["made"] != made:
        raise SystemExit(f"{path} has runs of {stored['made']}, expected {made}: name another file")
    runs: dict[str, Any] = stored["runs"]
    return runs


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
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--row", dest="rows", action="append", choices=ROWS, help="only these")
    parser.add_argument("--kept", type=Path, required=True, help="file for finished runs")
    args = parser.parse_args()
    everything = all_views(read_settings(args.settings, texts={"data.root": args.root}))
    train, sets = gathered(everything, args.fgnet)
    rows = {row: row_settings(everything, row, 0, args.epochs) for row in ROWS}
    made: dict[str, Any] = {
        "recipe": args.settings.name,
        "start": hashlib.sha256(start_file().read_bytes()).hexdigest(),
        "steps": args.epochs * (everything.bootstrap.size // everything.batch),
        "train": len(train),
    }
    kept = finished(args.kept, made)
    missing = [
        (row, seed)
        for seed in range(args.seeds)
        for row in args.rows or ROWS
        if f"{row} / {seed}" not in kept
    ]
    own = folded(start_file(), read_settings(args.settings))
    for row, seed in missing:
        settings = row_settings(everything, row, seed, args.epochs)
        start = normalised(started_network(settings, own), settings, train)
        kept[f"{row} / {seed}"] = run = train_row(settings, train, sets, start)
        write_whole(args.kept, json.dumps({"made": made, "runs": kept}) + "\n")
        print(f"{row} / {seed}", *run["epochs_mae"], flush=True)
    held: dict[str, Any] = {
        "made": {
            **made,
            "environment": plain(describe_environment()),
            "torch": torch.__version__,
        },
        "costs": costs({row: settings.model for row, settings in rows.items()}),
    }
    finish(held, kept, sets)


if __name__ == "__main__":
    main()
