"""The age network of `hse-mobilenet` as a PyTorch module, with the published weights.

MobileNet 1.0, 256 features, 100 ages.  The published graph has its normalisations folded into
scales and shifts: here they start as the identity, and `set_norms` gives them the statistics of
typical pictures, without which the network can't be fine-tuned at usual rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from agebench.estimators.hse_mobilenet import FILE
from agebench.modelfiles.weights import resolve
from agebench.train.layers import BatchNorm
from agebench.train.mobilenet import MobileNet
from agebench.vision.opencv import cv2

AGES = torch.arange(1, 101).float()
"""Ages of the outputs, years."""

MEANS_BGR = (103.939, 116.779, 123.68)
LEAST_SPREAD = 1e-2
MOMENTUM = 0.02


def pairs(layers: nn.Sequential) -> Iterator[tuple[nn.Conv2d, BatchNorm]]:
    """Yield every convolution with its normalisation."""
    for layer, norm in pairwise(layers):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, BatchNorm):
            yield layer, norm


class HseMobileNet(nn.Module):
    """From B, G, R minus `MEANS_BGR`, float32 (n, 3, height, width), to logits (n, 100)."""

    def __init__(self) -> None:
        super().__init__()
        graph = cv2.dnn.readNetFromTensorflow(str(resolve(FILE).path))

        def blob(name: str, index: int = 0) -> Tensor:
            return torch.from_numpy(np.array(graph.getLayer(name).blobs[index])).float()

        def convolutions() -> Iterator[tuple[Tensor, Tensor]]:
            first = "conv1_bn/batchnorm_1"
            yield blob(f"{first}/mul_1"), blob(f"{first}/add_1")
            for number in range(1, 14):
                scale = f"conv_dw_{number}_bn/batchnorm_1/mul_1"
                weights = blob(f"conv_dw_{number}/depthwise") * blob(scale).reshape(-1, 1, 1, 1)
                yield weights, blob(scale, 1)
                point = f"conv_pw_{number}_bn/batchnorm_1"
                yield blob(f"{point}/mul_1"), blob(f"{point}/add_1")

        self.body = MobileNet(3, 32)
        self.features, self.ages = nn.Linear(1024, 256), nn.Linear(256, 100)
        self.dropout = nn.Dropout(0.2)
        with torch.no_grad():
            for (layer, norm), (weights, shift) in zip(
                pairs(self.body.layers), convolutions(), strict=True
            ):
                layer.weight.copy_(weights)
                norm.bias.copy_(shift.reshape(-1))
                norm.running_var = torch.full_like(norm.bias, 1 - norm.eps)
                norm.momentum = MOMENTUM
            for dense, name in ((self.features, "feats/MatMul"), (self.ages, "age_pred/MatMul")):
                dense.weight.copy_(blob(name))
                dense.bias.copy_(blob(name, 1).reshape(-1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits over `AGES`."""
        features = torch.relu(self.features(self.body(pixels)))
        logits: Tensor = self.ages(self.dropout(features))
        return logits


@torch.no_grad()
def set_norms(network: HseMobileNet, pixels: Tensor) -> None:
    """Give the normalisations statistics, which leaves the predictions as they are.

    Args:
        network: as published, in evaluation mode.
        pixels: typical input; each convolution is divided by the spread of its output for it, so
            that all weights are of one scale.
    """
    for layer, norm in pairs(network.body.layers):
        output = layer(pixels)
        mean, spread = output.mean((0, 2, 3)), output.std((0, 2, 3)).clamp_min(LEAST_SPREAD)
        layer.weight /= spread.view(-1, 1, 1, 1)
        norm.weight.copy_(spread)
        norm.bias.add_(mean)
        norm.running_mean, norm.running_var = mean / spread, torch.ones_like(spread) - norm.eps
        pixels = nn.functional.relu6(norm(layer(pixels)))
