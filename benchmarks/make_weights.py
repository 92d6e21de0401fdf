"""The weights that come with the package, from the runs that trained them.

    python benchmarks/make_weights.py --multicrop RUN --age-net RUN --root UTKFACE

Exports the runs' best checkpoints with their parity gates (on real pictures of the validation
part; what the 8-bit file rounds by is measured on the training part), copies the lists of training
pictures, and enters sizes and hashes into pretrained/weights.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from agebench.datasets.training_hashes import RUN_HASHES, hashes_beside
from agebench.train.loop import BEST_FILE

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
MANIFEST = PRETRAINED / "weights.toml"
MULTICROP = PRETRAINED / "multicrop-resnet.onnx"
SMALL = PRETRAINED / "multicrop-resnet-small.onnx"
AGE_NET = PRETRAINED / "caffe-age-net-utkface.caffemodel"


def agebench(*arguments: str) -> None:
    """Run the command and show what it prints; ends the program where it fails."""
    subprocess.run([sys.executable, "-m", "agebench", *arguments], check=True)


def enter(path: Path) -> None:
    """Write a file's size and hash into its table of the manifest."""
    data = path.read_bytes()
    text = MANIFEST.read_text(encoding="utf-8")
    table = re.compile(
        rf'(\[files\."{re.escape(path.name)}"\]\n)bytes = \d+\nsha256 = "[0-9a-f]{{64}}"'
    )
    line = rf'\g<1>bytes = {len(data)}\nsha256 = "{hashlib.sha256(data).hexdigest()}"'
    text, count = table.subn(line, text)
    if count != 1:
        raise SystemExit(f"{MANIFEST} has no table for {path.name}")
    MANIFEST.write_text(text, encoding="utf-8")


def main() -> None:
    """Make one or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--multicrop", type=Path, help="folder of the run")
    parser.add_argument("--age-net", type=Path, help="folder of the run")
    parser.add_argument("--root", required=True, help="folder of UTKFace, for real faces")
    given = parser.parse_args()
    if given.multicrop is not None:
        faces = ["--dataset", "utkface", "--root", given.root, "--protocol", "utkface-full"]
        best = str(given.multicrop / BEST_FILE)
        for path, how in (
            (MULTICROP, ["--flip", "--part", "val", "--sample", "64"]),
            (SMALL, ["--int8", "--part", "train", "--sample", "1024"]),
        ):
            agebench("export-onnx", best, "-o", str(path), "--name", path.stem, *faces, *how)
            enter(path)
    if given.age_net is not None:
        agebench("convert-caffe", str(given.age_net / BEST_FILE), "-o", str(AGE_NET), "--half")
        shutil.copy(given.age_net / RUN_HASHES, hashes_beside(AGE_NET))
        enter(AGE_NET)


if __name__ == "__main__":
    main()
