"""Recover a trainable checkpoint from an exported multi-crop file.

In the ONNX file, each batch normalisation is folded into the preceding convolution.  This script
separates them: filters are rescaled to the norm of newly initialised ones, and the statistics are
measured on training pictures, so that the network predicts the same ages and can be trained
further.  The views' own heads are not in the file and are initialised anew.

    python benchmarks/read_back.py pretrained/multicrop-resnet.onnx \
        --settings pretrained/multicrop-resnet-2.toml --root UTKFACE --out RUN
    agebench train pretrained/multicrop-resnet-3.toml --root UTKFACE --out RUN3 \
        --set start=RUN/best.safetensors
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from agebench.duplicates.training_hashes import RUN_HASHES, hashes_beside, read_training_hashes
from agebench.protocols import no_progress
from agebench.runtimes.onnx_reading import with_full_weights
from agebench.train.batches import Batches
from agebench.train.checkpoint import Checkpoint
from agebench.train.face_cache import TrainingFaces
from agebench.train.layers import BatchNorm, Block
from agebench.train.loop import BEST_FILE
from agebench.train.losses import LOSSES
from agebench.train.networks import MultiCropResNet, build_network
from agebench.train.settings import TrainSettings, read_settings
from agebench.trainer.pictures import TrainingPictures

BATCHES = 24


def pairs(module: nn.Module, hint: str) -> Iterator[tuple[str, nn.Conv2d, BatchNorm]]:
    """Yield name prefix, convolution and its normalisation, in the order of the export."""
    if isinstance(module, Block):
        yield from pairs(module.residual, hint)
        yield from pairs(module.shortcut, f"{hint}_shortcut")
        return
    children = list(module.children())
    for layer, after in zip_longest(children, children[1:]):
        if isinstance(layer, nn.Conv2d) and isinstance(after, BatchNorm):
            yield hint, layer, after
        else:
            yield from pairs(layer, hint)


def stored_weights(file: Path) -> dict[str, Tensor]:
    """Return an ONNX file's weights by name, as float32."""
    proto = with_full_weights(onnx.load(file))
    return {
        item.name: torch.from_numpy(numpy_helper.to_array(item).astype(np.float32))
        for item in proto.graph.initializer
    }


@torch.no_grad()
def fill(model: MultiCropResNet, weights: dict[str, Tensor]) -> None:
    """Copy the file's weights into the network; normalisations only add their bias."""
    seen: dict[str, int] = defaultdict(int)
    for view, backbone in model.backbones.items():
        for hint, layer, norm in pairs(backbone, f"{view}_trunk"):  # its name in the file
            seen[hint] += 1
            suffix = f"_{seen[hint]}" if seen[hint] > 1 else ""
            folded = weights[f"{hint}_weights{suffix}"]
            if folded.shape != layer.weight.shape:
                raise SystemExit(f"{hint} {seen[hint]}: the settings are not those of the file")
            layer.weight.copy_(folded)
            norm.weight.fill_(1.0)
            norm.bias.copy_(weights[f"{hint}_biases{suffix}"])
            norm.running_mean.zero_()  # type: ignore[union-attr]  # never None here
            norm.running_var.fill_(1.0 - norm.eps)  # type: ignore[union-attr]  # as above
    for part in ("joint", "head"):
        linear: Any = getattr(model, part)
        linear.weight.copy_(weights[f"{part}_weights"])
        linear.bias.copy_(weights[f"{part}_biases"])
    start = 0
    # A file of one view has no row for a missing one: the network keeps its initial one.
    rows = model.absent.values() if "absent" in weights else ()
    for index, row in enumerate(rows):
        row.copy_(weights["absent"][index, start : start + len(row)])
        start += len(row)


def folded(file: Path, settings: TrainSettings) -> MultiCropResNet:
    """Return the network of a file, as exported: its normalisations only add their bias."""
    model = build_network(settings.model, LOSSES[settings.loss.name].head)
    if not isinstance(model, MultiCropResNet):
        raise SystemExit("expected settings of a multi-crop network")
    fill(model.eval(), stored_weights(file))
    return model


@torch.no_grad()
def unfold(model: MultiCropResNet, batches: Iterator[tuple[Any, Any]]) -> None:
    """Rescale the filters and set each normalisation's statistics to those of its input."""
    found = [pair for backbone in model.backbones.values() for pair in pairs(backbone, "")]
    sums = [[torch.zeros(len(layer.weight), dtype=torch.double)] * 2 for _, layer, _ in found]
    count = 0

    def watch(index: int) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            variance, mean = torch.var_mean(output.double(), (0, 2, 3), correction=0)
            sums[index] = [sums[index][0] + mean, sums[index][1] + variance + mean.square()]

        return hook

    hooks = [layer.register_forward_hook(watch(i)) for i, (_, layer, _) in enumerate(found)]
    for pixels, present in batches:
        model(pixels, present)
        count += 1
    for hook in hooks:
        hook.remove()
    for (mean_sum, square_sum), (_, layer, norm) in zip(sums, found, strict=True):
        mean, spread = mean_sum / count, square_sum / count - (mean_sum / count).square()
        outputs, inputs = layer.weight.shape[:2]
        length = (2 * inputs / outputs) ** 0.5  # norm of a filter initialised as in He et al. 2015
        own = layer.weight.double().flatten(1).norm(dim=1).clamp_min(1e-6)
        factor = length / own
        layer.weight.mul_(factor.float()[:, None, None, None])
        norm.weight.copy_(torch.sqrt(spread + norm.eps / factor.square()))
        norm.bias.add_(mean.float())
        norm.running_mean.copy_(mean * factor)  # type: ignore[union-attr]  # never None here
        norm.running_var.copy_(spread * factor.square())  # type: ignore[union-attr]  # as above


def views(
    settings: TrainSettings, faces: TrainingFaces, count: int = BATCHES
) -> Iterator[tuple[Any, Any]]:
    """Yield augmented batches of faces."""
    batches = Batches(faces, settings.model.crop, settings.augment, 0, torch.device("cpu"))
    for step in range(count):
        rows = np.random.default_rng(step).integers(0, len(faces), settings.batch)
        batch = batches.views(batches.gather(step, rows, slice(None)))
        yield batch.pixels, batch.present


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = read_settings(arguments.settings, texts={"data.root": arguments.root})
    model = folded(arguments.file, settings)
    probe = {
        name: torch.rand(4, 3, *view.size_hw) * 255 for name, view in settings.model.views.items()
    }
    present = {name: torch.ones(4, 1) for name in probe}
    with torch.no_grad():
        before = model(probe, present).final
    pictures = TrainingPictures.of(settings, no_progress)
    unfold(model, views(settings, pictures.gather(settings.data.train_part, fraction=0.25)))
    with torch.no_grad():
        after = model(probe, present).final
    print(f"largest change of a logit on noise: {float((after - before).abs().max()):.2e}")
    state = model.state_dict()
    own = {name: value.clone() for name, value in state.items()}
    about = {"dataset": {"name": settings.data.dataset}, "read_back_from": arguments.file.name}
    about["split"] = {
        "protocol": pictures.split.protocol,
        "fingerprint": pictures.split.fingerprint,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    Checkpoint(settings, {"history": []}, about, own, state, {}).write(arguments.out / BEST_FILE)
    # Written anew, since the list next to the exported file names that file.
    read_training_hashes(hashes_beside(arguments.file)).write(arguments.out / RUN_HASHES)


if __name__ == "__main__":
    main()
