"""Small parts of training: averaged weights, evaluation, logs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import AgebenchError, MissingDependencyError

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.metrics.age_errors import mae  # noqa: E402 - only where torch is there
from agebench.train.evaluate import (  # noqa: E402
    predicted_years,
    probabilities,
    using_weights,
    validation_mae,
)
from agebench.train.face_cache import TrainingFaces  # noqa: E402
from agebench.train.logs import EPOCH_COLUMNS, RunLog  # noqa: E402
from agebench.train.losses import LOSSES  # noqa: E402
from agebench.train.networks import MultiCropResNet  # noqa: E402
from agebench.train.optimiser import AveragedWeights  # noqa: E402
from agebench.train.settings import TrainSettings, read_settings  # noqa: E402
from agebench.train.stability import DivergedError  # noqa: E402
from agebench.trainer.pictures import TrainingPictures  # noqa: E402
from agebench.trainer.run import train  # noqa: E402


@pytest.fixture(scope="module")
def settings(age_list: Path) -> TrainSettings:
    return read_settings(age_list / "settings.toml")


@pytest.fixture(scope="module")
def faces(settings: TrainSettings) -> TrainingFaces:
    return TrainingPictures.of(settings, lambda *_step: None).gather("val")


@pytest.fixture
def model(settings: TrainSettings) -> MultiCropResNet:
    torch.manual_seed(0)
    model = MultiCropResNet(settings.model)
    torch.nn.init.normal_(model.joint.weight)
    return model


def test_averaged_weights_by_hand() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.register_buffer("count", torch.tensor(0))
    with torch.no_grad():
        layer.weight.fill_(0.0)
    averaged = AveragedWeights(layer, 0.5)
    expected = 0.0
    for step in range(40):
        with torch.no_grad():
            layer.weight.fill_(step + 1.0)
        layer.count += 1
        averaged.update(layer, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1.0)
        assert averaged.state["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert averaged.state["count"] == 40
    assert layer.weight.item() == 40  # the model keeps its own


def test_flip_averaging_is_the_mean_of_both(
    model: MultiCropResNet, faces: TrainingFaces, settings: TrainSettings
) -> None:
    spec = LOSSES["dldl"]
    plain = probabilities(model, faces, spec, flip_average=False)
    both = probabilities(model, faces, spec, flip_average=True)
    assert plain.shape == (8, 91)
    assert torch.allclose(both.sum(1), torch.ones(8), atol=1e-5)
    mirrored = 2 * both - plain
    assert (mirrored - plain).abs().max() > 1e-4
    assert mirrored.min() > -1e-6
    assert model.training  # left as it was
    years = predicted_years(model, faces, spec, settings)
    assert years == pytest.approx((both.double() @ torch.arange(91.0).double()).numpy(), abs=1e-3)
    assert validation_mae(model, faces, spec, settings) == mae(faces.ages, years)


def test_evaluation_does_not_hang_on_the_mode_or_draws(
    model: MultiCropResNet, faces: TrainingFaces
) -> None:
    spec = LOSSES["dldl"]
    first = probabilities(model.train(), faces, spec, flip_average=True)
    second = probabilities(model.eval(), faces, spec, flip_average=True)
    assert torch.equal(first, second)
    assert not model.training


def test_ages_that_are_no_numbers_are_said_so(
    model: MultiCropResNet, faces: TrainingFaces, settings: TrainSettings
) -> None:
    with torch.no_grad():
        model.joint.bias[0] = float("nan")
    with pytest.raises(DivergedError, match="start a new run"):
        validation_mae(model, faces, LOSSES["dldl"], settings)


def test_other_weights_are_used_inside_and_the_own_ones_come_back(model: MultiCropResNet) -> None:
    own = {name: value.clone() for name, value in model.state_dict().items()}
    others = {name: torch.ones_like(value) for name, value in own.items()}

    def use() -> None:
        with using_weights(model, others):
            assert (model.joint.weight == 1).all()
            raise KeyError

    with pytest.raises(KeyError):
        use()
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def _epoch(number: int, **given: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(EPOCH_COLUMNS, 0.5)
    return {**values, "epoch": number, "step": 3 * number, "reason": 'a, "b"\nc', **given}


def _log(folder: Path, step: int = 0, epochs: int = 0, *, tensorboard: bool = False) -> RunLog:
    return RunLog(folder, step, epochs, tensorboard=tensorboard)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_lines_of_steps_that_are_made_again_are_dropped(tmp_path: Path) -> None:
    log = _log(tmp_path)
    for step in range(6):
        log.step({"step": step, "epoch": step // 3, "loss": step / 3, "learning_rate": 0.1})
    log.epoch(_epoch(0))
    log.epoch(_epoch(1))
    _log(tmp_path, 4, 1)
    rows = _rows(tmp_path / "steps.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[1]["loss"]) == 1 / 3
    (row,) = _rows(tmp_path / "epochs.csv")
    assert (row["epoch"], row["reason"]) == ("0", 'a, "b"\nc')


def test_steps_are_written_with_the_epoch_or_a_flush(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.step({"step": 0, "epoch": 0, "loss": 1.0, "learning_rate": 0.1})
    assert _rows(tmp_path / "steps.csv") == []
    log.flush()
    log.flush()
    assert len(_rows(tmp_path / "steps.csv")) == 1


def test_a_log_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AgebenchError, match=r"steps\.csv"):
        _log(tmp_path)


def test_other_columns_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("a,b\n1,2\n")
    _log(tmp_path, 9)
    assert _rows(tmp_path / "steps.csv") == []


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    log = _log(tmp_path / "run")
    for entry in (tmp_path / "run").iterdir():
        entry.unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(AgebenchError, match=r"steps\.csv can't be written"):
        log.flush()


def test_tensorboard_gets_the_rounds(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs TensorBoard (pip install tensorboard)",
    )
    log = _log(tmp_path, tensorboard=True)
    for number in range(3):
        log.epoch(_epoch(number, val_mae=5.0 - number, jump=None))
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    values = [(event.step, event.value) for event in events.Scalars("val_mae")]
    assert values == [(0, 5.0), (3, 4.0), (6, 3.0)]
    assert "jump" not in events.Tags()["scalars"]


def test_tensorboard_that_is_not_here_is_said_before_a_run_begins(
    age_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = read_settings(age_list / "settings.toml")
    with pytest.raises(MissingDependencyError, match="omit --tensorboard"):
        train(settings, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_share_of_the_pictures_is_the_same_each_time(age_list: Path) -> None:
    settings = read_settings(age_list / "settings.toml", ["data.train_fraction=0.25"])
    pictures = TrainingPictures.of(settings, lambda *_step: None)
    some = pictures.gather("train", 0.25)
    assert len(some) == 6
    assert pictures.gather("train", 0.25).names == some.names
    assert len(pictures.gather("train", 0.01)) == 1
