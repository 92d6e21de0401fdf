"""Round a checkpoint's weights to those that its file in half precision stores.

    agebench export-onnx RUN/calibrated.safetensors -o rounded.onnx --fp16-weights
    python -m benchmarks.round_weights RUN/calibrated.safetensors rounded.onnx \
        -o RUN/rounded.safetensors

Rounding moves a median by up to a year where the cumulative probability comes within a thousandth
of one half at the end of a year (`agebench.metrics.age_classes.MEDIAN_RAMP`), for a few faces in a
hundred.  The new checkpoint computes with the rounded weights, each batch normalisation already
folded into its convolution, so that a file made from it gives the checkpoint's ages.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.losses import LOSSES
from agebench.train.networks import MultiCropResNet, build_network
from benchmarks.read_back import fill, stored_weights


def rounded(saved: Checkpoint, weights: dict[str, Tensor]) -> Checkpoint:
    """Return a checkpoint for inference with a file's weights, and what else it had.

    Args:
        saved: the checkpoint that the file was made from.
        weights: of the file, by name.
    """
    model = build_network(saved.settings.model, LOSSES[saved.settings.loss.name].head)
    if not isinstance(model, MultiCropResNet):
        raise SystemExit("expected a checkpoint of a multi-crop network")
    model.load_state_dict(dict(saved.averaged))  # the views' own heads are not in the file
    fill(model, weights)
    # Two copies, since a file can't store one tensor under two names.
    last, averaged = ({k: v.clone() for k, v in model.state_dict().items()} for _ in range(2))
    return replace(saved, model=last, averaged=averaged, optimiser={})


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path, help="made from it by export-onnx --fp16-weights")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    rounded(read_checkpoint(args.checkpoint), stored_weights(args.file)).write(args.out)


if __name__ == "__main__":
    main()
