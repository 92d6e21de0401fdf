"""A checkpoint between two of one network: weights of the run's start and of its end, mixed.

    python -m benchmarks.interpolate RUN5/best.safetensors RUN7/best.safetensors --share 0.7 \
        -o RUN7/mixed/best.safetensors

Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022: where a network was trained on
with other data, a mean of its weights before and after keeps more of what it could than it loses
of what it learned.  Averaged weights, statistics of normalisations included, are mixed; the rest of
the file is the second one's.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from agebench.duplicates.training_hashes import RUN_HASHES
from agebench.train.checkpoint import read_checkpoint, require_fit


def main() -> None:
    """Read the command line and write the file, with the second one's list of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        raise SystemExit(f"--share is from 0 to 1, got {args.share}")
    first, second = read_checkpoint(args.first), read_checkpoint(args.second)
    require_fit(second.averaged, first.averaged)
    mixed = {
        name: value.lerp(second.averaged[name], args.share)
        if value.is_floating_point()
        else second.averaged[name]
        for name, value in first.averaged.items()
    }
    about = {**second.about, "mixed": {"with": args.first.parent.name, "share": args.share}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    own = {name: value.clone() for name, value in mixed.items()}
    replace(second, about=about, model=own, averaged=mixed, optimiser={}).write(args.out)
    shutil.copy(args.second.parent / RUN_HASHES, args.out.parent / RUN_HASHES)


if __name__ == "__main__":
    main()
