"""Make the weights that come with the package from the runs that trained them.

    python benchmarks/make_weights.py --multicrop RUN --small RUN --open RUN --age-net RUN \
        --root UTKFACE

Exports the runs' best checkpoints (or, with --checkpoint calibrated.safetensors, what
benchmarks/calibrate.py wrote) with their parity checks (on real pictures of the validation
part; the rounding of the 8-bit file is measured on the training part), copies the lists of training
pictures, and enters sizes and hashes into pretrained/weights.toml.

Then it writes the looks (hashes) of the training pictures, from all sets that were trained on; a
list whose pictures are all on another list needs no file of its own:

    python benchmarks/make_weights.py --root UTKFACE --pictures csv:MORE.csv --pictures fairface:DIR

Without a run, it does this and stores the lists again (two of them without what the others have).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from agebench.api.doctor import open_dataset, split_against
from agebench.duplicates.training_hashes import (
    RUN_HASHES,
    TrainingHashes,
    hashes_beside,
    read_training_hashes,
)
from agebench.duplicates.training_looks import looks_file
from agebench.modelfiles.weights import sha256_of
from agebench.train.loop import BEST_FILE
from agebench.util.progress import progress_bars

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
MANIFEST = PRETRAINED / "weights.toml"
MULTICROP = PRETRAINED / "multicrop-resnet.onnx"
SMALL = PRETRAINED / "multicrop-resnet-small.onnx"
OPEN = PRETRAINED / "multicrop-resnet-open.onnx"
AGE_NET = PRETRAINED / "caffe-age-net-utkface.caffemodel"
MODELS = (MULTICROP, SMALL, OPEN, AGE_NET)

HALF = ("--fp16-weights",)
"""Half the bytes.  Trained on ranges, the distribution of a face may have two peaks with hardly
anything in between, where the median is: there, rounding moves it by a tenth of a year."""

EXACT = (*HALF, "--tolerance", "0.01")
"""Half the bytes, with ages as near to the checkpoint's as a file in float32 must give."""


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


def lists_to_look_at(lists: Sequence[TrainingHashes]) -> dict[Path, TrainingHashes]:
    """Return the lists that need looks of their own, by their files: the longest, and so on.

    One list's looks serve every list whose pictures are all on it.
    """
    found: dict[Path, TrainingHashes] = {}
    for trained in sorted(lists, key=len, reverse=True):
        if not any(trained.prefixes <= other.prefixes for other in found.values()):
            found[looks_file(PRETRAINED, trained.body_sha256)] = trained
    return found


def store_lists(sharing: Sequence[Path]) -> None:
    """Store the lists of training pictures again.

    Args:
        sharing: models whose lists leave out what the others' have; the others' are stored whole.
    """
    lists = {model: read_training_hashes(hashes_beside(model)) for model in MODELS}
    whole = [trained for model, trained in lists.items() if model not in sharing]
    for model, trained in lists.items():
        others = whole if model in sharing else ()
        hashes_beside(model).write_bytes(trained.to_bytes(sha256_of(model), others=others))


def make_looks(pictures: Sequence[str]) -> None:
    """Write the looks of the pictures of every list that has none; old ones go.

    Pictures that are on several lists have their look in the file of the longest.
    """
    lists = [read_training_hashes(path) for path in sorted(PRETRAINED.glob("*training-hashes.bin"))]
    files = lists_to_look_at(lists)
    for stale in set(PRETRAINED.glob("training-looks-*.bin")) - set(files):
        stale.unlink()
    if all(path.exists() for path in files):
        return
    samples = [item for text in pictures for item in open_dataset(*split_against(text)).samples]
    longer = frozenset[bytes]()
    with progress_bars() as progress:
        for path, trained in files.items():
            if not path.exists():
                _, known = trained.write_looks_beside(
                    PRETRAINED, samples, progress, elsewhere=longer
                )
                print(f"{path.name}: {known:,} of {len(trained):,} pictures of {trained.what}")
            longer |= trained.prefixes


def main() -> None:
    """Make the files of the given runs, and what is missing of the looks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--multicrop", type=Path, help="folder of the run")
    parser.add_argument("--small", type=Path, help="folder of the run")
    parser.add_argument("--open", type=Path, help="folder of the run")
    parser.add_argument(
        "--checkpoint", default=BEST_FILE, help="file in the folders of these three"
    )
    parser.add_argument("--age-net", type=Path, help="folder of the run")
    parser.add_argument("--root", required=True, help="folder of UTKFace, for real faces")
    parser.add_argument(
        "--pictures", action="append", default=[], metavar="[NAME:]ROOT",
        help="another data set that was trained on; may be given several times",
    )  # fmt: skip
    args = parser.parse_args()
    store_lists(sharing=())  # a list that others refer to may be replaced below
    faces = ["--dataset", "utkface", "--root", args.root, "--protocol", "utkface-full"]
    for run, path, how in (
        (args.multicrop, MULTICROP, [*EXACT, "--part", "val", "--sample", "64"]),
        (args.small, SMALL, ["--int8", "--part", "train", "--sample", "1024"]),
        (args.open, OPEN, [*HALF, "--part", "val", "--sample", "64"]),
    ):
        if run is not None:
            best = str(run / args.checkpoint)
            agebench("export-onnx", best, "-o", str(path), "--name", path.stem, *faces, *how)
            enter(path)
    if args.age_net is not None:
        agebench("convert-caffe", str(args.age_net / BEST_FILE), "-o", str(AGE_NET), "--half")
        trained = read_training_hashes(args.age_net / RUN_HASHES)
        hashes_beside(AGE_NET).write_bytes(trained.to_bytes(sha256_of(AGE_NET)))
        enter(AGE_NET)
    store_lists(sharing=(MULTICROP, SMALL))
    make_looks([f"utkface:{args.root}", *args.pictures])


if __name__ == "__main__":
    main()
