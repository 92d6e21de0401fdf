"""Training hashes: shipped, read back, and asked."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from agebench.duplicates.training_hashes import (
    KnowsItsTraining,
    TrainingHashes,
    find_hashes,
    hashes_beside,
    read_training_hashes,
)
from agebench.errors import AgebenchError
from agebench.export.writing import write_with_companions


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


def without_prefixes(trained: TrainingHashes, model_sha256: str) -> bytes:
    """Return a list as earlier versions wrote it beside another list of the same pictures."""
    first, head, _ = trained.to_bytes(model_sha256).split(b"\n", 2)
    return first + b"\n" + head + b"\n"


@pytest.mark.parametrize("earlier", [True, False])
def test_two_models_of_the_same_pictures_keep_them_once(earlier: bool, tmp_path: Path) -> None:
    trained = TrainingHashes.of("both", map(sha, range(40)))
    small = tmp_path / "small.onnx"
    small.write_bytes(b"a model")
    of_small = hashlib.sha256(b"a model").hexdigest()
    hashes_beside(small).write_bytes(
        without_prefixes(trained, of_small)
        if earlier
        else trained.to_bytes(of_small, others=[trained])
    )
    head, body = hashes_beside(small).read_bytes().rsplit(b"\n", 1)
    assert len(body) == (0 if earlier else 40 // 8)
    assert len(head) < (300 if earlier else 300 + len(f', "others": ["{trained.body_sha256}"]'))
    with pytest.raises(AgebenchError, match=r"missing"):
        find_hashes(small)
    TrainingHashes.of("others", map(sha, range(9))).write(tmp_path / "x.training-hashes.bin")
    with pytest.raises(AgebenchError, match="missing"):
        find_hashes(small)
    large = tmp_path / "large.training-hashes.bin"
    trained.write(large)
    assert find_hashes(small) == trained
    large.write_bytes(large.read_bytes()[:-1])
    with pytest.raises(AgebenchError, match="missing or damaged"):
        find_hashes(small)
    small.write_bytes(b"another model")
    with pytest.raises(AgebenchError, match=r"missing or damaged|another file"):
        find_hashes(small)


def test_a_list_stores_only_what_the_others_of_its_folder_have_not(tmp_path: Path) -> None:
    first = TrainingHashes.of("first", map(sha, range(100)))
    second = TrainingHashes.of("second", map(sha, range(60, 300)))
    mine = TrainingHashes.of("mine", map(sha, [*range(50, 250, 2), 1000, 2000, 3000]))
    first.write(tmp_path / "a.training-hashes.bin")
    second.write(tmp_path / "b.training-hashes.bin")
    shared = tmp_path / "c.training-hashes.bin"
    shared.write_bytes(mine.to_bytes(others=[first, second]))
    assert read_training_hashes(shared) == mine
    good = shared.read_bytes()
    assert mine.to_bytes(others=[second, first]).split(b"\n", 2)[2] == good.split(b"\n", 2)[2]
    body = len(good.split(b"\n", 2)[2])
    assert body == -(-300 // 8) + 3 * 8
    again = good + sorted(mine.prefixes & second.prefixes)[0]  # which a bit stands for
    for damaged in (
        again,
        good[:-1],
        good[:-8],
        good[: 1 - body],
        good[:-body] + b"\xff" + good[1 - body :],
    ):
        shared.write_bytes(damaged)
        with pytest.raises(AgebenchError, match="truncated or changed"):
            read_training_hashes(shared)
    shared.write_bytes(mine.to_bytes(others=[mine]))  # which nothing has whole
    with pytest.raises(AgebenchError, match="missing or damaged"):
        read_training_hashes(shared)


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
    twice = good + good[-8:]  # the same set
    for data in (
        b"",
        b"other",
        good[:-1],
        good[:-8],
        good + b"12345678",
        twice,
        changed,
        good[:30],
    ):
        file.write_bytes(data)
        with pytest.raises(AgebenchError, match="not a complete file of training hashes"):
            read_training_hashes(file)
    with pytest.raises(AgebenchError, match="there is no file"):
        read_training_hashes(tmp_path / "nothing")


def test_who_knows_its_training() -> None:
    class Knows:
        def training_hashes(self) -> TrainingHashes | None:
            return None

    assert isinstance(Knows(), KnowsItsTraining)
    assert not isinstance(object(), KnowsItsTraining)


class Killed(BaseException):
    """The end of a process in the middle."""


@pytest.mark.parametrize("names_given", [0, 1, 2])
@pytest.mark.parametrize("later", ["other", None])
def test_an_export_stopped_between_two_names_is_noticed(
    names_given: int, later: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is ever taken to have seen what an earlier one of that name has."""
    model = tmp_path / "model.onnx"
    write_with_companions(model, b"first", None, TrainingHashes.of("first", [sha(1)]))
    assert find_hashes(model) == TrainingHashes.of("first", [sha(1)])
    given = [0]

    def killed(at: Path, to: Path) -> Path:
        if given[0] == names_given:
            raise Killed
        given[0] += 1
        return replace(at, to)

    replace, unlink = Path.replace, Path.unlink

    def gone(at: Path, missing_ok: bool = False) -> None:
        if at == hashes_beside(model):
            raise Killed
        unlink(at, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        patched.setattr(Path, "unlink", gone)
        trained = None if later is None else TrainingHashes.of(later, [sha(2)])
        with suppress(Killed):
            write_with_companions(model, b"second", None, trained)
    if names_given == 0:
        assert find_hashes(model) == TrainingHashes.of("first", [sha(1)])
    elif later is not None and names_given == 2:
        assert find_hashes(model) == TrainingHashes.of(later, [sha(2)])
    else:
        with pytest.raises(AgebenchError, match="a file other than model"):
            find_hashes(model)
    write_with_companions(model, b"second", None, trained)
    assert find_hashes(model) == trained
