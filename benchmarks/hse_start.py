"""A checkpoint of a multi-crop network whose face stream starts from a fine-tuned `hse-mobilenet`.

    python -m benchmarks.hse_start LISTS/hse/hse.safetensors RUN11/best.safetensors \
        --settings SETTINGS.toml -o RUN12/best.safetensors
    python -m benchmarks.hse_start published \
        --settings SETTINGS.toml --root ROOT -o RUN1/best.safetensors

The settings' view "face" has a backbone of kind "mobilenet" and width 32, and `model.dense` is 256.
From the fine-tuned network (benchmarks/hse_teacher.py) come the face stream, its part of the dense
layer and the head; from the other checkpoint the streams of all other views, whose parts of the
dense layer start small.  The new network's first ages are nearly those of the fine-tuned one.
The list of training pictures is copied from the checkpoint: it must include the other's.

"published" stands for the network as its makers published it, whose normalisations are set with
pictures of the settings' data set, without any training.  Without another checkpoint, other views
start at random, and no list of training pictures is written.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agebench.datasets.base import sample
from agebench.duplicates.training_hashes import RUN_HASHES
from agebench.registry.plugins import load_dataset, load_detector
from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.losses import LOSSES
from agebench.train.mobilenet import MobileNet
from agebench.train.networks import SCALE, MultiCropResNet, build_network
from agebench.train.settings import TrainSettings, read_settings
from benchmarks.hse_network import MEANS_BGR, HseMobileNet, pairs, set_norms
from benchmarks.hse_teacher import cut, faces_of, prepared, started

FACE = "face"
PUBLISHED = "published"
TYPICAL = 512
"""Pictures that the published network's normalisations are set with."""

CENTRE = 127.5
OTHERS_SCALE = 0.1
"""Of the initial weights of the other views' features, relative to usual ones."""

LESS_PER_YEAR = 0.5
"""Each age above 100, or below 1, starts with this much smaller a logit than the one before."""


@torch.no_grad()
def fill_face(backbone: MobileNet, teacher: HseMobileNet) -> None:
    """Copy the network; its first layer takes this project's scale and centre of pixels."""
    backbone.load_state_dict(teacher.body.state_dict())
    first, norm = next(pairs(backbone.layers))
    off = first.weight.sum((2, 3)) @ (CENTRE - torch.tensor(MEANS_BGR))
    first.weight /= SCALE
    # The constant difference of centres; at the padded border it is not constant, which is left.
    if norm.running_mean is not None:
        norm.running_mean -= off


@torch.no_grad()
def fill_dense(model: MultiCropResNet, teacher: HseMobileNet) -> None:
    """Set the dense layer and the head; the face has the teacher's features."""
    start = 0
    for name, view in model.settings.views.items():
        columns = model.joint.weight[:, start : start + view.backbone.features]
        if name == FACE:
            columns.copy_(teacher.features.weight)
        else:
            nn.init.kaiming_normal_(columns, nonlinearity="relu")
            columns *= OTHERS_SCALE
        start += view.backbone.features
    model.joint.bias.copy_(teacher.features.bias)
    head = model.head
    if not isinstance(head, nn.Linear):
        raise SystemExit("expected a loss over bins")
    for index in range(len(model.settings.bins)):
        age = model.settings.youngest + index
        row = min(max(age, 1), 100) - 1
        head.weight[index] = teacher.ages.weight[row]
        head.bias[index] = teacher.ages.bias[row] - LESS_PER_YEAR * abs(age - 1 - row)


def fill_others(model: MultiCropResNet, weights: Mapping[str, Tensor]) -> None:
    """Copy the streams of all views but the face's, and what stands for a missing one."""
    state = model.state_dict()
    for name in model.settings.views:
        for key in state:
            own = key.startswith((f"backbones.{name}.", f"auxiliary.{name}.")) or (
                key == f"absent.{name}"
            )
            if own and name != FACE:
                state[key].copy_(weights[key])


def published(settings: TrainSettings) -> HseMobileNet:
    """Return the network as published, normalised for typical pictures of the settings' set."""
    data = settings.data
    chosen = sample(load_dataset(data.dataset, data.root or None), TYPICAL, settings.seed)
    faces = faces_of(chosen, load_detector(data.detector), None)
    side = settings.model.views[FACE].size_hw[0]
    torch.manual_seed(settings.seed)
    network = HseMobileNet().eval()
    set_norms(network, prepared(cut(faces.pixels, side, jitter=True)))
    return network


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", help='hse.safetensors, or "published"')
    parser.add_argument("others", type=Path, nargs="?", help="a checkpoint with the other views")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--root", default="", help='data.root, for "published"')
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    texts = {"data.root": args.root} if args.root else {}
    settings = read_settings(args.settings, texts=texts)
    model = build_network(settings.model, LOSSES[settings.loss.name].head)
    if not isinstance(model, MultiCropResNet):
        raise SystemExit("expected settings of a multi-crop network")
    new = args.teacher == PUBLISHED
    teacher = published(settings) if new else started(Path(args.teacher))
    face = model.backbones[FACE]
    if not isinstance(face, MobileNet):
        raise SystemExit("expected a face stream of kind mobilenet")
    fill_face(face, teacher)
    fill_dense(model, teacher)
    about: dict[str, Any] = {}
    origins = [Path(args.teacher).name]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.others is not None:
        saved = read_checkpoint(args.others)
        fill_others(model, saved.averaged)
        about, origins = dict(saved.about), [*origins, args.others.parent.name]
        shutil.copy(args.others.parent / RUN_HASHES, args.out.parent / RUN_HASHES)
    state = model.state_dict()
    own = {name: value.clone() for name, value in state.items()}
    Checkpoint(
        settings, {"history": []}, {**about, "started_from": origins}, own, state, {}
    ).write(args.out)  # fmt: skip


if __name__ == "__main__":
    main()
