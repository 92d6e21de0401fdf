"""Near copies of training pictures are recognised by 24 bytes of each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from agebench.datasets.training_hashes import TrainingHashes, find_hashes, hashes_beside
from agebench.datasets.training_looks import MAGIC, SURE_BITS, looks_file
from agebench.errors import AgebenchError
from agebench.types import Image, Sample
from agebench.vision import looks
from agebench.vision.images import encode_png
from agebench.vision.looks import look_pair
from agebench.vision.opencv import cv2
from agebench.vision.similarity import DETAIL_PX


def picture(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 255, (100, 100, 3)).astype(np.float32)
    mixed = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4, 12))
    low, high = np.min(mixed), np.max(mixed)
    return np.asarray((mixed - low) / (high - low) * 255, np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sample]]:
    """A model that was trained on eight pictures, one of which has gone since."""
    folder = tmp_path_factory.mktemp("model")
    samples, hashes = [], []
    for seed in range(9):
        data = encode_png(picture(seed))
        path = folder / f"{seed}.png"
        path.write_bytes(data)
        samples.append(Sample(path, path.name, 30.0))
        hashes.append(hashlib.sha256(data).hexdigest())
    file = folder / "model.onnx"
    file.write_bytes(b"a model")
    trained = TrainingHashes.of("mine/train", hashes[:8])
    hashes_beside(file).write_bytes(trained.to_bytes(hashlib.sha256(b"a model").hexdigest()))
    _, known = trained.write_looks_beside(folder, samples[1:])
    assert known == 7, "one has gone, and one was not trained on"
    return file, samples


def test_copies_are_recognised_and_others_are_not(model: tuple[Path, list[Sample]]) -> None:
    file, samples = model
    trained = find_hashes(file)
    assert trained is not None
    assert trained.looks is not None
    assert len(trained) == 8
    image = picture(3)
    small = np.asarray(cv2.resize(image, (70, 77), interpolation=cv2.INTER_AREA), np.uint8)
    turned = np.ascontiguousarray(small[:, ::-1])
    here = hashlib.sha256(samples[3].path.read_bytes()).digest()[:8]
    for copy, mirrored in (
        (image, False),
        (small, False),
        (image // 2 + 60, False),
        (turned, True),
    ):
        nearest = trained.looks.like(look_pair(np.asarray(copy, np.uint8)))[0]
        assert (nearest.prefix, nearest.mirrored) == (here, mirrored)
        assert nearest.bits <= SURE_BITS
    for other in (0, 8, 20):  # one whose look is not known, one that was not listed, a new one
        assert trained.looks.like(look_pair(picture(other))) == ()


def test_a_list_without_looks_is_read_as_before(
    model: tuple[Path, list[Sample]], tmp_path: Path
) -> None:
    file, _ = model
    moved = tmp_path / "model.onnx"
    moved.write_bytes(file.read_bytes())
    hashes_beside(moved).write_bytes(hashes_beside(file).read_bytes())
    alone, beside = find_hashes(moved), find_hashes(file)
    assert alone == beside
    assert alone is not None
    assert alone.looks is None


def test_damage_is_told(model: tuple[Path, list[Sample]], tmp_path: Path) -> None:
    file, _ = model
    trained = find_hashes(file)
    assert trained is not None
    good = looks_file(file.parent, trained.body_sha256).read_bytes()
    moved = tmp_path / "model.onnx"
    moved.write_bytes(file.read_bytes())
    hashes_beside(moved).write_bytes(hashes_beside(file).read_bytes())
    file_of_looks = looks_file(tmp_path, trained.body_sha256)
    other = good.replace(trained.body_sha256.encode(), b"0" * 64)
    newer = good.replace(b'"look": 1', b'"look": 2')
    changed = good[:-1] + bytes([good[-1] ^ 1])
    for data in (
        b"",
        b"other",
        MAGIC,
        MAGIC + b"[]\n",
        good[:-1],
        good[:-24],
        other,
        newer,
        changed,
    ):
        file_of_looks.write_bytes(data)
        with pytest.raises(AgebenchError, match="not a whole file of training looks"):
            find_hashes(moved)


def test_the_planes_are_those_that_shipped_looks_were_made_with() -> None:
    assert DETAIL_PX == 32  # as `looks` has it without importing OpenCV
    # Its signs, not floats that another processor may round otherwise.
    octets = np.packbits(looks._planes() > 0).tobytes()
    assert hashlib.sha256(octets).hexdigest().startswith("8194ee19939122a8")
