"""Export of the multi-crop networks of `agebench.train` to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agebench.conversion.graph import Graph
from agebench.duplicates.training_hashes import RUN_HASHES, find_hashes
from agebench.errors import ModelError
from agebench.export.candidate import Candidate, YearsSource
from agebench.export.decoding import add_age, decode_rule
from agebench.export.residual import Planes, add_backbone, as_floats
from agebench.metrics.age_classes import expectation, median
from agebench.modelfiles.weights import sha256_of
from agebench.runtimes.age_file import check_views, feeds_of
from agebench.runtimes.onnx_metadata import PRESENT, PROBABILITIES, FileSpec, SourceFile, views_of
from agebench.train.checkpoint import read_checkpoint
from agebench.train.formulas import CoralHead
from agebench.train.inference import distribution, flipped_views, load_model
from agebench.train.losses import LOSSES, LossSpec
from agebench.train.model_settings import Flip, ModelSettings
from agebench.train.networks import SCALE, AgeNetwork, Colours, MultiCropResNet
from agebench.types import AgeBins, Crops, Floats, LabelKind


@dataclass(frozen=True, slots=True)
class ModelAbout:
    """Metadata of the exported file; see `agebench.protocols.EstimatorSpec`."""

    name: str = "multi-crop"
    trained_on: str = ""
    trained_sets: tuple[str, ...] = ()
    label_kind: LabelKind = "unknown"
    licence: str = ""
    sources: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """Names of the network's input values in the graph.

    Attributes:
        views: value of each view, in the order of the settings.
        present: value with the flags of the views that are present; "" with one view.
        once: views without a mirror image, whose features are used for both halves of the batch.
    """

    views: Mapping[str, str]
    present: str
    once: frozenset[str] = frozenset()

    @staticmethod
    def of(views: Sequence[str]) -> Inputs:
        """Return the graph's own inputs."""
        return Inputs({name: name for name in views}, PRESENT if len(views) > 1 else "")

    def with_mirrored(self, graph: Graph, settings: ModelSettings, flip: Flip) -> Inputs:
        """Append the mirror images of the pictures to the batch.

        One run over twice the batch takes less time than two runs.
        """
        views, partners = settings.views, flipped_views(settings, flip)
        doubled = dict(self.views)
        for name, other in partners.items():
            turned = graph.mirrored(self.views[other], views[other].size_hw[1])
            doubled[name] = graph.node("Concat", [self.views[name], turned], f"{name}_both", axis=0)
        order = [list(views).index(partners.get(name, name)) for name in views]
        present = self.present
        if present and order != list(range(len(order))):
            places = graph.weight(order, "partners", whole=True)
            present = graph.node("Gather", [present, places], "present_mirrored", axis=1)
        if present:
            present = graph.node("Concat", [self.present, present], "present_both", axis=0)
        return Inputs(doubled, present, frozenset(views) - frozenset(partners))


def add_multi_crop(graph: Graph, model: MultiCropResNet, inputs: Inputs) -> str:
    """Add the network without the decoding; return the name of the head's output, (n, outputs).

    Raises:
        ModelError: a part of it can't be exported.
    """
    early = model.settings.fusion == "early"
    joined = _early(graph, model, inputs) if early else _late(graph, model, inputs)
    dense = _dense(graph, model.joint, joined, "joint")
    return _head(graph, model.head, graph.node("Relu", [dense], "dense"))


def _late(graph: Graph, model: MultiCropResNet, inputs: Inputs) -> str:
    parts = []
    names = list(inputs.views)
    for name, value in inputs.views.items():
        backbone: Any = model.backbones[name]
        planes = Planes(_colours(graph, model, name, value), model.settings.views[name].size_hw)
        # Named "trunk" in published files; a new export must give the same bytes.
        features = add_backbone(graph, backbone, planes, f"{name}_trunk")
        if name in inputs.once:
            features = graph.node("Concat", [features, features], f"{name}_twice", axis=0)
        parts.append(features)
    if len(names) == 1:
        return parts[0]
    joined = graph.node("Concat", parts, "features", axis=1)
    absent = [as_floats(model.absent[name]) for name in names]
    spread = _blocks([np.ones(len(row)) for row in absent])
    present = graph.node("Flatten", [inputs.present], "there", axis=1)
    mask = graph.node("Gemm", [present, graph.weight(spread, "spread")], "mask")
    seen = graph.node("Mul", [joined, mask], "seen")
    absent_flags = graph.node("Sub", [graph.weight([1.0], "one"), present], "gone")
    fill = graph.node("Gemm", [absent_flags, graph.weight(_blocks(absent), "absent")], "fill")
    return graph.node("Add", [seen, fill], "joined")


