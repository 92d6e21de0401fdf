"""One temperature for a run's answers, so that its intervals hold: fitted on validation.

    python -m benchmarks.calibrate RUN --root UTKFACE --held-out LISTS/longevity/held-out/list.csv

Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the outputs
are divided by the temperature that makes the labels most probable.  Here each set (the run's own
validation part, and lists of held-out pictures, whose faces `yunet` finds) counts alike, and the
answer is the mean of the picture's and its mirror image's.  The last layer is divided by the
temperature, so that nothing else changes: RUN/calibrated.safetensors is RUN/best.safetensors with
that layer.  Medians move a little, by how much is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from agebench.metrics import mae
from agebench.protocols import no_progress
from agebench.registry import load_dataset, load_detector
from agebench.train.batches import plain_views
from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.decoding import bin_of_age, decode
from agebench.train.evaluate import BATCH
from agebench.train.loop import BEST_FILE
from agebench.train.losses import LOSSES
from agebench.train.networks import AgeNetwork, build_network
from agebench.train.windows import TrainingFaces, gather_faces
from agebench.training_pictures import Pictures

CALIBRATED_FILE = "calibrated.safetensors"
LEVELS = (0.5, 0.8, 0.95)
SPAN = (0.5, 3.0)
"""Temperatures looked at."""

YEARS = torch.arange(0, 117).double()


@torch.no_grad()
def outputs_of(model: AgeNetwork, faces: TrainingFaces) -> Tensor:
    """Return outputs of the pictures and of their mirror images, (2, n, bins)."""
    both = []
    for mirrored in (False, True):
        views = plain_views(
            faces, model.settings.crop, torch.device("cpu"), BATCH, mirrored=mirrored
        )
        both.append(torch.cat([model(batch.pixels, batch.present).final for batch in views]))
    return torch.stack(both).double()


def shares_at(outputs: Tensor, temperature: float) -> Tensor:
    """Return the mean distribution of picture and mirror image at a temperature, (n, bins)."""
    return (outputs / temperature).softmax(dim=2).mean(dim=0)


def surprise(outputs: Tensor, ages: Tensor, temperature: float) -> float:
    """Return minus the mean log probability of the labels' bins."""
    rows = bin_of_age(ages, YEARS)[:, None]
    return float(-shares_at(outputs, temperature).gather(1, rows).clamp_min(1e-9).log().mean())


def coverage(shares: Tensor, ages: Tensor, level: float) -> float:
    """Return the share of labels within the central interval, the label's own bin counting half.

    The half of a bin on either side is what a discrete distribution can't tell apart.
    """
    rows = bin_of_age(ages, YEARS)[:, None]
    upper = shares.cumsum(dim=1).gather(1, rows)
    middle = upper - shares.gather(1, rows) / 2
    return float(((middle - 0.5).abs() <= level / 2).double().mean())


def fitted(sets: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Return the temperature with the least mean surprise over the sets."""

    def loss(temperature: float) -> float:
        return float(np.mean([surprise(*of_set, temperature) for of_set in sets.values()]))

    return float(minimize_scalar(loss, bounds=SPAN, method="bounded").x)


def report(name: str, outputs: Tensor, ages: Tensor, temperature: float) -> str:
    """Return MAE and coverage of one set at a temperature."""
    shares = shares_at(outputs, temperature)
    years = decode(shares, YEARS, "median").numpy()
    inside = " ".join(f"{coverage(shares, ages, level):.3f}" for level in LEVELS)
    error = mae(ages.numpy(), np.asarray(years, np.float64))
    return f"{name}: temperature {temperature:.3f}: MAE {error:.3f}, inside {inside}"


def divided(saved: Checkpoint, temperature: float) -> Checkpoint:
    """Return a checkpoint whose last layer, averaged and not, is divided by the temperature."""

    def scaled(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: value / temperature if name in {"head.weight", "head.bias"} else value
            for name, value in weights.items()
        }

    about = {**saved.about, "temperature": temperature}
    return replace(
        saved, about=about, model=scaled(saved.model), averaged=scaled(saved.averaged), optimiser={}
    )


def gathered(saved: Checkpoint, root: str, lists: Sequence[str]) -> dict[str, TrainingFaces]:
    """Read the pictures of the validation part and of the lists."""
    data = replace(saved.settings.data, root=root)
    settings = replace(saved.settings, data=data)
    sets = {data.val_part: Pictures.of(settings, no_progress).gather(data.val_part)}
    for path in lists:
        sets[path] = gather_faces(
            load_dataset("csv", path), load_detector("yunet"), settings.model.crop
        )
    return sets


def main() -> None:
    """Read the command line, fit and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--held-out", action="append", default=[])
    given = parser.parse_args()
    saved = read_checkpoint(given.run / BEST_FILE)
    spec = LOSSES[saved.settings.loss.name]
    if spec.name == "coral":
        raise SystemExit("expected a run whose loss is over bins: coral's outputs are questions")
    model = build_network(saved.settings.model, spec.head).eval()
    model.load_state_dict(dict(saved.averaged))
    faces = gathered(saved, given.root, given.held_out)
    sets = {
        name: (outputs_of(model, rows), torch.from_numpy(rows.ages)) for name, rows in faces.items()
    }
    temperature = fitted(sets)
    for name, of_set in sets.items():
        for value in (1.0, temperature):
            print(report(name, *of_set, value))
    divided(saved, temperature).write(given.run / CALIBRATED_FILE)


if __name__ == "__main__":
    main()
