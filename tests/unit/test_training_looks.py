"""Near copies of training pictures are recognised by 24 bytes of each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from agebench.duplicates.look_search import Query
from agebench.duplicates.training_hashes import TrainingHashes, find_hashes, hashes_beside
from agebench.duplicates.training_looks import MAGIC, looks_file
from agebench.errors import AgebenchError
from agebench.modelfiles.manifest import bundled_dir
from agebench.types import Sample
from agebench.vision import looks
from agebench.vision.images import encode_png
from agebench.vision.looks import AS_IT_IS, Move, moved
from agebench.vision.opencv import cv2
from agebench.vision.similarity import DETAIL_PX
from tests.unit.blobs import fine_blobs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sample]]:
    """A model that was trained on eight pictures, one of which has gone since."""
    folder = tmp_path_factory.mktemp("model")
    samples, hashes = [], []
    for seed in range(9):
        data = encode_png(fine_blobs(seed))
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
    image = fine_blobs(3)
    small = np.asarray(cv2.resize(image, (70, 77), interpolation=cv2.INTER_AREA), np.uint8)
    turned = np.ascontiguousarray(small[:, ::-1])
    here = hashlib.sha256(samples[3].path.read_bytes()).digest()[:8]
    for copy, mirrored in (
        (image, False),
        (small, False),
        (image // 2 + 60, False),
        (turned, True),
    ):
        nearest = trained.looks.like(Query.of(np.asarray(copy, np.uint8)))[0]
        assert (nearest.prefix, nearest.match.mirrored) == (here, mirrored)
        assert nearest.match.is_sure
    for other in (0, 8, 20):  # one whose look is not known, one that was not listed, a new one
        assert trained.looks.like(Query.of(fine_blobs(other))) == ()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "move",
    [
        Move(scale=1 / 0.9),  # as cut by 5 % a side
        Move(right=-0.05),
        Move(degrees=5.0),
        Move(scale=1.08, degrees=-4.0),
    ],
)
def test_copies_that_were_cut_or_turned_are_recognised(
    model: tuple[Path, list[Sample]], move: Move, mirrored: bool
) -> None:
    file, samples = model
    trained = find_hashes(file)
    assert trained is not None
    assert trained.looks is not None
    copy = moved(fine_blobs(5), move)
    if mirrored:
        copy = np.ascontiguousarray(copy[:, ::-1])
    as_it_is = [item for item in trained.looks.like(Query.of(copy)) if item.match.move == AS_IT_IS]
    assert not any(item.match.is_sure for item in as_it_is), "it would be found without moves"
    nearest = trained.looks.like(Query.of(copy))[0]
    here = hashlib.sha256(samples[5].path.read_bytes()).digest()[:8]
    assert (nearest.prefix, nearest.match.mirrored) == (here, mirrored)
    assert nearest.match.is_candidate


def with_second(first: Path, folder: Path) -> Path:
    """Copy a model's list and looks into a folder, and return a second model there."""
    for path in first.parent.glob("*.bin"):
        (folder / path.name).write_bytes(path.read_bytes())
    second = folder / "second.onnx"
    second.write_bytes(b"another")
    return second


def test_the_looks_of_one_list_serve_every_list_of_its_pictures(
    model: tuple[Path, list[Sample]], tmp_path: Path
) -> None:
    """A second model beside the first, of some of its pictures and one more, has no file itself."""
    file, samples = model
    second = with_second(file, tmp_path)
    hashes = [hashlib.sha256(samples[seed].path.read_bytes()).hexdigest() for seed in (0, 2, 3, 8)]
    TrainingHashes.of("a part", hashes).write(hashes_beside(second))
    trained = find_hashes(second)
    assert trained is not None
    assert trained.looks is not None
    assert trained.looks.prefixes == tuple(
        sorted(bytes.fromhex(hashes[place])[:8] for place in (1, 2))
    ), "0 is not known to the looks, 8 is not on the first list"
    assert trained.looks.like(Query.of(fine_blobs(2)))[0].match.bits == 0
    assert trained.looks.like(Query.of(fine_blobs(5))) == (), "not on the second list"
    hashes_beside(tmp_path / "model.onnx").unlink()
    alone = find_hashes(second)
    assert alone is not None
    assert alone.looks is None, "without the first list nobody knows whose looks these are"
    hashes_beside(tmp_path / "model.onnx").write_bytes(hashes_beside(file).read_bytes()[:-8])
    with pytest.raises(AgebenchError, match="not a complete file of training hashes"):
        find_hashes(second)


