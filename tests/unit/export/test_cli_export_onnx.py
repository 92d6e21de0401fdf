"""`agebench export-onnx`: what it takes, what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from agebench.cli import export_onnx, main
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.modelfiles.weights import sha256_of
from agebench.runtimes import cuda_library
from agebench.runtimes.age_file import AgeFile


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["export-onnx", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def checkpoint(age_list: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny network for a round; return its checkpoint."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("trained")
    settings = str(age_list / "settings.toml")
    with pytest.MonkeyPatch.context() as patch:
        # The curves take as long as the round.
        patch.setattr("agebench.trainer.run.draw_curves", lambda *_given, **_named: None)
        with pytest.raises(SystemExit) as ended:
            main(["train", settings, "--out", str(folder), "--set", "rounds=1"])
    assert not ended.value.code
    return folder / "best.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three chips with ages."""
    random = np.random.default_rng(0)
    rows = ["path,age"]
    for index in range(3):
        pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{20 + index}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "list.csv"


def test_an_estimator_is_exported_and_compared_on_real_faces(
    narrow: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    faces = ("--dataset", "csv", "--root", pictures, "--face-detector", "aligned", "--sample", "3")
    assert run(f"caffe-age-net:{narrow / '8.caffemodel'}", "-o", out, *faces) == 0
    printed = capsys.readouterr().out
    assert "3 faces of csv, found by aligned" in printed
    assert "and out.parity.json" in printed
    assert out.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a checkpoint or an estimator"),
        (("constant",), "'constant' can't be exported to ONNX"),
        (("constant", "caffe-age-net"), "expected one model, got 2"),
        (("x", "--fp16", "--int8"), "exclude each other"),
        (("x", "--fp16-weights", "--int8"), "--fp16-weights and --int8 exclude each other"),
        (("x", "--int8"), "--int8 needs --dataset"),
        (("x", "--export-detector", "yunet"), "name a checkpoint or an estimator"),
        (("--detector", "yunet"), "--detector without a model is now called --export-detector"),
        (("x", "--detector", "a", "--face-detector", "b"), "is the earlier name of --detector"),
        (("x", "--detector", "yunet"), "--detector needs --dataset"),
        (("--export-detector", "yunet"), "'yunet' can't be exported: yoloface-500k can"),
        (("--export-detector", "yoloface-500k confidence=0.1"), "is not part of an exported"),
        (("--export-detector", "yoloface-500k version=v9"), "unknown version 'v9'"),
        (("--export-detector", "yoloface-500k", "--fp16"), "float32"),
        (("--export-detector", "yoloface-500k", "--name", "a"), "--name is not for detectors"),
        (
            ("--export-detector", "yoloface-500k", "--tolerance", "5"),
            "--tolerance is not for detectors",
        ),
        (("--export-detector", "yoloface-500k", "--root", "/none"), "--root is not for detectors"),
        (("--export-detector", "yoloface-500k", "--sample", "3"), "--sample is not for detectors"),
        (("--export-detector", "yoloface-500k", "--detector", "z"), "--detector is not for"),
        (("--export-detector", "yoloface-500k", "--seed", "0"), "--seed is not for detectors"),
        (("caffe-age-net", "--sample", "-5"), "--sample needs --dataset"),
        (("caffe-age-net", "--seed", "-1"), "--seed needs --dataset"),
        (("caffe-age-net", "--face-detector", "haar"), "--face-detector needs --dataset"),
        (("caffe-age-net", "--tolerance", "3", "--no-check"), "--no-check"),
        (("caffe-age-net", "--dataset", "sample", "--no-check"), "--no-check"),
        (("torch:x.safetensors", "nonsense=1"), "'nonsense' is not part of an exported"),
        (("torch:x.safetensors", "flip=perhaps"), "option flip='perhaps' of 'torch'"),
        (
            ("torch:x.safetensors", "flip=no", "--flip"),
            "flip=True (--flip) and flip=no exclude each other",
        ),
        (("torch:x.safetensors", "flip=no", "--flip-views", "face"), "exclude each other"),
        (("caffe-age-net", "--flip-views", "face"), "(--flip) is for checkpoints"),
        (
            ("--export-detector", "yoloface-500k", "--flip-views", "face"),
            "--flip-views is not for detectors",
        ),
        (("torch:x.safetensors@cv2dnn:cuda",), "exported from PyTorch on the CPU"),
        (("torch:x.safetensors@torch:cuda",), "exported from PyTorch on the CPU"),
        (("caffe-age-net", "--tolerance", "-1"), "tolerance must be above 0"),
        (("caffe-age-net", "--tolerance", "nan"), "got nan (mean nan)"),
    ],
)
def test_wrong_calls_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "-o", tmp_path / "out.onnx") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "mirrored"),
    [((), False), (("flip=true",), True), (("flip=0",), False), (("--flip",), True)],
)
def test_flip_of_a_reference_is_that_of_the_option(
    given: tuple[str, ...], mirrored: bool, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    assert run(f"torch:{checkpoint}", *given, "-o", out, "--no-check") == 0
    assert AgeFile(out).spec.mirrored is mirrored


def test_views_to_be_mirrored_are_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agebench.train.checkpoint import read_checkpoint

    (name, *_) = read_checkpoint(checkpoint).settings.model.views
    out = tmp_path / "out.onnx"
    assert run(checkpoint, "--flip-views", f" {name}, {name}", "-o", out, "--no-check") == 0
    spec = AgeFile(out).spec
    assert spec.mirrored
    assert spec.mirrored_views == (name,)
    for wrong in ("nose", ""):
        out.unlink(missing_ok=True)
        assert run(checkpoint, "--flip-views", wrong, "-o", out, "--no-check") == 2
        assert f"no view {wrong!r}" in capsys.readouterr().err
        assert not out.exists()


def test_cuda_is_missed_only_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = (("onnxruntime:cuda", "no library"), ("cv2dnn:cpu", "too old"))
    for found in ((), ("a GPU",)):
        devices = cuda_library.CudaDevices(found)
        monkeypatch.setattr(cuda_library, "find_devices", lambda devices=devices: devices)
        export_onnx._print_skipped(Console(width=80), skipped)
        printed = capsys.readouterr().out
        assert "not tried: cv2dnn:cpu: too old" in printed
        assert ("onnxruntime:cuda: no library" in printed) == bool(found)


def test_a_list_of_training_pictures_is_named_and_stays_with_its_model(
    narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = tmp_path / "my.caffemodel", narrow / "8.caffemodel"
    model.write_bytes((narrow / "117.caffemodel").read_bytes())
    listed = tmp_path / "my.training-hashes.bin"
    hashes = TrainingHashes("mine", frozenset({b"12345678"}))
    listed.write_bytes(hashes.to_bytes(sha256_of(model)))
    before = listed.read_bytes()
    for source in (f"caffe-age-net-utkface:{model}", f"caffe-age-net:{other}"):
        assert run(source, "-o", tmp_path / "my.onnx", "--no-check") == 2
        assert f"lists the training pictures of {model} and would" in capsys.readouterr().err
        assert listed.read_bytes() == before
    for _again in range(2):
        assert run(f"caffe-age-net-utkface:{model}", "-o", tmp_path / "x.onnx", "--no-check") == 0
        assert "bytes) and x.training-hashes.bin\n" in capsys.readouterr().out


def test_an_input_is_not_written_over(
    narrow: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = pictures.rename(pictures.with_suffix(".onnx"))
    before = listed.read_bytes()
    given = ("--dataset", "csv", "--root", listed, "--face-detector", "aligned")
    assert run(f"caffe-age-net:{narrow / '8.caffemodel'}", "-o", listed, *given) == 2
    assert "is an input and would be overwritten" in capsys.readouterr().err
    assert listed.read_bytes() == before


def test_what_stands_beside_a_checkpoint_is_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert run(checkpoint, "years=3", "-o", out) == 2
    assert "has no options, got 'years=3'" in capsys.readouterr().err
    assert run(checkpoint.parent, "-o", out) == 2
    assert "expected a checkpoint, got the folder" in capsys.readouterr().err


def test_only_onnx_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "best.safetensors"
    checkpoint.write_bytes(b"mine")
    assert run(checkpoint, "-o", checkpoint, "--no-check") == 2
    assert "must be named" in capsys.readouterr().err
    assert checkpoint.read_bytes() == b"mine"


def test_files_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    wrong = tmp_path / "net.pt"
    wrong.write_bytes(b"\x80\x04 a pickle")
    for path in (wrong, tmp_path / "none.safetensors"):
        assert run(path, "-o", tmp_path / "out.onnx") == 1
        assert "checkpoint" in capsys.readouterr().err
    assert run(wrong, "-o", tmp_path / "none" / "out.onnx") == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.shared
def test_the_published_detector(
    shared_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shared_weights.is_dir()
    assert run("--export-detector", "yoloface-500k", "-o", tmp_path / "y.onnx") == 0
    assert "y.parity.json" in capsys.readouterr().out
