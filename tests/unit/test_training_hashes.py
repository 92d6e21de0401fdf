"""Training hashes: shipped, read back, and asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agebench.datasets.training_hashes import (
    KnowsItsTraining,
    TrainingHashes,
    read_training_hashes,
)
from agebench.errors import AgebenchError


def sha(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()


def test_written_and_read_back(tmp_path: Path) -> None:
    trained = TrainingHashes.of("utkface-full/train", (sha(index) for index in range(3000)))
    file = tmp_path / "trained.hashes"
    trained.write(file)
    assert file.stat().st_size < 3000 * 8 + 250
    again = read_training_hashes(file)
    assert again == trained
    assert len(again) == 3000
    assert again.what == "utkface-full/train"
    assert all(again.contains(sha(index)) for index in range(3000))
    assert not any(again.contains(sha(index)) for index in range(3000, 6000))


def test_the_file_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    for name, order in (("a", range(50)), ("b", reversed(range(50)))):
        TrainingHashes.of("x", map(sha, order)).write(tmp_path / name)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    body = data.split(b"\n", 2)[2]
    assert body == b"".join(sorted(bytes.fromhex(sha(index))[:8] for index in range(50)))


def test_none_at_all(tmp_path: Path) -> None:
    TrainingHashes("nothing", frozenset()).write(tmp_path / "x")
    assert len(read_training_hashes(tmp_path / "x")) == 0


@pytest.mark.parametrize("wrong", ["", "ab", "AB" * 32, "zz" * 32, "ab" * 33])
def test_only_whole_hashes_are_taken(wrong: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        TrainingHashes.of("x", [wrong])
    with pytest.raises(ValueError, match="64 hex digits"):
        TrainingHashes("x", frozenset()).contains(wrong)


def test_damage_is_told(tmp_path: Path) -> None:
    file = tmp_path / "good"
    TrainingHashes.of("x", map(sha, range(9))).write(file)
    good = file.read_bytes()
    changed = good[:-1] + bytes([good[-1] ^ 1])
    for data in (b"", b"other", good[:-1], good[:-8], good + b"12345678", changed, good[:30]):
        file.write_bytes(data)
        with pytest.raises(AgebenchError, match="no whole file of training hashes"):
            read_training_hashes(file)
    with pytest.raises(AgebenchError, match="there is no file"):
        read_training_hashes(tmp_path / "nothing")


def test_who_knows_its_training() -> None:
    class Knows:
        def training_hashes(self) -> TrainingHashes | None:
            return None

    assert isinstance(Knows(), KnowsItsTraining)
    assert not isinstance(object(), KnowsItsTraining)
