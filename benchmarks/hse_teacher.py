"""A better teacher: `hse-mobilenet`, fine-tuned on the pictures of the student's run.

    python -m benchmarks.hse_teacher pretrained/multicrop-resnet-8.toml --root UTKFACE \
        --hashes pretrained/multicrop-resnet.training-hashes.bin -o LISTS/hse

The published network (Apache-2.0) learned from IMDB-WIKI, so it errs differently from one that
learned from UTKFace.  It is trained further on the run's own training part and on the sets of
`data.extra`, with batch normalisation, at 128 and then at 160 pixels.  Writes `hse.onnx` and
`hse.toml`, for `benchmarks.teacher_answers --member spec:LISTS/hse/hse.toml=0.5`, and
`hse.safetensors`, for `benchmarks.hse_start`; prints errors on the validation part.  With
--hashes, only pictures on that list are used: those that the student's list of training pictures
names.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from agebench.duplicates.training_hashes import TrainingHashes, read_training_hashes
from agebench.protocols import Dataset, FaceDetector, no_progress
from agebench.splits.parts import part
from agebench.train.formulas import decode, dldl, interval_likelihood
from agebench.train.settings import read_settings
from agebench.trainer.pictures import TrainingPictures
from agebench.types import CropSpec, Floats, Image, ViewSpec
from agebench.vision.faces import face_pictures
from agebench.vision.images import MAX_PIXELS
from benchmarks.hse_network import AGES, MEANS_BGR, HseMobileNet, set_norms
from benchmarks.teacher_answers import sources

STORED_PX = 188
STORED_MARGIN, SEEN_MARGIN = 0.2, 0.1
ZOOM = (1 + 2 * SEEN_MARGIN) / (1 + 2 * STORED_MARGIN)
"""Side of the network's crop in that of the stored one, which leaves room for shifts and turns."""

OWN_FRACTION = 0.55
"""Of each batch from the run's own training part; the other sets share the rest equally."""

BATCH = 64
STEPS, RATE = ((850, 128), (300, 160)), 3e-4
"""Number of steps, side of the crops in pixels; the highest learning rate."""

FURTHER_STEPS, FURTHER_RATE = ((1100, 160),), 2e-4
"""The same for a second call, with --start."""