def test_files_of_earlier_versions_are_read(
    model: tuple[Path, list[Sample]], tmp_path: Path
) -> None:
    file, _ = model
    new = find_hashes(file)
    assert new is not None
    assert new.looks is not None
    by_prefix = dict(zip(new.looks.prefixes, new.looks.looks, strict=True))
    # Without bits: a look for each of the eight, zeros for the one that has gone.
    rows = [by_prefix.get(prefix, np.zeros(3, np.uint64)) for prefix in sorted(new.prefixes)]
    body = np.stack(rows).tobytes()
    head = {
        "count": 8, "known": 7, "list_sha256": new.body_sha256, "look": 1,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    moved = tmp_path / file.name
    moved.write_bytes(file.read_bytes())
    hashes_beside(moved).write_bytes(hashes_beside(file).read_bytes())
    data = MAGIC + json.dumps(head).encode() + b"\n" + body
    looks_file(tmp_path, new.body_sha256).write_bytes(data)
    old = find_hashes(moved)
    assert old is not None
    assert old.looks is not None
    assert old.looks.prefixes == new.looks.prefixes
    np.testing.assert_array_equal(old.looks.looks, new.looks.looks)
    looks_file(tmp_path, new.body_sha256).write_bytes(data[:-24])
    with pytest.raises(AgebenchError, match="not a complete file of training looks"):
        find_hashes(moved)


def test_looks_that_another_file_has_are_left_out(
    model: tuple[Path, list[Sample]], tmp_path: Path
) -> None:
    """A second model learned from five of the first one's pictures and one more."""
    file, samples = model
    second = with_second(file, tmp_path)
    first = find_hashes(file)
    assert first is not None
    hashes = [hashlib.sha256(picture.path.read_bytes()).hexdigest() for picture in samples]
    trained = TrainingHashes.of("more", [*hashes[1:6], hashes[8]])
    trained.write(hashes_beside(second))
    _, known = trained.write_looks_beside(tmp_path, samples, elsewhere=first.prefixes)
    assert known == 1
    own = looks_file(tmp_path, trained.body_sha256)
    good = own.read_bytes()
    # A bit for each of the six, and the one look.
    assert len(good.split(b"\n", 2)[2]) == 1 + 24

    found = find_hashes(second)
    assert found is not None
    assert found.looks is not None
    assert set(found.looks.prefixes) == trained.prefixes
    for seed in (3, 8):
        nearest = found.looks.like(Query.of(fine_blobs(seed)))[0]
        assert nearest.prefix == bytes.fromhex(hashes[seed])[:8]
    assert found.looks.like(Query.of(fine_blobs(7))) == (), "not on the second list"

    flipped = good[:-25] + bytes([good[-25] ^ 0b1000]) + good[-24:]
    for damaged in (good[:-1], good[:-24], good[:-25], flipped):
        own.write_bytes(damaged)
        with pytest.raises(AgebenchError, match="not a complete file of training looks"):
            find_hashes(second)


def test_every_bundled_list_has_the_looks_of_all_its_pictures() -> None:
    lists = sorted(bundled_dir().glob("*.training-hashes.bin"))
    assert len(lists) >= 3
    for path in lists:
        model = path.with_name(path.name.removesuffix(".training-hashes.bin"))
        trained = find_hashes(model.with_suffix(".caffemodel" if "caffe" in path.name else ".onnx"))
        assert trained is not None
        assert trained.looks is not None, path.name
        assert set(trained.looks.prefixes) == trained.prefixes, path.name


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
        with pytest.raises(AgebenchError, match="not a complete file of training looks"):
            find_hashes(moved)


def test_the_planes_are_those_that_shipped_looks_were_made_with() -> None:
    assert DETAIL_PX == 32  # as `looks` has it without importing OpenCV
    # Its signs, not floats that another processor may round otherwise.
    octets = np.packbits(looks._planes() > 0).tobytes()
    assert hashlib.sha256(octets).hexdigest().startswith("8194ee19939122a8")
