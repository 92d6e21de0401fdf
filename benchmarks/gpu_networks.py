"""The networks that `gpu.py` measures, their inputs, and the measurement's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agebench.conversion.converted import converted_age_net
from agebench.export.multi_crop import multi_crop_candidate
from agebench.export.random_age_net import random_age_net
from agebench.modelfiles.manifest import bundled_dir
from agebench.modelfiles.weights import sha256_of
from agebench.runtimes.base import ModelSource
from agebench.runtimes.model_cost import model_cost
from agebench.runtimes.torch_graph import PRECISIONS, TorchGraph, read_graph
from agebench.train.losses import LOSSES
from agebench.train.networks import build_network
from agebench.train.settings import read_settings
from benchmarks.gpu_times import DeviceTimes, time_runs


@dataclass(frozen=True, slots=True)
class How:
    """Settings of a measurement.

    Attributes:
        device: "cuda" or "cpu".
        seconds: time per row; at least ten calls are timed (three if `quick`).
        quick: do a rehearsal with small sizes.
    """

    device: str
    seconds: float
    quick: bool = False

    def time(self, call: Callable[[], object]) -> DeviceTimes:
        """Time a call."""
        return time_runs(call, self.device, seconds=self.seconds, least=3 if self.quick else 10)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network to be timed.

    Attributes:
        name: shown in the rows.
        path: of the ONNX file.
        weights: their origin.
        macs: multiply-accumulate operations per face.
        weight_bytes: size of the weights in float32.
        input_bytes: size of the inputs per face, in float32.
    """

    name: str
    path: Path
    weights: str
    macs: int
    weight_bytes: int
    input_bytes: int

    def inputs(
        self, batch: int, device: str, precision: str, *, channels_last: bool
    ) -> list[Tensor]:
        """Return random noise as faces, on the device, with all views present."""
        rng, graph = np.random.default_rng(0), read_graph(self.path)
        found = []
        for name, shape in graph.shapes.items():
            noise = rng.uniform(0, 255, (batch, *shape)).astype(np.float32)
            value = torch.from_numpy(np.ones_like(noise) if name == "present" else noise)
            value = value.to(device, PRECISIONS[precision])
            if channels_last:
                value = value.contiguous(memory_format=torch.channels_last)
            found.append(value)
        return found


def load_network(name: str, folder: Path) -> Network:
    """Return one of `NETWORKS`; a file that must be created is written to `folder`."""
    path, weights = NETWORKS[name](folder)
    shapes = {key: (1, *shape) for key, shape in read_graph(path).shapes.items()}
    cost = model_cost(ModelSource("onnx", path), shapes)
    inputs = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    return Network(name, path, weights, cost.macs or 0, cost.weight_bytes, inputs)


def _twin(folder: Path) -> tuple[Path, str]:
    """Return a float32 version of the 8-bit file: one evaluation per face, random weights."""
    settings = read_settings(bundled_dir() / "multicrop-resnet-5.toml")
    loss = LOSSES[settings.loss.name]
    model = build_network(settings.model, loss.head)
    path = folder / "one_look.onnx"
    path.write_bytes(multi_crop_candidate(model, loss, "median").model.SerializeToString())
    return path, "random"


def _age_net(folder: Path) -> tuple[Path, str]:
    """Return the age network as ONNX and the origin of its weights: random without the file."""
    caffemodel = bundled_dir() / "caffe-age-net-utkface.caffemodel"
    if caffemodel.is_file():
        path = converted_age_net(caffemodel, sha256_of(caffemodel))
        return path, "those of caffe-age-net-utkface"
    random = folder / "random.caffemodel"
    random_age_net(random, seed=0)
    return converted_age_net(random, sha256_of(random)), "random, in the published layout"


NETWORKS: Mapping[str, Callable[[Path], tuple[Path, str]]] = {
    "multicrop-resnet": lambda _: (bundled_dir() / "multicrop-resnet.onnx", "its own"),
    "multicrop-resnet-small in float32": _twin,
    "age_net": _age_net,
}
"""The timed networks: each function takes a folder and returns the file and its weights' origin."""


def prepared(
    network: Network, batch: int, how: How, precision: str, *, channels_last: bool
) -> tuple[TorchGraph, list[Tensor]]:
    """Return a network's graph and inputs, on the device and in the given precision."""
    graph = read_graph(network.path).to(how.device)
    graph = graph.computed_in(precision, channels_last=channels_last)
    inputs = network.inputs(batch, how.device, precision, channels_last=channels_last)
    return graph, inputs
