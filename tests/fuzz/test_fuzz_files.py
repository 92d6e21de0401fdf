"""Files that anybody may have written: read whole, or refused in one plain sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from agebench.datasets import adience, csv_list, fairface, kaggle_merged, prepared
from agebench.datasets.landmarks import read_pts
from agebench.duplicates.training_hashes import TrainingHashes, read_training_hashes
from agebench.estimators.constant import Constant
from agebench.estimators.spec_schema import read_spec
from agebench.harness.compare import compare
from agebench.harness.fail_if import read_checks
from agebench.harness.reading import read_result
from agebench.harness.settings import CompareSettings
from agebench.metrics.class_years import read_class_years
from agebench.prepare.identity import finished_settings
from agebench.prepare.run import prepare
from agebench.prepare.settings import PrepareSettings
from agebench.report.joining import join
from agebench.report.reading import read_files
from agebench.report.writing import as_json
from agebench.runtimes.caffe_model import CaffeLayer, read_caffemodel, read_mean, write_caffemodel
from agebench.splits.files import read_split, write_split
from agebench.splits.parts import Split
from agebench.trainer.run_folder import evaluation_of
from tests.fuzz.mutations import as_json as json_bytes
from tests.fuzz.mutations import changed, mutated
from tests.fuzz.promises import keeps_promise


@dataclass(frozen=True, eq=False)
class Family:
    """A kind of file.

    Attributes:
        read: reads it, from the path.
        file: what it is called, below the folder.
        seed: a whole one; None takes the one that `whole` made.
        beside: other files, by name.
    """

    read: Callable[[Path], object]
    file: str
    seed: bytes | None = None
    beside: Mapping[str, bytes] | None = None


def _picture() -> bytes:
    import io

    stream = io.BytesIO()
    PillowImage.new("RGB", (8, 8), (90, 120, 150)).save(stream, "PNG")
    return stream.getvalue()


PICTURE = _picture()
POINTS = "version: 1\nn_points: 68\n{\n" + "".join(f"{n}.5 {n * 2}\n" for n in range(68)) + "}\n"
FOLD = (
    b"user_id\toriginal_image\tface_id\tage\tgender\tx\ty\n"
    b"30601258@N03\ta.jpg\t1\t(25, 32)\tf\t0\t0\n30601258@N03\tb.jpg\t2\t(38, 42)\tm\t0\t0\n"
)
TABLE = {
    "format": "agebench-class-years",
    "version": 1,
    "classes": ["0-2", "4-6"],
    "years": [1.0, 5.0],
    "rule": "expectation",
    "protocol": "p",
    "part": "train",
    "pictures": 10,
    "content_sha256": "0" * 64,
    "label_kind": "birth-age",
    "weights_sha256": "0" * 64,
    "settings": {"crops": "1"},
}
SPEC_FILE = b"""name = "mine"
[files]
model = "model.onnx"
[crop]
size = [224, 224]
margin = 0.2
[input]
channel_order = "rgb"
mean = [123.7, 116.3, 103.5]
scale = 0.017
[output]
kind = "probabilities"
[bins]
ranges = ["0-2", "4-6", "8-12"]
[about]
licence = "CC0"
"""

GOOD = "good.json"
"""The whole result, for what compares two."""

FAMILIES: dict[str, Family] = {
    "csv list": Family(
        csv_list.load,
        "list.csv",
        b"path,age,identity,gender\na.png,31,Eileen,female\nb.png,20-29,,\n",
        {"a.png": PICTURE, "b.png": PICTURE},
    ),
    "kaggle-merged list": Family(
        lambda path: kaggle_merged.load(path.parent),
        "image_labels.csv",
        b"filename,age\n8_163.jpg,8\n30_1.jpg,30\n",
        {"combined_faces/8_163.jpg": PICTURE, "combined_faces/30_1.jpg": PICTURE},
    ),
    "fairface list": Family(
        lambda path: fairface.load(path.parent),
        "fairface_label_train.csv",
        b"file,age,gender,race,service_test\ntrain/1.jpg,20-29,Male,Black,True\n",
        {"train/1.jpg": PICTURE},
    ),
    "adience fold": Family(
        lambda path: adience.load(path.parent),
        "fold_0_data.txt",
        FOLD,
        {"aligned/30601258@N03/landmark_aligned_face.1.a.jpg": PICTURE},
    ),
    "landmarks": Family(read_pts, "001a02.pts", POINTS.encode()),
    "published split": Family(read_split, "train.csv", b"file,age\na.jpg,1\nb.jpg,2\n"),
    "split with parts": Family(read_split, "x.csv", b"image,split\na.jpg,train\nb.jpg,test\n"),
    "spec file": Family(read_spec, "spec.toml", SPEC_FILE),
    "split csv": Family(read_split, "split.csv"),
    "split json": Family(read_split, "split.json"),
    "training hashes": Family(read_training_hashes, "training-hashes.bin"),
    "prepared manifest": Family(lambda path: prepared.load(path.parent), "manifest.csv"),
    "prepared settings": Family(lambda path: prepared.load(path.parent), "prepare.json"),
    "prepared identity": Family(lambda path: finished_settings(path.parent), "prepare.json"),
    "result": Family(lambda path: as_json(join(read_files([path])[0])), "result.json"),
    "baseline": Family(
        lambda path: read_checks([], path).failures(read_result(path.parent / GOOD).content),
        "result.json",
    ),
    "ages to guess": Family(lambda path: Constant(median_of=path), "ages.csv", b"age,x\n31,a\n"),
    "table of years": Family(read_class_years, "years.json", json.dumps(TABLE).encode()),
    "evaluation": Family(
        lambda path: evaluation_of(path.parent), "evaluation.json", b'{"final_test": false}'
    ),
    "caffemodel": Family(read_caffemodel, "x.caffemodel"),
    "mean image": Family(read_mean, "mean.binaryproto", b"\x08\x01\x10\x03\x18\x02\x20\x02"),
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with whole files of the kinds that are made here and not written down."""
    folder = tmp_path_factory.mktemp("whole")
    make_whole(folder)
    return folder


