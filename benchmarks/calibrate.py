"""Fit a temperature on validation pictures, so that the intervals of a run are calibrated.

    python -m benchmarks.calibrate RUN --root UTKFACE --held-out LISTS/longevity/held-out/list.csv

Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the outputs
are divided by the temperature that makes the labels most probable.  Here all sets (the run's own
validation part, and lists of held-out pictures, whose faces `yunet` finds) have equal weight, and
the prediction is the mean of those for the picture and its mirror image, or with --no-mirror that
for the picture alone, as in a file exported without --flip.

--rare TAU (Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021) first divides the
probabilities by the smoothed frequency of each age in the run's own training part, to the power
TAU: a network predicts rare ages less often than they occur.  --older SLOPE makes each year from
60 to 75 more probable than the one before, by a factor of e to the power SLOPE, and those from 75
on like 75: people over 60 come out too young, and TAU moves the young as well.  All change only the
last layer: RUN/calibrated.safetensors is RUN/best.safetensors with that layer.  Prints errors
and coverage before and after.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar
from torch import Tensor

from agebench.metrics.age_errors import mae
from agebench.protocols import no_progress
from agebench.registry.plugins import load_dataset, load_detector
from agebench.splits.parts import part
from agebench.train.batches import plain_views
from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.evaluate import BATCH
from agebench.train.face_cache import TrainingFaces, gather_faces
from agebench.train.formulas import bin_of_age, decode
from agebench.train.loop import BEST_FILE
from agebench.train.losses import LOSSES
from agebench.train.networks import AgeNetwork, build_network
from agebench.trainer.pictures import TrainingPictures
from agebench.types import Floats

CALIBRATED_FILE = "calibrated.safetensors"
LEVELS = (0.5, 0.8, 0.95)
SMOOTH_YEARS = 4.0
MIN_FRACTION = 1e-4
"""Lower limit of the smoothed fraction of an age in the training pictures."""

OLD_YEARS = (60, 75)
"""Ages between which `raised` rises."""

SPAN = (0.5, 3.0)
"""Temperatures looked at."""

YEARS = torch.arange(0, 117).double()


@torch.no_grad()
def outputs_of(model: AgeNetwork, faces: TrainingFaces, *, mirror: bool) -> Tensor:
    """Return outputs of the pictures, and of their mirror images if asked, (1 or 2, n, bins)."""
    both = []
    for mirrored in (False, True) if mirror else (False,):
        views = plain_views(
            faces, model.settings.crop, torch.device("cpu"), BATCH, mirrored=mirrored
        )
        both.append(torch.cat([model(batch.pixels, batch.present).final for batch in views]))
    return torch.stack(both).double()


def probabilities_at(outputs: Tensor, temperature: float) -> Tensor:
    """Return the mean distribution over picture and mirror image at a temperature, (n, bins)."""
    return (outputs / temperature).softmax(dim=2).mean(dim=0)


def surprise(outputs: Tensor, ages: Tensor, temperature: float) -> float:
    """Return minus the mean log probability of the labels' bins."""
    rows = bin_of_age(ages, YEARS)[:, None]
    return float(
        -probabilities_at(outputs, temperature).gather(1, rows).clamp_min(1e-9).log().mean()
    )


def coverage(probabilities: Tensor, ages: Tensor, level: float) -> float:
    """Return the fraction of labels within the central interval, the label's own bin counting half.

    The half of a bin on either side is what a discrete distribution can't tell apart.
    """
    rows = bin_of_age(ages, YEARS)[:, None]
    upper = probabilities.cumsum(dim=1).gather(1, rows)
    middle = upper - probabilities.gather(1, rows) / 2
    return float(((middle - 0.5).abs() <= level / 2).double().mean())


