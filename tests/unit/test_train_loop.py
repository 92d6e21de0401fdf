"""The training loop: interrupted and resumed, shared by two processes, diverging, deciding."""

from __future__ import annotations

import csv
import errno
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.errors import AgebenchError, WeightsError
from agebench.train.settings import TrainSettings, read_settings
from tests.unit.forking import ForkedPython

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train import loop  # noqa: E402 - only where torch is there
from agebench.train.batches import mixed  # noqa: E402
from agebench.train.checkpoint import (  # noqa: E402
    Checkpoint,
    RunState,
    read_checkpoint,
)
from agebench.train.distributed import DistributedContext  # noqa: E402
from agebench.train.face_cache import TrainingFaces  # noqa: E402
from agebench.train.logs import Silent, StepReport  # noqa: E402
from agebench.train.loop import BEST_FILE, LAST_FILE, Trainer  # noqa: E402
from agebench.train.networks import MultiCropResNet  # noqa: E402
from agebench.train.optimiser import (  # noqa: E402
    OptimiserState,
    crop_scale,
    make_optimiser,
    rate_factor,
    stage_of,
)
from agebench.train.sections import OptimSettings  # noqa: E402
from agebench.train.stability import DivergedError  # noqa: E402
from agebench.trainer.pictures import TrainingPictures  # noqa: E402

ALONE = DistributedContext(0, 1, torch.device("cpu"))
EACH_STEP = "checkpoint_minutes=0"
CALM = (
    "augment={rotation_deg=0, brightness=0, contrast=0, saturation=0, hue_deg=0, gray=0, "
    "single_channel=0, noise=0, erase=0}",
    "model.dropout=0.0",
    "optim.learning_rate=0.01",
    "optim.ema=0.9",
)
"""Little to augment: the made-up pictures tell the age by their brightness."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _settings(age_list: Path, *overrides: str) -> TrainSettings:
    return read_settings(age_list / "settings.toml", overrides)


@pytest.fixture(scope="module")
def faces(age_list: Path) -> dict[str, TrainingFaces]:
    pictures = TrainingPictures.of(_settings(age_list), lambda *_step: None)
    return {part: pictures.gather(part) for part in ("train", "val")}


class _Brake(Silent):
    """Breaks a run off after a step."""

    def __init__(self, last: int) -> None:
        self._last = last

    def step(self, report: StepReport) -> None:
        if report.step == self._last:
            raise KeyboardInterrupt


def _trainer(
    settings: TrainSettings, faces: dict[str, TrainingFaces], folder: Path | None, **given: Any
) -> Trainer:
    if folder is not None:
        folder.mkdir(exist_ok=True)
    return Trainer(settings, faces["train"], faces["val"], folder, ALONE, **given)


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds", None)
    return rows


def _state(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: value for name, value in checkpoint.state.items() if name != "seconds"}


def _assert_same(first: Path, second: Path) -> None:
    """Weights, optimiser, state and logs of two runs are the same, bit for bit."""
    for name in (LAST_FILE, BEST_FILE):
        one, other = (read_checkpoint(folder / name) for folder in (first, second))
        assert _state(one) == _state(other)
        for group in ("model", "averaged", "optimiser"):
            ours, theirs = getattr(one, group), getattr(other, group)
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert torch.equal(value, theirs[key]), (group, key)
    for name in ("steps.csv", "epochs.csv"):
        assert _rows(first, name) == _rows(second, name)


VARIANTS = [
    (),
    ("optim.optimiser=sgd", "optim.learning_rate=0.01", "optim.mixup=0.4", "passes=2", "epochs=2"),
    ("optim.staged=0.4", "optim.small_fraction=0.5", "loss.name=coral", "optim.clip_norm=0"),
    ("model.fusion=early", "precision=bf16", "bootstrap.replacement=false", "epochs=2"),
]


@pytest.mark.parametrize("overrides", VARIANTS)
def test_broken_off_after_every_step_and_resumed_is_as_unbroken(
    age_list: Path, faces: dict[str, TrainingFaces], tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    settings = _settings(age_list, EACH_STEP, "batch=12", *overrides)
    unbroken = _trainer(settings, faces, tmp_path / "unbroken")
    unbroken.run()
    total = unbroken.state.step
    assert total == unbroken.total
    folder, saved = tmp_path / "broken", None
    for last in range(1, total):
        with pytest.raises(KeyboardInterrupt):
            _trainer(settings, faces, folder, watcher=_Brake(last), resume=saved).run()
        saved = read_checkpoint(folder / LAST_FILE)
        assert saved.state["step"] == last
    _trainer(settings, faces, folder, resume=saved).run()
    _assert_same(tmp_path / "unbroken", folder)


def test_broken_off_between_checkpoints(
    age_list: Path, faces: dict[str, TrainingFaces], tmp_path: Path
) -> None:
    """The log's lines past the last checkpoint are dropped: those steps are made again."""
    settings = _settings(age_list, "epochs=2")
    _trainer(settings, faces, tmp_path / "unbroken").run()
    folder = tmp_path / "broken"
    trainer = _trainer(settings, faces, folder, watcher=_Brake(5))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    saved = read_checkpoint(folder / LAST_FILE)
    assert saved.state["step"] == 3  # the end of the first epoch
    with (folder / "steps.csv").open("a") as file:
        file.write("3,1,0.5,0.1\n4,1,0.5,0.1\n5,1,0.")  # the last line is cut off
    with (folder / "epochs.csv").open("a") as file:
        file.write("1")
    _trainer(settings, faces, folder, resume=saved).run()
    _assert_same(tmp_path / "unbroken", folder)