def make_whole(folder: Path) -> None:
    """Write them."""
    rng = np.random.default_rng(0)
    lines = ["path,age,identity"]
    for index in range(3):
        pixels = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"p{index}.png")
        lines.append(f"p{index}.png,{20 + index},who{index}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    prepare(
        "csv",
        folder / "prepared",
        root=folder / "list.csv",
        detector="aligned",
        settings=PrepareSettings(views=("face",)),
    )
    settings = CompareSettings(latency_pictures=0, decode_threads=0)
    result = compare(
        ["constant years=30", "constant years=21"],
        "csv",
        root=folder / "list.csv",
        detector="aligned",
        settings=settings,
    )
    result.save(folder)
    split = Split("made", {"a.png": "train", "b.png": "test"}, dataset="csv", label_kind="unknown")
    write_split(split, folder / "split.csv")
    write_split(split, folder / "split.json")
    TrainingHashes.of("made", ["ab" * 32, "cd" * 32]).write(folder / "training-hashes.bin")
    blobs = (np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32))
    layers = [CaffeLayer("conv1", "Convolution", blobs, ("data",), ("conv1",))]
    write_caffemodel(folder / "x.caffemodel", layers, encoding="v1", name="net")


@cache
def seed_of(family: Family, whole: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return a whole file, and what is next to it."""
    beside = dict(family.beside or {})
    if family.seed is not None:
        return family.seed, beside
    if family.file in ("manifest.csv", "prepare.json"):
        source = whole / "prepared"
        beside |= {
            str(path.relative_to(source)): path.read_bytes()
            for path in source.rglob("*")
            if path.is_file() and path.name != family.file
        }
        return (source / family.file).read_bytes(), beside
    if family.file == "result.json":
        beside[GOOD] = (whole / family.file).read_bytes()
    return (whole / family.file).read_bytes(), beside


def try_file(
    name: str, family: Family, content: bytes, beside: Mapping[str, bytes], folder: Path
) -> None:
    """Hold a reader to the promise, with these bytes in a folder, made if need be."""
    file = folder / family.file
    if not folder.exists():
        _fill(folder, beside)
    file.unlink(missing_ok=True)  # to empty it takes ten times as long
    file.write_bytes(content)
    try:
        keeps_promise(name, lambda: family.read(file), folder)
    except BaseException:
        shutil.rmtree(folder)
        raise


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("name", FAMILIES)
@given(data=st.data())
def test_damaged_bytes(name: str, whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    family = FAMILIES[name]
    seed, beside = seed_of(family, whole)
    try_file(name, family, data.draw(mutated(seed)), beside, tmp_path / "files")


@cache
def _odd(seed: bytes) -> st.SearchStrategy[Any]:
    return changed(json.loads(seed))


JSON_FAMILIES = [name for name, family in FAMILIES.items() if family.file.endswith(".json")]


@pytest.mark.parametrize("name", JSON_FAMILIES)
@given(data=st.data())
def test_odd_values_in_json(name: str, whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    family = FAMILIES[name]
    seed, beside = seed_of(family, whole)
    content = json_bytes(data.draw(_odd(seed)))
    try_file(name, family, content, beside, tmp_path / "files")


@pytest.mark.parametrize("name", FAMILIES)
def test_whole_files_are_read(name: str, whole: Path, tmp_path: Path) -> None:
    """The seeds are what they should be, so that the damaged ones come near the readers' depths."""
    if name == "mean image":
        pytest.skip("a whole one has 786 kB: the seed is its head")
    family = FAMILIES[name]
    seed, beside = seed_of(family, whole)
    _fill(tmp_path, {**beside, family.file: seed})
    family.read(tmp_path / family.file)


def _header(data: Any) -> bytes:
    import struct

    text = json.dumps(data).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny network that was never trained."""
    pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")
    from agebench.train.checkpoint import Checkpoint
    from agebench.train.losses import LOSSES
    from agebench.train.networks import build_network
    from agebench.train.settings import settings_from

    backbone = {"depth": 10, "width": 4}
    view = {"region": "chip", "size_hw": [32, 32], "backbone": backbone}
    settings = settings_from({"model": {"views": {"face": view}, "dense": 8}}, "made")
    weights = build_network(settings.model, LOSSES[settings.loss.name].head).state_dict()
    about = {
        "dataset": {"name": "made", "label_kind": "birth-age", "licence": "CC0"},
        "split": {"protocol": "p"},
        "pictures": 3,
    }
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    averaged = {name: value.clone() for name, value in weights.items()}
    Checkpoint(settings, {"history": []}, about, weights, averaged, {}).write(path)
    return path


def _use(path: Path) -> object:
    from agebench.estimators.torch_checkpoint import TorchCheckpoint
    from agebench.export.multi_crop import checkpoint_candidate
    from agebench.trainer.run_folder import read_start

    read_start(path).about([])
    checkpoint_candidate(path)
    return TorchCheckpoint(path)


@given(data=st.data())
def test_checkpoints(checkpoint: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Headers are changed most of the time: that is where a reader can go wrong."""
    import struct

    content = checkpoint.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if data.draw(st.booleans()):
        head = json.loads(header["__metadata__"]["agebench"])
        header["__metadata__"]["agebench"] = json.dumps(data.draw(changed(head)))
        content = _header(header) + content[8 + length :]
    else:
        content = data.draw(mutated(content[: 8 + length], most=2)) + content[8 + length :]
    family = Family(_use, "best.safetensors")
    try_file("checkpoint", family, content, {}, tmp_path / "files")