def _blocks(rows: Sequence[Floats]) -> Floats:
    """Return (views, all features): each view's row at its own features, zeros elsewhere."""
    table = np.zeros((len(rows), sum(map(len, rows))))
    start = 0
    for index, row in enumerate(rows):
        table[index, start : start + len(row)] = row
        start += len(row)
    return table


def _early(graph: Graph, model: MultiCropResNet, inputs: Inputs) -> str:
    planes = []
    names = list(inputs.views)
    for index, (name, value) in enumerate(inputs.views.items()):
        colours = _colours(graph, model, name, value)
        plane = graph.weight(np.ones((1, 1, *model.settings.views[name].size_hw)), "plane")
        if len(names) > 1:
            flag = graph.slice(inputs.present, 1, index, index + 1, f"{name}_there")
            colours = graph.node("Mul", [colours, flag], f"{name}_seen")
        else:
            flag = _ones(graph, value)
        planes += [colours, graph.node("Mul", [flag, plane], f"{name}_plane")]
    backbone: Any = model.backbones["all"]
    size_hw = model.settings.views[names[0]].size_hw
    joined = Planes(graph.node("Concat", planes, "planes", axis=1), size_hw)
    return add_backbone(graph, backbone, joined, "trunk")


def _ones(graph: Graph, value: str) -> str:
    """Return (n, 1, 1, 1) of ones for a single view: the mean of its picture times 0 plus 1."""
    picture = graph.node("GlobalAveragePool", [value], "batch_of")
    weights = graph.weight(np.zeros((1, 3, 1, 1)), "nothing")
    bias = graph.weight([1.0], "one")
    return graph.node("Conv", [picture, weights, bias], "ones", kernel_shape=[1, 1])


def _colours(graph: Graph, model: MultiCropResNet, name: str, value: str) -> str:
    module: Any = model.colours[name]
    colours: Colours = module
    mode = model.settings.views[name].input
    centre = as_floats(colours.centre)
    if mode == "bgr":
        mean = graph.weight(centre[None], "centre")
        centred = graph.node("Sub", [value, mean], f"{name}_centred")
        return graph.node("Mul", [centred, graph.weight([SCALE], "scale")], f"{name}_scaled")
    weights = graph.weight(as_floats(colours.matrix) * SCALE, f"{name}_{mode}")
    biases = graph.weight(-centre[:, 0, 0] * SCALE, f"{name}_{mode}_centre")
    return graph.node("Conv", [value, weights, biases], f"{name}_scaled", kernel_shape=[1, 1])


def _dense(graph: Graph, layer: nn.Linear, value: str, hint: str) -> str:
    weights = graph.weight(as_floats(layer.weight), f"{hint}_weights")
    biases = graph.weight(as_floats(layer.bias), f"{hint}_biases")
    return graph.node("Gemm", [value, weights, biases], hint, transB=1)


def _head(graph: Graph, head: nn.Module, value: str) -> str:
    if isinstance(head, nn.Linear):
        return _dense(graph, head, value, "head")
    if isinstance(head, CoralHead):
        weights = np.repeat(as_floats(head.score.weight), len(head.bias), axis=0)
        # All ranks have the same score, so a running minimum of the biases keeps them in order.
        biases = np.minimum.accumulate(as_floats(head.bias))
        names = [graph.weight(weights, "ranks_weights"), graph.weight(biases, "ranks_biases")]
        return graph.node("Gemm", [value, *names], "ranks", transB=1)
    raise ModelError(f"a head of kind {type(head).__name__} can't be exported to ONNX")


def _probabilities(graph: Graph, head: nn.Module, value: str, output: str) -> str:
    if not isinstance(head, CoralHead):
        return graph.named("Softmax", [value], output, axis=1)
    older = graph.node("Sigmoid", [value], "older")
    ranks = len(head.bias)
    # Bin k: "older than k - 1" minus "older than k"; the first rank has probability 1.
    steps = np.zeros((ranks, ranks + 1))
    steps[np.arange(ranks), np.arange(ranks) + 1] = 1.0
    steps[np.arange(ranks), np.arange(ranks)] = -1.0
    certain = np.eye(1, ranks + 1)
    names = [graph.weight(steps, "steps"), graph.weight(certain, "certain")]
    probabilities = graph.node("Gemm", [older, *names], "differences")
    return graph.named("Relu", [probabilities], output)


def _add_probabilities(graph: Graph, model: MultiCropResNet, *, flip: Flip) -> str:
    """Add the output `PROBABILITIES`; with `flip`, the mean over picture and mirror image."""
    inputs = Inputs.of(list(model.settings.views))
    if not flip:
        straight = add_multi_crop(graph, model, inputs)
        return _probabilities(graph, model.head, straight, PROBABILITIES)
    both = add_multi_crop(graph, model, inputs.with_mirrored(graph, model.settings, flip))
    probabilities = _probabilities(graph, model.head, both, "shares")
    pairs = graph.reshape(probabilities, [2, -1, len(model.settings.bins)], "pairs")
    return graph.named("ReduceMean", [pairs], PROBABILITIES, axes=[0], keepdims=0)