DECAY, WARM_UP, LONGEST_GRADIENT = 0.02, 100, 5.0
SIGMA_YEARS, L1_WEIGHT = 2.0, 0.3
BALANCE = 0.3
AVERAGED = 0.995
WEIGHTS_FILE = "hse.safetensors"
TEXT = """\
# hse-mobilenet, fine-tuned by benchmarks/hse_teacher.py
name = "hse-finetuned"

[files]
model = "hse.onnx"

[crop]
region = "face"
size = [160, 160]
margin = 0.1
stretch = true

[input]
channel_order = "bgr"
mean = [103.939, 116.779, 123.68]

[output]
kind = "logits"

[decode]
rule = "median"

[bins]
first = 1
last = 100

[about]
what = "the age network of HSE_FaceRec_tf, fine-tuned"
licence = "for research only: trained on UTKFace"
trained_on = "IMDB-WIKI, then the pictures of a run of this project"
label_kind = "unknown"
"""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Crops and labels of n pictures.

    Attributes:
        pixels: uint8 (n, 188, 188, 3), B, G, R.
        lows, highs: float64 (n,), years: equal where the label is an age.
    """

    pixels: Image
    lows: Floats
    highs: Floats

    def chances(self) -> Floats:
        """Return the probability of each picture to be drawn: rare decades somewhat more often."""
        middles = np.clip((self.lows + self.highs) / 2, 0, 99)
        decades = (middles // 10).astype(int)
        weights = (np.bincount(decades)[decades] / len(decades)) ** -BALANCE
        return np.asarray(weights / weights.sum(), np.float64)


def faces_of(dataset: Dataset, detector: FaceDetector, known: TrainingHashes | None) -> Faces:
    """Cut the largest face of every picture, or of those on the list."""
    spec = CropSpec({"face": ViewSpec("face", (STORED_PX, STORED_PX), margin=STORED_MARGIN)})
    pixels, lows, highs = [], [], []
    pictures = face_pictures(dataset.samples, detector, [spec], workers=1, max_pixels=MAX_PIXELS)
    for picture in pictures:
        if picture.status != "ok" or (known and not known.contains(picture.decoded.sha256)):
            continue
        age = picture.sample.age_years
        low, high = (age, age) if age is not None else picture.sample.age_range or (0, 116)
        pixels.append(picture.crops[0].views["face"][0])
        lows.append(low)
        highs.append(high)
    return Faces(np.stack(pixels), np.array(lows, float), np.array(highs, float))


def uniform(low: float, high: float, *shape: int) -> Tensor:
    """Draw numbers of a shape."""
    return torch.empty(shape).uniform_(low, high)


def cut(pixels: Image, side: int, *, jitter: bool) -> Tensor:
    """Return the network's crops, float32 (n, 3, side, side), 0 to 255.

    With jitter, they are shifted, turned and scaled at random, and half of them mirrored.
    """
    count = len(pixels)
    zoom, angle, shift = torch.full((count,), ZOOM), torch.zeros(count), torch.zeros(count, 2)
    mirror = torch.ones(count)
    if jitter:
        zoom, angle = zoom * uniform(0.88, 1.1, count), uniform(-0.17, 0.17, count)
        shift = uniform(-0.07, 0.07, count, 2)
        mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
        torch.stack([sin * mirror, cos, shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 3, side, side], align_corners=False)
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)


def altered(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast and colour; some pictures become gray, small, hidden, noisy."""
    count, _, side, _ = pixels.shape
    pixels = pixels * uniform(0.7, 1.3, count, 1, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * uniform(0.7, 1.3, count, 1, 1, 1) + mean
    pixels = pixels * uniform(0.9, 1.1, count, 3, 1, 1)
    gray = (pixels * torch.tensor([0.114, 0.587, 0.299]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    pixels = torch.where(torch.rand(count, 1, 1, 1) < 0.2, gray, pixels)
    for index in np.flatnonzero(rng.random(count) < 0.3):
        small = int(np.exp(rng.uniform(math.log(28), math.log(side))))
        shrunk = functional.interpolate(pixels[index, None], size=(small, small), mode="area")
        pixels[index] = functional.interpolate(shrunk, size=(side, side), mode="bilinear")[0]
    for index in np.flatnonzero(rng.random(count) < 0.25):
        height, width = rng.integers(side // 8, side // 3, 2)
        top, left = rng.integers(0, side - height), rng.integers(0, side - width)
        pixels[index, :, top : top + height, left : left + width] = float(rng.uniform(0, 255))
    noisy = torch.rand(count, 1, 1, 1) < 0.3
    noise = torch.randn_like(pixels) * uniform(0, 8, count, 1, 1, 1) * noisy
    return (pixels + noise).clamp_(0, 255)


def prepared(pixels: Tensor) -> Tensor:
    """Subtract the means, in the memory layout that is fast on a processor."""
    means = torch.tensor(MEANS_BGR).view(1, 3, 1, 1)
    return (pixels - means).contiguous(memory_format=torch.channels_last)


def loss_of(logits: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """Return the mean loss: DLDL-v2 for ages (Gao et al. 2018), the likelihood of ranges."""
    ages = lows.clamp(1, 100).floor()
    exact = dldl(logits, ages, AGES, sigma_years=SIGMA_YEARS, l1_weight=L1_WEIGHT)
    ranges = interval_likelihood(logits, lows.clamp(1, 100), highs.clamp(1, 100), AGES)
    return torch.where(lows == highs, exact, ranges).mean()


def batches(sets: list[Faces], rng: np.random.Generator) -> Iterator[tuple[Image, Tensor, Tensor]]:
    """Draw batches without end: pixels, lowest and highest age."""
    others = (1 - OWN_FRACTION) / max(1, len(sets) - 1)
    fractions = [OWN_FRACTION] + [others] * (len(sets) - 1) if len(sets) > 1 else [1.0]
    chances = [faces.chances() for faces in sets]
    while True:
        rows = [
            rng.choice(len(p), count, p=p)
            for p, count in zip(chances, rng.multinomial(BATCH, fractions), strict=True)
        ]
        columns = [
            np.concatenate([getattr(f, name)[r] for f, r in zip(sets, rows, strict=True)])
            for name in ("pixels", "lows", "highs")
        ]
        low, high = (torch.from_numpy(column).float() for column in columns[1:])
        yield columns[0], low, high


@torch.no_grad()
def average(kept: HseMobileNet, network: HseMobileNet, step: int) -> None:
    """Move the averaged weights towards those of the step."""
    decay = min(AVERAGED, (step + 1) / (step + 20))
    for old, new in zip(kept.state_dict().values(), network.state_dict().values(), strict=True):
        old.copy_(torch.lerp(new, old, decay) if old.is_floating_point() else new)


def started(path: Path) -> HseMobileNet:
    """Return a network that an earlier call has fine-tuned."""
    network = HseMobileNet().eval()
    network.load_state_dict(load_file(path))
    return network


def train(sets: list[Faces], seed: int, start: Path | None) -> HseMobileNet:
    """Fine-tune the published network, or an earlier call's; return it with averaged weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    drawn = batches(sets, rng)
    steps, rate = (FURTHER_STEPS, FURTHER_RATE) if start else (STEPS, RATE)
    network = started(start) if start else HseMobileNet().eval()
    if not start:
        typical = np.concatenate([next(drawn)[0] for _ in range(8)])
        set_norms(network, prepared(cut(typical, steps[0][1], jitter=True)))
    for weights in network.parameters():
        if weights.dim() == 4:
            weights.data = weights.contiguous(memory_format=torch.channels_last)
    kept: HseMobileNet = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=DECAY)
    sides = [side for count, side in steps for _ in range(count)]
    network.train()
    with Progress() as bars:
        for step in bars.track(range(len(sides)), description="steps"):
            falling = 0.5 * (1 + math.cos(math.pi * step / len(sides)))
            optimiser.param_groups[0]["lr"] = rate * min(1, (step + 1) / WARM_UP) * falling
            faces, lows, highs = next(drawn)
            crops = prepared(altered(cut(faces, sides[step], jitter=True), rng))
            optimiser.zero_grad()
            loss = loss_of(network(crops), lows, highs)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
            optimiser.step()
            average(kept, network, step)
    return kept


@torch.no_grad()
def error_years(network: HseMobileNet, faces: Faces, side: int) -> tuple[float, float]:
    """Return MAE and bias of the median of the distribution, averaged with the mirror image."""
    medians = []
    for start in range(0, len(faces.lows), BATCH):
        crops = prepared(cut(faces.pixels[start : start + BATCH], side, jitter=False))
        chances = (network(crops).softmax(1) + network(crops.flip(3)).softmax(1)) / 2
        medians.append(decode(chances, AGES, "median").numpy())
    errors = np.concatenate(medians) - faces.lows
    return float(np.abs(errors).mean()), float(errors.mean())


def write_teacher(network: HseMobileNet, folder: Path) -> None:
    """Write the network as ONNX, with its description for `spec:`, and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    side = STEPS[-1][1]
    torch.onnx.export(
        network, (torch.zeros(1, 3, side, side),), folder / "hse.onnx", dynamo=False,
        input_names=["pixels"], dynamic_axes={"pixels": {0: "n"}},
    )  # fmt: skip
    (folder / "hse.toml").write_text(TEXT, encoding="utf-8")
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE)


def main() -> None:
    """Read the command line, train, and write the file with its description."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--hashes", type=Path, help="list of training pictures to keep to")
    parser.add_argument("--start", type=Path, help="hse.safetensors of an earlier call")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    settings = read_settings(args.settings, texts={"data.root": args.root})
    known = read_training_hashes(args.hashes) if args.hashes else None
    named = sources(settings, own=True)
    own = named.pop("own")
    sets = [faces_of(*each, known) for each in (own, *named.values())]
    network = train(sets, settings.seed, args.start)
    pictures = TrainingPictures.of(settings, no_progress)
    held = part(pictures.dataset, pictures.split, settings.data.val_part)
    faces = faces_of(held, pictures.detector, None)
    side = STEPS[-1][1]
    mae, bias = error_years(network, faces, side)
    print(f"validation: MAE {mae:.3f}, bias {bias:+.2f} years")
    write_teacher(network, args.out)


if __name__ == "__main__":
    main()
