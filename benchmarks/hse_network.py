"""The age network of `hse-mobilenet` as a PyTorch module, with the published weights.

MobileNet 1.0 (Howard et al. 2017): a 3x3 convolution, 13 depthwise and pointwise pairs, the mean
over the picture, 256 features, 100 ages.  The published graph has its normalisations folded into
scales and shifts; `with_norms` inserts batch normalisations that change nothing until they are
trained, because without them the network can't be fine-tuned at usual rates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agebench.estimators.hse_mobilenet import FILE
from agebench.modelfiles.weights import resolve
from agebench.vision.opencv import cv2

AGES = torch.arange(1, 101).float()
"""Ages of the outputs, years."""

MEANS_BGR = (103.939, 116.779, 123.68)
PAIRS = 13
STRIDED = frozenset({2, 4, 6, 12})
"""Depthwise convolutions of stride 2; TensorFlow pads these at the right and bottom alone."""

LEAST_SPREAD = 1e-2
MOMENTUM = 0.02


class HseMobileNet(nn.Module):
    """From B, G, R minus `MEANS_BGR`, float32 (n, 3, height, width), to logits (n, 100)."""

    def __init__(self, graph: Path | None = None) -> None:
        super().__init__()
        published = cv2.dnn.readNetFromTensorflow(str(graph or resolve(FILE).path))

        def blob(name: str, index: int = 0) -> Tensor:
            return torch.from_numpy(np.array(published.getLayer(name).blobs[index])).float()

        first = "conv1_bn/batchnorm_1"
        layers = _convolution(blob(f"{first}/mul_1"), blob(f"{first}/add_1"), 2)
        for number in range(1, PAIRS + 1):
            scale = f"conv_dw_{number}_bn/batchnorm_1/mul_1"
            weights = blob(f"conv_dw_{number}/depthwise") * blob(scale).reshape(-1, 1, 1, 1)
            stride = 2 if number in STRIDED else 1
            layers += _convolution(weights, blob(scale, 1), stride, groups=len(weights))
            point = f"conv_pw_{number}_bn/batchnorm_1"
            layers += _convolution(blob(f"{point}/mul_1"), blob(f"{point}/add_1"), 1)
        self.body = nn.Sequential(*layers)
        self.features = _dense(blob("feats/MatMul"), blob("feats/MatMul", 1))
        self.dropout = nn.Dropout(0.2)
        self.ages = _dense(blob("age_pred/MatMul"), blob("age_pred/MatMul", 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits over `AGES`."""
        features = torch.relu(self.features(self.body(pixels).mean((2, 3))))
        logits: Tensor = self.ages(self.dropout(features))
        return logits


def _convolution(weights: Tensor, shift: Tensor, stride: int, groups: int = 1) -> list[nn.Module]:
    out, inner, side, _ = weights.shape
    layer = nn.Conv2d(
        inner * groups, out, side, stride, 0 if stride == 2 else side // 2, groups=groups
    )
    layer.weight.data, bias = weights.clone(), shift.reshape(-1).clone()
    layer.bias = nn.Parameter(bias)
    padding: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
    return [*padding, layer, nn.ReLU6(inplace=True)]


def _dense(weights: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    layer.weight.data, layer.bias.data = weights.clone(), bias.reshape(-1).clone()
    return layer


@torch.no_grad()
def with_norms(network: HseMobileNet, pixels: Tensor) -> HseMobileNet:
    """Insert batch normalisations that leave the predictions as they are.

    Args:
        network: as published, in evaluation mode.
        pixels: typical input; each convolution is divided by the spread of its output for it, so
            that all weights are of one scale.
    """
    layers: list[nn.Module] = []
    for layer in network.body:
        pixels = layer(pixels)
        if isinstance(layer, nn.Conv2d):
            layers += _normalised(layer, pixels)
        else:
            layers.append(layer)
    network.body = nn.Sequential(*layers)
    return network


def _normalised(layer: nn.Conv2d, output: Tensor) -> list[nn.Module]:
    mean, spread = output.mean((0, 2, 3)), output.std((0, 2, 3)).clamp_min(LEAST_SPREAD)
    plain: dict[str, Any] = {"groups": layer.groups, "bias": False}
    scaled = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0],
        layer.padding[0], **plain,
    )  # fmt: skip
    scaled.weight.data = layer.weight / spread.view(-1, 1, 1, 1)
    norm = nn.BatchNorm2d(len(mean), momentum=MOMENTUM)
    norm.weight.data, norm.bias.data = spread.clone(), mean.clone()
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
    norm.running_mean = (mean - bias) / spread
    norm.running_var = torch.ones_like(spread)
    return [scaled, norm]