def fitted(sets: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Return the temperature with the lowest mean `surprise` over the sets."""

    def loss(temperature: float) -> float:
        return float(np.mean([surprise(*of_set, temperature) for of_set in sets.values()]))

    return float(minimize_scalar(loss, bounds=SPAN, method="bounded").x)


def adjustment(ages: Floats, tau: float) -> Tensor:
    """Return the offsets of the outputs, (bins,): -tau times the log of each age's frequency.

    Args:
        ages: that are trained on, years.
        tau: 0 for nothing, 1 as if all ages had come up alike.
    """
    counts = np.bincount(np.floor(ages).astype(int), minlength=len(YEARS)).astype(float)
    smoothed = gaussian_filter1d(counts, SMOOTH_YEARS, mode="nearest")
    return torch.from_numpy(-tau * np.log(np.maximum(smoothed / smoothed.sum(), MIN_FRACTION)))


def raised(slope: float) -> Tensor:
    """Return the offsets of the outputs, (bins,), that make old people older: 0 below 60 years.

    Args:
        slope: rise per year from 60 to 75 years; 0 for nothing.
    """
    start, end = OLD_YEARS
    return slope * (YEARS.clamp(start, end) - start)


def report(name: str, outputs: Tensor, ages: Tensor, temperature: float) -> str:
    """Return MAE, bias from 60 years on, and coverage of one set at a temperature."""
    probabilities = probabilities_at(outputs, temperature)
    years = decode(probabilities, YEARS, "median").numpy()
    inside = " ".join(f"{coverage(probabilities, ages, level):.3f}" for level in LEVELS)
    error = mae(ages.numpy(), np.asarray(years, np.float64))
    old = ages.numpy() >= 60
    bias = float((years[old] - ages.numpy()[old]).mean())
    return (
        f"{name}: temperature {temperature:.3f}: MAE {error:.3f}, from 60 on bias {bias:+.2f}, "
        f"inside {inside}"
    )


def changed(
    saved: Checkpoint, added: Tensor, temperature: float, *, tau: float, slope: float
) -> Checkpoint:
    """Return a checkpoint whose last layer, averaged and not, is adjusted and then divided."""

    def scaled(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        bias = ((weights["head.bias"] + added) / temperature).float()
        return {
            **{name: value.clone() for name, value in weights.items()},
            "head.weight": weights["head.weight"] / temperature,
            "head.bias": bias,
        }

    about = {**saved.about, "temperature": temperature, "rare": tau, "older": slope}
    return replace(
        saved, about=about, model=scaled(saved.model), averaged=scaled(saved.averaged), optimiser={}
    )


def gathered(pictures: TrainingPictures, lists: Sequence[str]) -> dict[str, TrainingFaces]:
    """Read the pictures of the validation part and of the lists."""
    settings = pictures.settings
    sets = {settings.data.val_part: pictures.gather(settings.data.val_part)}
    for path in lists:
        sets[path] = gather_faces(
            load_dataset("csv", path), load_detector("yunet"), settings.model.crop
        )
    return sets


def trained_ages(pictures: TrainingPictures) -> Floats:
    """Return the ages of the run's own training part."""
    samples = part(pictures.dataset, pictures.split, pictures.settings.data.train_part).samples
    return np.array([item.age_years for item in samples if item.age_years is not None])


def main() -> None:
    """Read the command line, fit and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--held-out", action="append", default=[])
    parser.add_argument("--rare", type=float, default=0.0, metavar="TAU")
    parser.add_argument("--older", type=float, default=0.0, metavar="SLOPE")
    parser.add_argument("--no-mirror", action="store_true", help="Leave out the mirror images.")
    parser.add_argument("--temperature", type=float, help="take this one, fit none")
    args = parser.parse_args()
    saved = read_checkpoint(args.run / BEST_FILE)
    spec = LOSSES[saved.settings.loss.name]
    if spec.name == "coral":
        raise SystemExit("expected a run whose loss is over bins: coral's outputs are questions")
    model = build_network(saved.settings.model, spec.head).eval()
    model.load_state_dict(dict(saved.averaged))
    data = replace(saved.settings.data, root=args.root, extra={})
    pictures = TrainingPictures.of(replace(saved.settings, data=data), no_progress)
    raw = {
        name: (outputs_of(model, rows, mirror=not args.no_mirror), torch.from_numpy(rows.ages))
        for name, rows in gathered(pictures, args.held_out).items()
    }
    added = adjustment(trained_ages(pictures), args.rare) + raised(args.older)
    sets = {name: (outputs + added, ages) for name, (outputs, ages) in raw.items()}
    temperature = args.temperature or fitted(sets)
    for name, of_set in sets.items():
        print("before", report(name, *raw[name], 1.0))
        print("after ", report(name, *of_set, temperature))
    new = changed(saved, added, temperature, tau=args.rare, slope=args.older)
    new.write(args.run / CALIBRATED_FILE)


if __name__ == "__main__":
    main()