def test_training_learns_and_writes_down_what_it_did(
    age_list: Path, faces: dict[str, TrainingFaces], tmp_path: Path
) -> None:
    settings = _settings(age_list, "epochs=12", *CALM)
    trainer = _trainer(settings, faces, tmp_path / "run")
    state = trainer.run()
    assert "12 planned epochs" in state.reason
    steps, epochs = (_rows(tmp_path / "run", name) for name in ("steps.csv", "epochs.csv"))
    assert [int(row["step"]) for row in steps] == list(range(36))
    assert [int(row["epoch"]) for row in steps] == [step // 3 for step in range(36)]
    for row in steps:
        rate = 0.01 * rate_factor(int(row["step"]), 36, settings.optim)
        assert float(row["learning_rate"]) == pytest.approx(rate)
    losses = [float(row["loss"]) for row in steps]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    maes = [float(row["val_mae"]) for row in epochs]
    assert min(maes) < 0.6 * maes[0]
    assert state.best_mae == min(maes)
    assert float(epochs[4]["train_loss"]) == pytest.approx(np.mean(losses[12:15]))
    jump = (np.median(losses[12:15]) - np.median(losses[9:12])) / np.median(losses[9:12])
    assert float(epochs[4]["jump"]) == pytest.approx(jump)
    assert epochs[0]["jump"] == ""
    best = read_checkpoint(tmp_path / "run" / BEST_FILE)
    assert best.state["best_mae"] == min(maes)
    assert len(best.state["history"]) == 1 + int(np.argmin(maes))


class _Poison(Silent):
    """Makes a weight NaN after a step, as an overflow would."""

    def __init__(self, after: int) -> None:
        self.after, self.trainer = after, None

    def step(self, report: StepReport) -> None:
        if report.step == self.after and self.trainer is not None:
            with torch.no_grad():
                head: Any = self.trainer.model.head
                head.weight[0, 0] = math.nan

    trainer: Trainer | None


@pytest.mark.parametrize("overrides", [(), (EACH_STEP,)])
@pytest.mark.parametrize("after", [3, 4, 5])
def test_a_nan_ends_the_run_and_leaves_the_last_checkpoint(
    age_list: Path,
    faces: dict[str, TrainingFaces],
    tmp_path: Path,
    overrides: tuple[str, ...],
    after: int,
) -> None:
    poison = _Poison(after)
    settings = _settings(age_list, "epochs=2", *overrides)
    trainer = _trainer(settings, faces, tmp_path / "run", watcher=poison)
    poison.trainer = trainer
    with pytest.raises(DivergedError, match="diverged") as error:
        trainer.run()
    assert "\n" not in str(error.value)
    saved = read_checkpoint(tmp_path / "run" / LAST_FILE)  # refuses what is not finite
    assert saved.state["step"] == (after if overrides else 3)
    resumed = _trainer(settings, faces, tmp_path / "run", resume=saved)
    assert math.isfinite(resumed.run().best_mae)


def test_a_gradient_that_is_not_finite_moves_nothing(
    age_list: Path, faces: dict[str, TrainingFaces]
) -> None:
    trainer = _trainer(_settings(age_list), faces, None)
    head: Any = trainer.model.head
    head.weight.register_hook(lambda gradient: gradient * math.inf)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(DivergedError, match="gradient"):
        trainer.run()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name])


