"""The networks that benchmarks/view_ablation.py starts from: streams of the bundled network.

A network of face, eyes or mouth starts as the bundled one with the other views withheld.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from agebench.modelfiles.manifest import bundled_dir
from agebench.train.face_cache import TrainingFaces
from agebench.train.networks import MultiCropResNet
from agebench.train.settings import TrainSettings
from benchmarks.read_back import unfold, views

LARGER = "larger"
"""Name of the view of a larger face."""

FILE = "multicrop-resnet"
"""The bundled file that the streams are read back from."""

STREAMS: Mapping[str, str] = {
    "face": "face",
    LARGER: "face",
    "original": "face",
    "eyes": "eyes",
    "eye_left": "eyes",
    "eye_right": "eyes",
    "eyes_square": "face",
    "mouth": "mouth",
    "mouth_square": "face",
}
"""Of each view, the view whose stream in that file it starts from."""

SHARES = {"original": 0.1, "eye_left": 0.5, "eye_right": 0.5}
"""Of the dense layer's weights for that stream, at the start; the face has the rest."""

TYPICAL_BATCHES = 6
"""Number of batches that their normalisations are set with."""

EARLY_SCALE = 0.1
"""Of the first filters on the further views, relative to those on the face."""


def start_file() -> Path:
    """Return the bundled file that the streams are from."""
    return bundled_dir() / f"{FILE}.onnx"


def normalised(
    model: MultiCropResNet, settings: TrainSettings, train: TrainingFaces
) -> MultiCropResNet:
    """Return a row's network with normalisations set for pictures that it will train on.

    Until then they only add their bias, as in the file.  Its ages in evaluation stay the same.
    """
    unfold(model.eval(), views(settings, train, TYPICAL_BATCHES))
    return model


@torch.no_grad()
def started_network(settings: TrainSettings, own: MultiCropResNet) -> MultiCropResNet:
    """Return a row's network with streams that were trained before.

    Args:
        settings: of the row.
        own: the bundled file's network, as `benchmarks.read_back.folded` returns it.
    """
    torch.manual_seed(settings.seed)
    model = MultiCropResNet(settings.model)
    if settings.model.fusion == "early":
        fill_early(model, own)
    else:
        for name in settings.model.views:
            stream = STREAMS[name]
            model.backbones[name].load_state_dict(own.backbones[stream].state_dict())
            model.absent[name].copy_(own.absent[stream])
        fill_joint(model, own)
    model.head.load_state_dict(own.head.state_dict())
    return model


def parts(model: MultiCropResNet) -> Iterator[tuple[str, Tensor]]:
    """Yield each view of a network with its columns of the dense layer's weights, to be changed."""
    start = 0
    for name, view in model.settings.views.items():
        yield name, model.joint.weight[:, start : start + view.backbone.features]
        start += view.backbone.features


def withheld(own: MultiCropResNet, streams: Collection[str]) -> Tensor:
    """Return the dense layer's bias where the bundled network is shown `streams` alone.

    What it has learned to take for a missing view is constant.
    """
    bias = own.joint.bias.clone()
    for name, columns in parts(own):
        if name not in streams:
            bias += columns @ own.absent[name]
    return bias


def fill_joint(model: MultiCropResNet, own: MultiCropResNet) -> None:
    """Start the dense layer as the bundled network's, from which other views are withheld.

    Views of one stream share its weights.
    """
    trained = dict(parts(own))
    model.joint.bias.copy_(withheld(own, {STREAMS[name] for name in model.settings.views}))
    for name, columns in parts(model):
        share = SHARES.get(name, 1.0)
        if name == "face" and "original" in model.settings.views:
            share = 1 - SHARES["original"]
        columns.copy_(trained[STREAMS[name]] * share)


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
    model.joint.weight.copy_(dict(parts(own))["face"])
    model.joint.bias.copy_(withheld(own, {"face"}))
