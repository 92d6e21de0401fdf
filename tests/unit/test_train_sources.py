"""Training on several data sets at once, and on a teacher's answers beside the labels."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.cli import main
from agebench.duplicates.training_hashes import RUN_HASHES, read_training_hashes
from agebench.errors import AgebenchError, UsageError
from agebench.train.settings import TrainSettings, read_settings

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.export.multi_crop import checkpoint_candidate  # noqa: E402
from agebench.registry.plugins import load_estimator  # noqa: E402
from agebench.train.batches import Batches  # noqa: E402 - only where torch is there
from agebench.train.face_cache import TrainingFaces  # noqa: E402
from agebench.train.formulas import distillation  # noqa: E402
from agebench.train.losses import LOSSES, Targets  # noqa: E402
from agebench.train.sections import LossSettings  # noqa: E402
from agebench.trainer.pictures import TrainingPictures, join_faces  # noqa: E402
from agebench.trainer.run_folder import LEFT_OUT_FILE  # noqa: E402
from agebench.trainer.teacher import read_teacher_answers, with_answers, write_answers  # noqa: E402
from tests.unit.scripts import load_script  # noqa: E402

YEARS = torch.arange(0, 117).float()


def _extra(age_list: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """Make a further set of some of the pictures, with one byte more each, labelled by ranges."""
    folder.mkdir()
    lines = ["path,age"]
    for name in names:
        (folder / name).write_bytes((age_list / name).read_bytes() + b"\0")
        lines.append(f"{name},30-39")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def _settings(age_list: Path, *overrides: str) -> TrainSettings:
    return read_settings(age_list / "settings.toml", overrides)


def _sources(root: Path, **more: Any) -> str:
    values = {"dataset": "csv", "root": str(root), **more}
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    return f"data.extra={{ more = {{ {table} }} }}"


def _train_faces(settings: TrainSettings) -> TrainingFaces:
    pictures = TrainingPictures.of(settings, lambda *_step: None)
    return pictures.with_extra(pictures.gather("train"))


def test_pictures_of_a_further_set_stand_behind_the_own(age_list: Path, tmp_path: Path) -> None:
    root = _extra(age_list, tmp_path / "more", ("p00.png", "p01.png"))
    settings = _settings(age_list, _sources(root, label_weight=0.5))
    alone, faces = _train_faces(_settings(age_list)), _train_faces(settings)
    assert len(faces) == len(alone) + 2
    assert faces.names[:-2] == alone.names
    assert faces.names[-2:] == ("more/p00.png", "more/p01.png")
    assert faces.lows[-2:].tolist() == [30, 30]
    assert faces.highs[-2:].tolist() == [39, 39]
    assert faces.label_weights is not None
    assert faces.label_weights.tolist() == [1.0] * len(alone) + [0.5] * 2
    np.testing.assert_array_equal(faces.pixels_bgr[: len(alone)], alone.pixels_bgr)
    for name, place in alone.transforms.items():
        np.testing.assert_array_equal(faces.transforms[name].matrices[: len(alone)], place.matrices)
        assert faces.transforms[name].frame_px == pytest.approx(place.frame_px)


def test_windows_of_other_sizes_are_filled_up_as_one_set_would_be(
    age_list: Path, tmp_path: Path
) -> None:
    faces = _train_faces(_settings(age_list))
    side = faces.pixels_bgr.shape[1]
    small = replace(faces, pixels_bgr=faces.pixels_bgr[:, : side - 8, : side - 8])
    joined = join_faces([small, faces])
    assert joined.pixels_bgr.shape == (2 * len(faces), side, side, 3)
    kept = np.pad(small.pixels_bgr, ((0, 0), (0, 8), (0, 8), (0, 0)), mode="edge")
    np.testing.assert_array_equal(joined.pixels_bgr[: len(faces)], kept)
    np.testing.assert_array_equal(joined.pixels_bgr[len(faces) :], faces.pixels_bgr)


def test_a_picture_that_validates_is_not_trained_on(age_list: Path, tmp_path: Path) -> None:
    root = _extra(age_list, tmp_path / "more", ("p00.png", "p03.png", "p04.png"))
    # p03 validates and p04 tests: the same bytes are in both sets now.
    for name in ("p03.png", "p04.png"):
        shutil.copy(age_list / name, root / name)
    faces = _train_faces(_settings(age_list, _sources(root)))
    assert [name for name in faces.names if name.startswith("more/")] == ["more/p00.png"]
    reasons = {item.name: item.reason for item in faces.problems}
    assert "the same picture as p03.png" in reasons["more/p03.png"]
    assert "the same picture as p04.png" in reasons["more/p04.png"]


def test_a_share_is_drawn_by_the_seed(age_list: Path, tmp_path: Path) -> None:
    names = tuple(f"p{index:02d}.png" for index in range(10))
    root = _extra(age_list, tmp_path / "more", names)
    one = _train_faces(_settings(age_list, _sources(root, fraction=0.3)))
    two = _train_faces(_settings(age_list, _sources(root, fraction=0.3)))
    assert one.names == two.names
    assert sum(name.startswith("more/") for name in one.names) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('data.extra={ Faces = { dataset = "csv" } }', "an extra data set's name"),
        ("data.extra={ more = { }}", "data.extra.more.dataset is missing"),
        ('data.extra={ more = { dataset = "csv", fraction = 0 } }', "fraction must be above 0"),
        (
            'data.extra={ more = { dataset = "csv", label_weight = 2 } }',
            "weight must be from 0 to 1",
        ),
        (
            'data.extra={ more = { dataset = "csv", part = "x" } }',
            "more.part: unknown key",
        ),
        ("teacher.weight=0", "weight must be above 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(None, [override])


def test_further_sets_have_the_names_that_people_know_them_by() -> None:
    table = 'young = { dataset = "fairface part=train" }, mine = { dataset = "csv path=a" }'
    settings = read_settings(None, [f"data.extra={{ {table} }}"])
    assert settings.data.extra_sets == ("fairface", "mine")


def _shares(*ages: int) -> Any:
    """Answers that put 0.75 on an age and 0.25 on the next."""
    rows = np.zeros((len(ages), 117))
    for row, age in enumerate(ages):
        rows[row, age : age + 2] = 0.75, 0.25
    return rows


def test_distillation_by_hand() -> None:
    years = torch.tensor([10.0, 20.0])
    taught = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])
    shares = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]])
    got = distillation(shares, taught, years, l1_weight=0.1)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75) + 0.1 * 2.5
    assert got[0].item() == pytest.approx(first, rel=1e-5)
    assert got[1].item() == pytest.approx(math.log(2) + 0.1 * 5, rel=1e-5)
    assert torch.isfinite(got[2])
    equal = distillation(taught[:2], taught[:2], years, l1_weight=1.0)
    torch.testing.assert_close(equal, torch.zeros(2))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_rows_without_an_answer_have_the_labels_loss_alone(name: Any) -> None:
    spec = LOSSES[name]
    torch.manual_seed(0)
    outputs = torch.randn(3, spec.outputs(117), requires_grad=True)
    targets = Targets.ranges(torch.tensor([30.0, 30, 20]), torch.tensor([30.0, 39, 20]))
    answers = torch.tensor(_shares(30, 35, 20)).float()
    answers[0] = 0
    settings = LossSettings(name)
    plain = spec.per_sample(outputs, targets, YEARS, settings)
    taught = spec.per_sample(outputs, replace(targets, answers=answers), YEARS, settings, 0.25)
    apart = distillation(
        spec.to_probabilities(outputs), answers, YEARS, l1_weight=settings.l1_weight
    )
    expected = torch.stack([plain[0], *(0.75 * plain + 0.25 * apart)[1:]])
    torch.testing.assert_close(taught, expected)
    weights = torch.tensor([1.0, 0.5, 0.0])
    weighed = spec.per_sample(outputs, replace(targets, label_weights=weights), YEARS, settings)
    torch.testing.assert_close(weighed, plain * weights)
    taught.sum().backward()  # type: ignore[no-untyped-call]  # not typed
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_mixed_rows_take_their_partners_answer_along() -> None:
    spec, settings = LOSSES["ce"], LossSettings("ce")
    outputs = torch.randn(2, 117)
    targets = replace(
        Targets.exact(torch.tensor([30.0, 60.0])), answers=torch.tensor(_shares(31, 61)).float()
    )
    swapped = targets.take(torch.tensor([1, 0]))
    mixed = targets.mixed(swapped, torch.tensor([0.7, 0.7]))
    got = spec.per_sample(outputs, mixed, YEARS, settings)
    own = spec.per_sample(outputs, targets, YEARS, settings)
    other = spec.per_sample(outputs, swapped, YEARS, settings)
    torch.testing.assert_close(got, 0.7 * own + 0.3 * other)


def test_answers_go_through_the_file_and_reach_the_batch(age_list: Path, tmp_path: Path) -> None:
    settings = _settings(age_list)
    faces = _train_faces(settings)
    known = faces.hashes[:3]
    write_answers(tmp_path / "t.safetensors", "two networks", known, _shares(10, 20, 30), (0, 116))
    teacher = read_teacher_answers(tmp_path / "t.safetensors")
    assert (teacher.what, teacher.youngest, teacher.oldest) == ("two networks", 0, 116)
    taught = with_answers(faces, teacher)
    batches = Batches(taught, settings.model.crop, settings.augment, 0, torch.device("cpu"))
    views = batches.views(batches.gather(0, np.array([2, 5]), slice(None)))
    assert views.targets.answers is not None
    assert views.targets.answers[0].nonzero().flatten().tolist() == [30, 31]
    assert not views.targets.answers[1].any()


def test_files_that_are_no_answers_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    with pytest.raises(AgebenchError, match=r"t\.safetensors"):
        read_teacher_answers(file)
    file.write_bytes(b"no such file")
    with pytest.raises(AgebenchError, match="does not contain a teacher's answers"):
        read_teacher_answers(file)
    write_answers(file, "x", ["ab" * 32], _shares(10), (0, 116))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(AgebenchError, match="damaged"):
        read_teacher_answers(file)
    write_answers(file, "x", ["ab" * 32], 2 * _shares(10), (0, 116))
    with pytest.raises(AgebenchError, match="sums to 1"):
        read_teacher_answers(file)
    with pytest.raises(ValueError, match="expected 1 rows of 5"):
        write_answers(file, "x", ["ab" * 32], _shares(10), (0, 4))


def _train(age_list: Path, out: Path, *given: str) -> int:
    settings = [str(age_list / "settings.toml"), "--set", "epochs=1"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *settings, "--out", str(out), *given])
    return int(ended.value.code or 0)


def _model_ages(age_list: Path) -> tuple[int, int]:
    model = _settings(age_list).model
    return model.youngest, model.oldest


def _answers(age_list: Path, file: Path, shift: int = 0) -> Path:
    """Write answers to all pictures, all on one age."""
    youngest, oldest = _model_ages(age_list)
    hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(age_list.glob("*.png"))]
    rows = np.zeros((len(hashes), oldest - youngest + 1))
    rows[:, 10 + shift] = 1
    write_answers(file, "made up", hashes, rows, (youngest, oldest))
    return file


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_two_sets_with_a_teacher(
    age_list: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = _extra(age_list, tmp_path / "more", ("p00.png", "p01.png"))
    shutil.copy(age_list / "p03.png", root / "p00.png")  # validates
    teacher = _answers(age_list, tmp_path / "teacher.safetensors")
    given = ("--set", _sources(root), "--set", f'teacher.file="{teacher}"')
    out = tmp_path / "run"
    assert _train(age_list, out, *given) == 0
    about = json.loads((out / "evaluation.json").read_text())
    assert about["extra"]["more"]["dataset"] == "csv"
    trained = about["pictures"]["train"]
    assert about["teacher"]["pictures"] == trained - 1  # p01 has a byte more: not known
    hashes = read_training_hashes(out / RUN_HASHES)
    assert len(hashes) == trained
    assert hashes.what.endswith(" + more")
    extra = hashlib.sha256((root / "p01.png").read_bytes()).hexdigest()
    assert hashes.contains(extra)
    spec = load_estimator(f"torch:{out / 'best.safetensors'}").spec
    assert spec.trained_sets == ("csv", "more")
    assert spec.trained_on.endswith(" + more")
    exported = checkpoint_candidate(out / "best.safetensors").spec
    assert exported.trained_sets == spec.trained_sets
    assert exported.trained_on == spec.trained_on
    with (out / LEFT_OUT_FILE).open(newline="") as file:
        rows = {row["picture"]: row["reason"] for row in csv.DictReader(file)}
    assert "the same picture as p03.png" in rows["more/p00.png"]
    for name in ("best.safetensors", "evaluation.json"):
        assert str(tmp_path).encode() not in (out / name).read_bytes()
    # `calibrate` lists the run's own pictures alone.
    script, listed = load_script("benchmarks.calibrate"), list[object]()
    monkeypatch.setattr("sys.argv", ["calibrate", str(out), "--root", str(age_list)])
    with monkeypatch.context() as patch:
        patch.setattr(TrainingPictures, "of", lambda wanted, _: listed.append(wanted.data.extra))
        with pytest.raises(AttributeError):  # it has no pictures
            script.main()
    assert listed == [{}]
    # Both may lie elsewhere when it is resumed.
    root, teacher = root.rename(tmp_path / "moved"), teacher.rename(tmp_path / "t.safetensors")
    given = ("--set", _sources(root), "--set", f'teacher.file="{teacher}"')
    assert _train(age_list, out, *given) == 0
    capfd.readouterr()
    # Another teacher under the same name is noticed.
    _answers(age_list, teacher, shift=1)
    assert _train(age_list, out, *given) == 2
    assert "started with another teacher" in capfd.readouterr().err


def test_a_teacher_that_does_not_fit_is_refused(
    age_list: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "teacher.safetensors"
    write_answers(file, "x", ["ab" * 32], np.ones((1, 1)), (5, 5))
    assert _train(age_list, tmp_path / "run", "--set", f'teacher.file="{file}"') == 2
    assert "has ages 5 to 5" in capfd.readouterr().err
    youngest, oldest = _model_ages(age_list)
    rows = np.zeros((1, oldest - youngest + 1))
    rows[0, 0] = 1
    write_answers(file, "x", ["ab" * 32], rows, (youngest, oldest))
    assert _train(age_list, tmp_path / "run", "--set", f'teacher.file="{file}"') == 2
    assert "no answer for any training picture" in capfd.readouterr().err


def test_a_run_does_not_lie_in_a_further_sets_folder(
    age_list: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = _extra(age_list, tmp_path / "more", ("p00.png",))
    assert _train(age_list, root / "run", "--set", _sources(root)) == 2
    assert str(root) in capfd.readouterr().err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{ dataset = 'csv' }", "data.extra.more: data set 'csv' needs its folder or file"),
        ("{ dataset = 'sample', detector = 'nose' }", "data.extra.more: .*'nose'"),
    ],
)
def test_names_are_looked_up_before_pictures_are_read(
    age_list: Path, table: str, message: str
) -> None:
    settings = _settings(age_list, f"data.extra={{ more = {table} }}")
    steps: list[str] = []
    with pytest.raises(UsageError, match=message):
        TrainingPictures.of(settings, lambda stage, *_step: steps.append(stage))
    assert steps == []