def test_a_rate_far_too_high_ends_in_one_sentence(
    age_list: Path, faces: dict[str, TrainingFaces], tmp_path: Path
) -> None:
    wild = ("optim.optimiser=sgd", "optim.learning_rate=10", "optim.clip_norm=0", "optim.warmup=0")
    settings = _settings(age_list, "epochs=40", *wild)
    with pytest.raises(DivergedError, match="start a new run with a lower"):
        _trainer(settings, faces, tmp_path / "run").run()
    if (tmp_path / "run" / LAST_FILE).exists():
        read_checkpoint(tmp_path / "run" / LAST_FILE)


@pytest.mark.parametrize("call", ["fsync", "fdopen", "open"])
def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(
    age_list: Path,
    faces: dict[str, TrainingFaces],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    folder = tmp_path / "run"
    settings = _settings(age_list, "epochs=2", "batch=12")
    with pytest.raises(KeyboardInterrupt):
        _trainer(settings, faces, folder, watcher=_Brake(2)).run()
    before = (folder / LAST_FILE).read_bytes()
    saved = read_checkpoint(folder / LAST_FILE)
    trainer = _trainer(settings, faces, folder, resume=saved)

    def full(*_given: Any, **_named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"agebench.util.files.os.{call}", full)
    with pytest.raises(AgebenchError, match="No space left on device") as error:
        trainer.run()
    assert "\n" not in str(error.value)
    assert (folder / LAST_FILE).read_bytes() == before
    monkeypatch.undo()
    assert not [entry for entry in folder.iterdir() if entry.name.startswith(".")]
    _trainer(settings, faces, folder, resume=read_checkpoint(folder / LAST_FILE)).run()


def _with_losses(
    monkeypatch: pytest.MonkeyPatch, first_of_epoch: float, others: float, val: float = 5.0
) -> None:
    """Have epochs of three steps report these losses, learn nothing, and validation stand still."""

    def learn(self: Trainer, *_given: Any) -> float:
        return others if self.state.step % 3 else first_of_epoch

    monkeypatch.setattr(Trainer, "learn", learn)
    monkeypatch.setattr(loop, "validation_mae", lambda *_given: val)


RULE = (
    "optim.schedule=constant",
    "optim.warmup=0",
    "epochs=40",
    "stability={window=1, epochs=2, patience=2, threshold=0.05, cut_factor=0.5, max_cuts=2}",
)


def test_jumps_on_a_plateau_cut_the_rate_and_at_last_end(
    age_list: Path,
    faces: dict[str, TrainingFaces],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _with_losses(monkeypatch, 2.0, 1.0)
    state = _trainer(_settings(age_list, *RULE), faces, tmp_path / "run").run()
    epochs = _rows(tmp_path / "run", "epochs.csv")
    assert [row["decision"] for row in epochs if row["decision"] != "go on"] == [
        "cut",
        "cut",
        "change structure",
    ]
    assert state.ended
    assert state.rate == 0.25
    assert len(epochs) < 40
    cuts, expected = 0, 3e-3
    steps = _rows(tmp_path / "run", "steps.csv")
    for row, of_epoch in zip(epochs, range(len(epochs)), strict=True):
        rates = {float(step["learning_rate"]) for step in steps if step["epoch"] == str(of_epoch)}
        assert len(rates) == 1
        assert rates.pop() == pytest.approx(expected * 0.5**cuts)
        cuts += row["decision"] == "cut"
    assert "jump +100.0%" in state.reason
    # It stays ended.
    saved = read_checkpoint(tmp_path / "run" / LAST_FILE)
    again = _trainer(_settings(age_list, *RULE), faces, tmp_path / "run", resume=saved)
    assert again.run().step == state.step


def test_calm_epochs_on_a_plateau_end_stable(
    age_list: Path, faces: dict[str, TrainingFaces], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_losses(monkeypatch, 1.01, 1.0)
    state = _trainer(_settings(age_list, *RULE), faces, None).run()
    assert (state.decision, state.rate) == ("stable", 1.0)
    assert len(state.history) == 3  # the first is the best, two do not better it


def test_a_batch_larger_than_the_training_set_goes_round(
    age_list: Path, faces: dict[str, TrainingFaces]
) -> None:
    trainer = _trainer(_settings(age_list, "batch=60", "epochs=2"), faces, None)
    assert (trainer.steps_per_pass, trainer.run().step) == (1, 2)


@pytest.mark.parametrize("loss", ["ce", "dldl", "mean-variance", "coral", "regression"])
def test_age_ranges_and_exact_ages_train_together(age_list: Path, loss: str) -> None:
    root = (age_list / "ranges.csv").as_posix()
    settings = _settings(age_list, *CALM, f"data.root={root}", f"loss.name={loss}", "epochs=4")
    pictures = TrainingPictures.of(settings, lambda *_step: None)
    faces = {part: pictures.gather(part) for part in ("train", "val")}
    ranged = faces["train"].lows < faces["train"].highs
    assert 0 < ranged.sum() < len(ranged)
    trainer = _trainer(settings, faces, None)
    losses: list[float] = []

    class Look(Silent):
        def step(self, report: StepReport) -> None:
            losses.append(report.loss)

    trainer._watcher = Look()
    trainer.run()
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_a_share_of_views_missing_trains(age_list: Path, faces: dict[str, TrainingFaces]) -> None:
    train = _without_mouths(faces["train"], np.arange(24) % 3 == 0)
    trainer = _trainer(_settings(age_list, "epochs=1"), {**faces, "train": train}, None)
    assert math.isfinite(trainer.run().best_mae)
    none = _without_mouths(faces["train"], np.ones(24, np.bool_))
    trainer = _trainer(_settings(age_list, "epochs=1"), {**faces, "train": none}, None)
    assert math.isfinite(trainer.run().best_mae)


def test_pictures_are_mixed_with_those_that_lack_the_same_views(
    age_list: Path, faces: dict[str, TrainingFaces]
) -> None:
    train = _without_mouths(faces["train"], np.arange(24) % 2 == 0)
    settings = _settings(age_list, *CALM, "optim.mixup=1.0")
    trainer = _trainer(settings, {**faces, "train": train}, None)
    views = trainer._batches.views(trainer._batches.gather(0, np.arange(8), slice(None)))
    assert mixed(views, 0.0, (0, 0, 0)) is views
    both = mixed(views, 1.0, (0, 0, 0))
    other, share = both.targets.other, both.targets.mixup_lambda
    assert other is not None
    assert share is not None
    assert (share >= 0.5).all()
    whose = [views.targets.ages.tolist().index(age) for age in other.ages.tolist()]
    for row, partner in enumerate(whose):
        for name, pixels in views.pixels.items():
            assert views.present[name][row] == views.present[name][partner]
            expected = share[row] * pixels[row] + (1 - share[row]) * pixels[partner]
            assert torch.allclose(both.pixels[name][row], expected, atol=1e-3)
    assert whose != list(range(8))
    assert not all(views.present["mouth"][partner] for partner in whose)


def _without_mouths(faces: TrainingFaces, rows: Any) -> TrainingFaces:
    present = faces.transforms["mouth"].present.copy()
    present[rows] = False
    transforms = {**faces.transforms, "mouth": replace(faces.transforms["mouth"], present=present)}
    return replace(faces, transforms=transforms, present={**faces.present, "mouth": present[:, 0]})


def _damaged(saved: Checkpoint, **state: Any) -> Checkpoint:
    return replace(saved, state={**saved.state, **state})


@pytest.fixture(scope="module")
def ended(age_list: Path, faces: dict[str, TrainingFaces]) -> Checkpoint:
    trainer = _trainer(_settings(age_list, "epochs=1"), faces, None)
    trainer.run()
    return trainer.checkpoint()


@pytest.mark.parametrize(
    "state",
    [
        {"step": 1},
        {"step": 900},
        {"step": "x"},
        {"losses": [0.1] * 9},
        {"losses": 5},
        {"rate": None},
        {"history": 3},
        {"history": [{}]},
        {"best_mae": "low"},
    ],
)
def test_a_state_that_contradicts_itself_is_refused(
    age_list: Path, faces: dict[str, TrainingFaces], ended: Checkpoint, state: dict[str, Any]
) -> None:
    settings = _settings(age_list, "epochs=1")
    with pytest.raises(AgebenchError):
        _trainer(settings, faces, None, resume=_damaged(ended, **state))


def test_a_checkpoint_of_another_network_is_refused(
    age_list: Path, faces: dict[str, TrainingFaces]
) -> None:
    saved = _trainer(_settings(age_list, "model.dense=8"), faces, None).checkpoint()
    with pytest.raises(WeightsError, match=r"'head\.weight' has shape"):
        _trainer(_settings(age_list), faces, None, resume=saved)
    own = _trainer(_settings(age_list), faces, None).checkpoint()
    wrong = {"exp_avg/head.weight": torch.zeros(1, 2)}
    with pytest.raises(WeightsError, match="optimiser"):
        _trainer(_settings(age_list), faces, None, resume=replace(own, optimiser=wrong))
    with pytest.raises(WeightsError, match="averaged"):
        _trainer(_settings(age_list), faces, None, resume=replace(own, averaged={}))


def test_the_state_goes_through_json() -> None:
    state = RunState(9, 4, rate=0.1, before=[1 / 3], losses=[0.7], best_mae=4.2, decision="cut")
    assert RunState.from_json(state.to_json()) == state
    assert RunState.from_json(RunState().to_json()) == RunState()


def test_what_does_not_decay(age_list: Path) -> None:
    model = MultiCropResNet(_settings(age_list).model)
    decaying, others = make_optimiser(model, OptimSettings()).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    of_others = {id(value) for value in others["params"]}
    for name, value in model.named_parameters():
        norm = value.ndim == 1
        assert (id(value) in of_others) == norm, name
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_steps_are_those_of_the_formulas(kind: Any) -> None:
    """Loshchilov & Hutter 2017 (AdamW), Sutskever et al. 2013 (Nesterov's momentum)."""
    layer, rng = torch.nn.Linear(3, 2).double(), np.random.default_rng(0)
    settings = OptimSettings(optimiser=kind, learning_rate=0.1, weight_decay=0.5)
    optimiser = make_optimiser(layer, settings)
    for value, decay in ((layer.weight, 0.5), (layer.bias, 0.0)):
        expected, first, second = value.detach().numpy().copy(), 0.0, 0.0
        for step in range(1, 4):
            gradient = rng.normal(size=expected.shape)
            value.grad = torch.from_numpy(gradient)
            optimiser.step()
            value.grad = None
            if kind == "sgd":
                gradient = gradient + decay * expected
                first = 0.9 * first + gradient
                expected -= 0.1 * (gradient + 0.9 * first)
            else:
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
                expected -= 0.1 * (decay * expected + mean / (np.sqrt(square) + 1e-8))
            np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-9)


def test_an_optimisers_state_lies_in_memory_as_the_weights_do(age_list: Path) -> None:
    model = MultiCropResNet(_settings(age_list).model)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in the loop
    optimiser = make_optimiser(model, OptimSettings())
    saved = {f"exp_avg/{name}": torch.rand(value.shape) for name, value in model.named_parameters()}
    OptimiserState(saved).restore(model, optimiser)
    for name, value in model.named_parameters():
        kept = optimiser.state[value]["exp_avg"]
        assert torch.equal(kept, saved[f"exp_avg/{name}"])
        assert kept.stride() == value.stride()
        assert not kept.requires_grad


def test_stages_leave_alone_what_they_do_not_train(
    age_list: Path, faces: dict[str, TrainingFaces]
) -> None:
    settings = _settings(age_list, "optim.staged=0.34")
    trainer = _trainer(settings, faces, None)
    seen: list[tuple[str, dict[str, Any]]] = []

    def weights() -> dict[str, Any]:
        return {name: value.clone() for name, value in trainer.model.state_dict().items()}

    class Look(Silent):
        def step(self, report: StepReport) -> None:
            seen.append((stage_of(report.step, report.total, settings.optim), weights()))

    trainer._watcher = Look()
    before = weights()
    trainer.run()
    assert {stage for stage, _ in seen} == {"backbones", "dense", "all"}
    for stage, after in seen:
        moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
        assert ("backbones" in moved) == (stage != "dense"), stage
        assert ({"joint", "head"} <= moved) == (stage != "backbones"), stage
        assert bool({"joint", "head"} & moved) == (stage != "backbones"), stage
        before = after


def test_rates_scales_and_stages_over_the_steps() -> None:
    settings = OptimSettings(warmup=0.1, staged=0.4, small_fraction=0.5, small_scale=0.75)
    factors = [rate_factor(step, 100, settings) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[9] == pytest.approx(10 / 11)
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5, abs=1e-3)
    assert factors[100] == pytest.approx(1e-3)
    assert all(after < before for before, after in itertools.pairwise(factors[10:]))
    constant = replace(settings, schedule="constant")
    assert {rate_factor(step, 100, constant) for step in range(10, 100)} == {1.0}
    stages = [stage_of(step, 100, settings) for step in range(100)]
    assert [stages.count(stage) for stage in ("backbones", "dense", "all")] == [40, 30, 30]
    assert {stage_of(step, 100, OptimSettings()) for step in range(100)} == {"all"}
    scales = [crop_scale(step, 100, settings) for step in range(100)]
    assert scales == [0.75] * 50 + [1.0] * 50


CHILD = """
import os
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from agebench.train.loop import Trainer
from agebench.trainer.pictures import TrainingPictures
from agebench.train.settings import read_settings
from agebench.train.distributed import DistributedContext, leave_processes

rank, size, out, file, *overrides = sys.argv[1:]
rank, size = int(rank), int(size)
torch.set_num_threads(1)
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{out}.meeting", rank=rank, world_size=size)
settings = read_settings(Path(file), overrides)
pictures = TrainingPictures.of(settings, lambda *step: None)
train, val = pictures.gather("train"), pictures.gather("val")
# A third has no mouth, and not as many in each process's shard.
present = train.transforms["mouth"].present.copy()
present[np.arange(24) % 3 == 0] = False
transforms = {**train.transforms, "mouth": replace(train.transforms["mouth"], present=present)}
train = replace(train, transforms=transforms)
trainer = Trainer(settings, train, val, None, DistributedContext(rank, size, torch.device("cpu")))
losses = []
own = trainer._step
def step(*given):
    losses.append(own(*given))
    return losses[-1]
trainer._step = step
state = trainer.run()
if rank == 0:
    maes = [record.val_mae for record in state.history]
    np.savez(out, losses=losses, maes=maes)
if size > 1:
    dist.barrier()  # as joined_processes has it: who leaves first cuts the others' connection
    del trainer, own, step, state
    leave_processes()
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.is_dir() else []
    assert not [name for name in names if "gloo" in name], names
"""

TOLERANCE = 1e-5
"""Relative, over six steps: sums in another order differ in their last digits (seen: 2e-7)."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [(), ("model.fusion=early", "optim.optimiser=sgd"), ("optim.staged=0.4",)]
)
def test_two_processes_train_as_one_does(
    age_list: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    file = str(age_list / "settings.toml")
    more = ("epochs=2", "optim.learning_rate=1e-3", *overrides)
    children = [
        ForkedPython("-c", CHILD, str(rank), str(size), str(tmp_path / out), file, *more)
        for rank, size, out in ((0, 1, "one.npz"), (0, 2, "two.npz"), (1, 2, "two.npz"))
    ]
    try:
        assert [child.wait() for child in children] == [0, 0, 0]
    finally:
        for child in children:
            child.kill()
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert len(one["losses"]) == 6
    assert two["losses"] == pytest.approx(one["losses"], rel=TOLERANCE)
    assert two["maes"] == pytest.approx(one["maes"], rel=TOLERANCE)
