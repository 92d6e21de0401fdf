"""Does a network take less time if a pixel's channels lie side by side in memory?

    python -m benchmarks.memory_layout

The network of a settings file, with random weights and pixels, predicts, and computes gradients,
with its views' pictures in either layout, taking turns.  Times are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from agebench.harness.environment import describe_environment
from agebench.modelfiles.manifest import bundled_dir
from agebench.train import networks
from agebench.train.model_settings import ModelSettings
from agebench.train.networks import MultiCropResNet
from agebench.train.settings import read_settings
from agebench.types import plain
from agebench.util.files import write_whole

RESULTS = Path(__file__).parent / "results" / "memory_layout.json"
LAYOUTS: Mapping[str, torch.memory_format] = {
    "planes": torch.contiguous_format,
    "channels last": torch.channels_last,
}
CASES = {"predict 1": (1, False), "predict 16": (16, False), "learn 64": (64, True)}
"""Number of faces, and whether gradients are computed."""


def times_ms(settings: ModelSettings, faces: int, repeats: int, *, learn: bool) -> dict[str, float]:
    """Return the median time by layout, in milliseconds."""
    model = MultiCropResNet(settings).train(learn)
    pixels = {
        name: torch.rand(faces, 3, *view.size_hw) * 255 for name, view in settings.views.items()
    }
    present = {name: torch.ones(faces, 1) for name in pixels}

    def once() -> None:
        model.rng.begin(0, 0, faces)
        with torch.set_grad_enabled(learn):
            final = model(pixels, present).final
        if learn:
            model.zero_grad()
            final.square().mean().backward()

    found: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for turn in range(repeats + 1):
        for name, layout in list(LAYOUTS.items())[:: 1 if turn % 2 else -1]:
            with mock.patch.object(networks, "_channels_last", _into(layout)):
                began = time.perf_counter()
                once()
                found[name].append((time.perf_counter() - began) * 1000)
    return {name: float(np.median(values[1:])) for name, values in found.items()}


def _into(layout: torch.memory_format) -> Callable[[Tensor], Tensor]:
    return lambda values: values.contiguous(memory_format=layout)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, default=bundled_dir() / "multicrop-resnet-12.toml")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = read_settings(args.settings).model
    cases = {
        name: times_ms(model, faces, args.repeats, learn=learn)
        for name, (faces, learn) in CASES.items()
    }
    for name, found in cases.items():
        print(name, *(f"{layout} {ms:.1f} ms" for layout, ms in found.items()), sep=", ")
    made = {
        "settings": args.settings.name,
        "threads": args.threads,
        "repeats": args.repeats,
        "torch": torch.__version__,
        "environment": plain(describe_environment()),
    }
    write_whole(RESULTS, json.dumps({"made": made, "ms": cases}) + "\n")


if __name__ == "__main__":
    main()
