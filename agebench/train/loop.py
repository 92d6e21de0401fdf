"""The training loop: epochs of bootstrap samples until the stability rule ends training."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from agebench.errors import WeightsError
from agebench.train.batches import Batches, HostBatch, ViewBatch, mixed, prefetched
from agebench.train.bootstrap import BalancedBootstrap
from agebench.train.checkpoint import Checkpoint, RunState, require_fit
from agebench.train.distributed import DistributedContext
from agebench.train.evaluate import using_weights, validation_mae
from agebench.train.face_cache import TrainingFaces
from agebench.train.logs import RunLog, Silent, StepReport, Watcher
from agebench.train.losses import LOSSES, Targets
from agebench.train.networks import AgeNetwork, MultiCropResNet, Outputs, build_network, drop_views
from agebench.train.optimiser import (
    AveragedWeights,
    OptimiserState,
    Stage,
    crop_scale,
    make_optimiser,
    rate_factor,
    stage_of,
)
from agebench.train.settings import TrainSettings
from agebench.train.stability import DIVERGED, Decision, DivergedError, EpochRecord, extended

LAST_FILE = "last.safetensors"
BEST_FILE = "best.safetensors"


class Trainer:
    """One run, from its settings to its last checkpoint.

    Args:
        settings: of the run.
        train: pictures to learn from.
        val: pictures that decide when to stop and which weights are best.
        folder: for checkpoints and logs; None writes nothing.
        context: the processes that train together.
        about: facts about the data and the machine, stored in checkpoints.
        watcher: called after every step and epoch.
        resume: a checkpoint to resume from.
        start: initial weights, unless the run is resumed.
        tensorboard: also write TensorBoard's event files.
    """

    def __init__(  # noqa: PLR0913 - all parts of a run
        self,
        settings: TrainSettings,
        train: TrainingFaces,
        val: TrainingFaces,
        folder: Path | None,
        context: DistributedContext,
        *,
        about: Mapping[str, Any] | None = None,
        watcher: Watcher | None = None,
        resume: Checkpoint | None = None,
        start: Mapping[str, Tensor] | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.settings = settings
        self._val, self._folder, self._context = val, folder, context
        self._about, self._watcher = dict(about or {}), watcher or Silent()
        self._spec = LOSSES[settings.loss.name]
        self._bootstrap = BalancedBootstrap(
            np.stack([train.lows, train.highs], axis=1), settings.bootstrap
        )
        self.steps_per_pass = max(1, self._bootstrap.size // settings.batch)
        per_epoch = self.steps_per_pass * settings.passes
        self.total = per_epoch * settings.epochs
        self.state = RunState(plan=self.total)
        torch.manual_seed(settings.seed)
        model = build_network(settings.model, self._spec.head)
        self.model: AgeNetwork = model.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs know no memory_format here
        self._years = torch.arange(
            settings.model.youngest, settings.model.oldest + 1, device=context.device
        ).float()
        self._optimiser = make_optimiser(self.model, settings.optim)
        if resume is not None:
            self._restore(resume)
        elif start is not None:
            require_fit(self.model.state_dict(), start, "averaged weights")
            self.model.load_state_dict(dict(start))
        self._ema = AveragedWeights(self.model, settings.optim.ema)
        if resume is not None:
            require_fit(self._ema.state, resume.averaged, "averaged weights")
            for name, value in resume.averaged.items():
                self._ema.state[name].copy_(value)
        self._net = self._distributed()
        self._batches = Batches(
            train, settings.model.crop, settings.augment, settings.seed, context.device
        )
        self._log = None
        if folder is not None and context.leads:
            done = len(self.state.history)
            self._log = RunLog(folder, self.state.step, done, tensorboard=tensorboard)
        self._saved = time.monotonic()

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, which are those that are validated."""
        return self._ema.state

    def run(self) -> RunState:
        """Train until the stability rule or the planned epochs end it.

        Raises:
            DivergedError: the loss is not finite; the last checkpoint is intact.
            AgebenchError: a checkpoint can't be written.
        """
        while not self.state.ended and len(self.state.history) < self.settings.epochs:
            self._epoch(len(self.state.history))
        if not self.state.ended:
            epochs = self.settings.epochs
            self.state.reason = (
                "the one planned epoch is done"
                if epochs == 1
                else f"the {epochs} planned epochs are done"
            )
        return self.state

    def _epoch(self, number: int) -> None:
        started, state = time.monotonic(), self.state
        first = number * self.steps_per_pass * self.settings.passes
        drawn = self._bootstrap.draw(number)
        for batch in prefetched(self._gather(drawn, first), self._steps_left(first)):
            loss = self._step(batch, number)
            state.losses.append(loss)
            self._maybe_save()
        self._end_epoch(number, first, drawn, time.monotonic() - started)

    def _steps_left(self, first: int) -> range:
        last = first + self.steps_per_pass * self.settings.passes
        return range(self.state.step, last)

    def _gather(self, drawn: npt.NDArray[np.intp], first: int) -> Any:
        batch, shard = self.settings.batch, self._context.shard(self.settings.batch)

        def gather(step: int) -> HostBatch:
            at = ((step - first) % self.steps_per_pass) * batch
            # A training set smaller than a batch wraps around.
            rows = np.take(drawn, np.arange(at, at + batch), mode="wrap")
            return self._batches.gather(step, rows, shard)

        return gather

    def _step(self, gathered: HostBatch, number: int) -> float:
        settings, state, began = self.settings, self.state, time.monotonic()
        step, optim = state.step, self.settings.optim
        rate = optim.learning_rate * state.rate * rate_factor(step, state.plan, optim)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        shard = self._context.shard(settings.batch)
        rng = self.model.rng
        rng.begin(settings.seed, step, settings.batch, shard.start, shard.stop)
        views = self._batches.views(gathered, crop_scale(step, state.plan, optim))
        views = mixed(views, optim.mixup, (settings.seed, step, self._context.rank))
        value = self.learn(views, stage_of(step, state.plan, optim))
        self._ema.update(self.model, step)
        state.step += 1
        state.seconds += time.monotonic() - began
        self._report_step(step, number, value, rate)
        return value

    def learn(self, views: ViewBatch, stage: Stage = "all") -> float:
        """Make one step on a batch at the optimiser's current learning rate.

        Returns:
            The loss before it, the mean over all processes.

        Raises:
            DivergedError: the loss or the gradient is not finite; the weights are unchanged.
        """
        self._train_mode(stage)
        loss = self._loss(views, stage)
        value = self._context.mean(loss.detach().clone())
        if not math.isfinite(value):
            raise _diverged("loss", value, self.state)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # not typed
        longest = self.settings.optim.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), longest)
        if not math.isfinite(norm):
            raise _diverged("norm of the gradient", float(norm), self.state)
        self._optimiser.step()
        return value

    def _train_mode(self, stage: Stage) -> None:
        """Set training mode and freeze the layers that a stage does not train, without decay."""
        model = self.model
        model.train()
        if not self.settings.optim.staged or not isinstance(model, MultiCropResNet):
            return
        model.backbones.requires_grad_(stage != "dense")
        for layer in (model.joint, model.head):
            layer.requires_grad_(stage != "backbones")
        if stage == "dense":
            model.backbones.eval()

    def _loss(self, views: ViewBatch, stage: Stage) -> Tensor:
        settings, device = self.settings, self._context.device
        present = drop_views(views.present, settings.model.view_dropout, self.model.rng)
        pixels = {
            name: values.contiguous(memory_format=torch.channels_last)
            for name, values in views.pixels.items()
        }
        half = settings.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            outputs: Outputs = self._net(pixels, present)
        final = self._per_picture(outputs.final, views.targets).mean()
        own = [
            self._masked_mean(self._per_picture(values, views.targets), views.present[name])
            for name, values in outputs.auxiliary.items()
        ]
        if not own:
            return final
        mean = torch.stack(own).mean()
        if stage == "backbones":
            return mean
        return final + settings.optim.auxiliary_weight * mean

    def _masked_mean(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return the mean over the pictures that have the view; 0 if none has.

        It is divided by their number in the whole batch, so that the mean of all processes' results
        is the mean over the batch.
        """
        weight = present[:, 0]
        count = self._context.average(weight.sum())
        return (losses * weight).sum() / count.clamp_min(1 / self._context.size)

    def _per_picture(self, outputs: Tensor, targets: Targets) -> Tensor:
        settings = self.settings
        return self._spec.per_sample(
            outputs.float(), targets, self._years, settings.loss, settings.teacher.weight
        )

    def _report_step(self, step: int, number: int, loss: float, rate: float) -> None:
        if not self._context.leads:
            return
        left = (self.total - step - 1) * self.state.seconds / max(1, step + 1)
        if self._log is not None:
            values = {"step": step, "epoch": number, "loss": loss, "learning_rate": rate}
            self._log.step(values)
        self._watcher.step(StepReport(step, self.total, number, loss, rate, left))

    def _end_epoch(
        self, number: int, first: int, drawn: npt.NDArray[np.intp], seconds: float
    ) -> None:
        state, settings = self.state, self.settings
        with using_weights(self.model, self._ema.state):
            val = validation_mae(self.model, self._val, self._spec, settings)
        # All processes must make the same decision in spite of rounding differences.
        val = self._context.mean(
            torch.tensor(val, dtype=torch.float64, device=self._context.device)
        )
        record = EpochRecord.measured(
            number, (first, state.step), state.before, state.losses, val, settings.stability
        )
        state.history, decision = extended(state.history, record, settings.stability)
        if decision.kind == "cut":
            state.rate *= settings.stability.cut_factor
        state.decision, state.reason = decision.kind, decision.reason
        train_loss = float(np.mean(state.losses))
        state.before = state.losses[-settings.stability.window :]
        state.losses = []
        if not self._context.leads:
            state.best_mae = min(state.best_mae, val)
            return
        if val < state.best_mae:
            state.best_mae = val
            self._save(BEST_FILE)
        # The log comes before the checkpoint: a resumed run drops lines of epochs that it trains
        # again, but a line that is missing would never be added.
        self._log_epoch(record, decision, train_loss, drawn, seconds)
        self._save(LAST_FILE)
        self._watcher.epoch(record, decision, seconds)

    def _log_epoch(
        self,
        record: EpochRecord,
        decision: Decision,
        train_loss: float,
        drawn: npt.NDArray[np.intp],
        seconds: float,
    ) -> None:
        if self._log is None:
            return
        counts = self._bootstrap.summary(drawn).counts
        self._log.epoch(
            {
                "epoch": record.epoch,
                "step": record.step_end,
                "train_loss": train_loss,
                "jump": record.jump,
                "val_mae": record.val_mae,
                "learning_rate": self._optimiser.param_groups[0]["lr"],
                "seconds": round(seconds, 1),
                "decision": decision.kind,
                "reason": decision.reason,
                "drawn": json.dumps(dict(counts)),
            }
        )

    def _maybe_save(self) -> None:
        minutes = (time.monotonic() - self._saved) / 60
        if self._context.leads and minutes > self.settings.checkpoint_minutes:
            self._save(LAST_FILE)

    def checkpoint(self) -> Checkpoint:
        """Return everything that is needed to resume."""
        return Checkpoint(
            self.settings,
            self.state.to_json(),
            self._about,
            dict(self.model.state_dict()),
            dict(self._ema.state),
            OptimiserState.of(self.model, self._optimiser).tensors,
        )

    def _save(self, name: str) -> None:
        self._saved = time.monotonic()
        if self._folder is None:
            return
        if self._log is not None:
            self._log.flush()
        self.checkpoint().write(self._folder / name)

    def _restore(self, saved: Checkpoint) -> None:
        require_fit(self.model.state_dict(), saved.model, "weights")
        self.model.load_state_dict(dict(saved.model))
        OptimiserState(saved.optimiser).restore(self.model, self._optimiser)
        self.state = state = RunState.from_json(saved.state)
        per_epoch = self.steps_per_pass * self.settings.passes
        state.plan = state.plan or per_epoch * saved.settings.epochs
        first = len(state.history) * per_epoch
        if not (
            first <= state.step <= first + per_epoch and len(state.losses) == state.step - first
        ):
            raise WeightsError(
                f"the checkpoint can't be resumed from: it is at step {state.step}, after "
                f"{len(state.history)} epochs of {per_epoch} steps and {len(state.losses)} more"
            )

    def _distributed(self) -> nn.Module:
        if self._context.size == 1:
            return self.model
        ids = [self._context.device.index] if self._context.device.type == "cuda" else None
        with warnings.catch_warnings():
            # broadcast_buffers is deprecated, but its replacement is missing in older versions
            # that we support.
            warnings.simplefilter("ignore", FutureWarning)
            # BatchNorm already uses statistics of all processes; stages leave weights unused.
            network: nn.Module = DistributedDataParallel(
                self.model,
                device_ids=ids,
                broadcast_buffers=False,
                find_unused_parameters=self.settings.optim.staged > 0,
            )
        return network


def _diverged(what: str, value: float, state: RunState) -> DivergedError:
    return DivergedError(
        f"the {what} is {value} at step {state.step} of epoch {len(state.history)}: {DIVERGED}"
    )