def _source(
    model: MultiCropResNet, loss: LossSpec, rule: str, bins: AgeBins, *, flip: Flip
) -> YearsSource:
    views = list(model.settings.views)
    crop = model.settings.crop

    @torch.no_grad()
    def years(crops: Crops) -> Floats:
        check_views(crops, crop, missing=len(views) > 1, who="the PyTorch model")
        parts = []
        for start in range(0, len(crops), 64):
            feeds = feeds_of(crops.take(slice(start, start + 64)), views, with_present=True)
            pixels = {name: torch.from_numpy(feeds[name]) for name in views}
            present_flags = torch.from_numpy(feeds[PRESENT])[:, :, 0, 0]
            present = {name: present_flags[:, k : k + 1] for k, name in enumerate(views)}
            found = distribution(model, loss, pixels, present, flip=flip)
            parts.append(found.double().numpy())
        probabilities = np.concatenate(parts)
        return (
            median(probabilities, bins)
            if rule == "median"
            else expectation(probabilities, bins.midpoints)
        )

    return years


def multi_crop_candidate(
    model: AgeNetwork,
    loss: LossSpec,
    decode: str,
    about: ModelAbout | None = None,
    *,
    flip: Flip = False,
) -> Candidate:
    """Prepare a trained network for export.

    Args:
        model: with its weights; it is set to evaluation mode and moved to the CPU.
        loss: defines the meaning of the head's output.
        decode: "expectation" or "median".
        about: metadata of the file.
        flip: the graph averages the distributions of the picture and its mirror image; see `Flip`.

    Raises:
        UsageError: the decoding can't be exported.
        ModelError: a part of the network can't be exported.
    """
    if not isinstance(model, MultiCropResNet):
        raise ModelError(
            "a trained age-net can't be exported directly: convert it to a Caffe file with "
            "'agebench convert-caffe'; if its ages are 0 to 116, 'agebench export-onnx' then "
            "accepts caffe-age-net-utkface:FILE"
        )
    about = about or ModelAbout()
    rule = decode_rule(decode)
    model = model.eval().cpu()
    bins = model.settings.bins
    written = FileSpec(
        name=about.name,
        views=views_of(model.settings.crop),
        bins=tuple(zip(bins.lows, bins.highs, strict=True)),
        bin_years=tuple(float(value) for value in bins.midpoints),
        decode=rule,
        licence=about.licence,
        trained_on=about.trained_on,
        trained_sets=about.trained_sets,
        label_kind=about.label_kind,
        sources=about.sources,
        missing="learned" if len(model.settings.views) > 1 else "refused",
        normalisation=_normalisation(model),
        mirrored=bool(flip),
        mirrored_views=() if isinstance(flip, bool) else flip,
        notes=about.notes,
    )
    graph = Graph()
    graph.reserve(*written.input_shapes, *written.output_shapes, "shares")
    probabilities = _add_probabilities(graph, model, flip=flip)
    add_age(graph, probabilities, written.bin_years, rule)
    proto = graph.model("multi_crop", written.input_shapes, written.output_shapes)
    return Candidate(
        proto, written, _source(model, loss, rule, bins, flip=flip), f"{about.name} in PyTorch"
    )


def _normalisation(model: MultiCropResNet) -> str:
    modes = {view.input for view in model.settings.views.values()}
    return f"{'/'.join(sorted(modes))} channels, centred, times {SCALE:g}"


def checkpoint_candidate(path: Path, *, flip: Flip = False) -> Candidate:
    """Prepare a checkpoint of ``agebench train`` for export; its averaged weights, if any.

    Args:
        path: the checkpoint.
        flip: as for `multi_crop_candidate`.

    Raises:
        WeightsError: the file is missing, damaged or not a checkpoint.
        UsageError: its settings are not valid in this version, or its decoding can't be exported.
        ModelError: a part of the network can't be exported.
    """
    saved = read_checkpoint(path)
    model = load_model(saved, str(path))
    licence = saved.about_text("dataset", "licence")
    about = ModelAbout(
        trained_on=saved.trained_on,
        trained_sets=saved.trained_sets,
        label_kind=saved.label_kind,
        licence=licence,
        sources=(SourceFile(path.name, sha256_of(path), licence, "agebench train"),),
        notes=("terms of the training data hold for the weights too",) if licence else (),
    )
    loss = LOSSES[saved.settings.loss.name]
    candidate = multi_crop_candidate(model, loss, saved.settings.decode, about, flip=flip)
    return replace(candidate, trained=find_hashes(path, path.parent / RUN_HASHES))
