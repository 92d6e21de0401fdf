"""From settings to a trained network: reads the pictures, trains, and evaluates the result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agebench.datasets.base import sample
from agebench.duplicates.training_hashes import RUN_HASHES, TrainingHashes
from agebench.errors import (
    AgebenchError,
    MissingDependencyError,
    WeightsError,
)
from agebench.metrics.error_summary import summarise
from agebench.metrics.label_accuracy import distance_to_range, range_hit
from agebench.metrics.number_format import counted
from agebench.protocols import ProgressStep, no_progress
from agebench.references import user_path
from agebench.registry.plugins import load_dataset, load_detector
from agebench.train.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_fit,
    shared_settings,
)
from agebench.train.distributed import DistributedContext, joined_processes
from agebench.train.evaluate import predicted_years, using_weights
from agebench.train.face_cache import TrainingFaces, gather_faces
from agebench.train.logs import EPOCHS_FILE, STEPS_FILE, Silent, Watcher, tensorboard_writer
from agebench.train.loop import BEST_FILE, Trainer
from agebench.train.losses import LOSSES
from agebench.train.networks import build_network
from agebench.train.settings import TrainSettings
from agebench.trainer.curves import draw_curves
from agebench.trainer.footprint import check_footprint, duration
from agebench.trainer.pictures import TrainingPictures, require_faces, require_separate
from agebench.trainer.preview import each_alone, preview
from agebench.trainer.run_folder import (
    CURVES_FILE,
    EVALUATION_FILE,
    Start,
    alone_in_run,
    best_is_unusable,
    check_contents,
    check_labels,
    check_pictures,
    checkpoint_to_resume,
    evaluation_of,
    read_start,
    require_apart,
    require_free,
    start_remark,
    write_left_out,
)
from agebench.trainer.teacher import (
    TeacherAnswers,
    about_answers,
    read_teacher,
    with_answers,
)
from agebench.types import Floats, plain
from agebench.util.files import gone_if_empty, refuse_input, write_whole
from agebench.vision.images import encode_png


def train(
    settings: TrainSettings,
    folder: Path,
    *,
    watcher: Watcher | None = None,
    progress: ProgressStep = no_progress,
    notify: Callable[[str], None] = lambda _line: None,
    final_test: bool = False,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train, or resume the run in `folder`, and evaluate the best weights.

    Args:
        settings: of the run.
        folder: for checkpoints, logs and the evaluation; created if necessary.
        watcher: called after every step and epoch.
        progress: called while pictures are read.
        notify: called with one line about pictures left out, about resuming, and so on.
        final_test: also evaluate on the test part; this is recorded permanently.
        tensorboard: also write TensorBoard's event files.

    Returns:
        The content of `EVALUATION_FILE`.

    Raises:
        UsageError: the folder contains a run with other settings.
        MissingDependencyError: `tensorboard` is true and TensorBoard is not installed.
        AgebenchError: the data can't be read, the loss diverged, another run uses the folder, the
            disk or the memory is full, or a step needs more memory than there is.
    """
    if tensorboard:
        tensorboard_writer()  # fails now, not after all pictures were read
    with joined_processes(settings.device) as context:
        rows = context.shard(settings.batch)  # fails before pictures are read
        footprint = check_footprint(settings, rows.stop - rows.start, context.device)
        if footprint and context.leads:
            notify(footprint)
        with (
            gone_if_empty(folder) if context.leads else contextlib.nullcontext(),
            alone_in_run(folder) if context.leads else contextlib.nullcontext(),
            enough_memory("reduce batch, the sizes of views or data.longest_px"),
        ):
            run = _Run(settings, folder, context, progress, notify)
            return run.trained(watcher or Silent(), final_test=final_test, tensorboard=tensorboard)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A run, as seen by one of its processes."""

    settings: TrainSettings
    folder: Path
    context: DistributedContext
    progress: ProgressStep
    notify: Callable[[str], None]

    def trained(self, watcher: Watcher, *, final_test: bool, tensorboard: bool) -> dict[str, Any]:
        """Train and evaluate; {} where this process does not lead."""
        settings, folder, context = self.settings, self.folder, self.context
        resume = checkpoint_to_resume(folder, settings)
        if resume is None and context.leads:
            require_free(folder, *settings.data.roots, start=settings.start)
        earlier = {} if resume is None else evaluation_of(folder)
        start = self._start(resume)
        teacher = read_teacher(settings)
        pictures = TrainingPictures.of(settings, self.progress)
        if resume is None and context.leads:
            require_apart(folder, pictures.dataset)
        require_separate(pictures.split, settings.data, final_test=final_test)
        faces = self._faces(pictures, teacher)
        about = {**pictures.about(faces), **about_answers(faces["train"], teacher)}
        if resume is not None:
            check_pictures(about, resume)
            if self._has_picture_list:
                check_contents(folder, faces["train"].hashes)
            check_labels(about, resume)
            # The record of the initial weights is kept even if `start` is omitted on resuming.
            settings = replace(settings, start=resume.settings.start or settings.start)
        self._record_start(about, faces["val"], start, resume)
        trainer = Trainer(
            settings,
            faces["train"],
            faces["val"],
            folder,
            context,
            about=about,
            watcher=watcher,
            resume=resume,
            start=None if start is None else start.weights,
            tensorboard=tensorboard,
        )
        if context.leads:
            if resume is None or not self._has_picture_list:
                self._list_pictures(pictures, faces["train"], start)
            self._report_start(trainer, write_left_out(folder, pictures.left_out(faces)))
            self._warn_of_chips(pictures)
        state = trainer.run()
        if not context.leads:
            return {}
        parts = {"val": faces["val"]}
        if final_test:
            parts["test"] = pictures.gather(settings.data.test_part)
            write_left_out(folder, pictures.left_out({**faces, "test": parts["test"]}))
        result = {
            **about,
            "settings": shared_settings(settings),
            "ended": {"decision": state.decision, "reason": state.reason, "steps": state.step},
            "seconds": round(state.seconds, 1),
            "final_test": final_test,
            "figures": evaluate_best(folder, parts, context),
        }
        _keep_test(result, earlier)
        write_whole(folder / EVALUATION_FILE, json.dumps(result, indent=1, allow_nan=False) + "\n")
        self._draw_curves()
        return result

    def _faces(
        self, pictures: TrainingPictures, teacher: TeacherAnswers | None
    ) -> dict[str, TrainingFaces]:
        data = self.settings.data
        train = pictures.with_extra(pictures.gather(data.train_part, data.train_fraction))
        if teacher is not None:
            train = with_answers(train, teacher)
        return {"train": train, "val": pictures.gather(data.val_part)}

    def _list_pictures(
        self, pictures: TrainingPictures, train: TrainingFaces, start: Start | None
    ) -> None:
        """Write the hashes of all pictures that the run and the initial weights were trained on."""
        data = self.settings.data
        what = f"{pictures.dataset.spec.name}/{pictures.split.protocol}/{data.train_part}"
        seen = TrainingHashes.of(" + ".join([what, *data.extra]), train.hashes)
        (seen if start is None else start.union(seen)).write(self.folder / RUN_HASHES)

    def _draw_curves(self) -> None:
        """Draw the run's curves if matplotlib is installed."""
        folder, threshold = self.folder, self.settings.stability.threshold
        tables = (folder / STEPS_FILE, folder / EPOCHS_FILE)
        try:
            draw_curves(*tables, folder / CURVES_FILE, threshold=threshold)
        except MissingDependencyError as error:
            self.notify(f"{CURVES_FILE} is left out: {error}")

    def _start(self, resume: Checkpoint | None) -> Start | None:
        """Return the initial weights, if any, checked before any picture is read."""
        if not self.settings.start:
            return None
        if resume is not None and "started_from" not in resume.about and self.context.leads:
            self.notify(f"start={self.settings.start} is ignored: the run was started without it")
        if resume is not None and self._has_picture_list:
            return None
        start = read_start(user_path(self.settings.start))
        with torch.device("meta"):
            head = LOSSES[self.settings.loss.name].head
            expected = build_network(self.settings.model, head).state_dict()
        require_fit(expected, start.weights, "averaged weights")
        return start

    def _record_start(
        self,
        about: dict[str, Any],
        val: TrainingFaces,
        start: Start | None,
        resume: Checkpoint | None,
    ) -> None:
        """Store facts about the initial weights in `about`."""
        if resume is not None and "started_from" in resume.about:
            about["started_from"] = resume.about["started_from"]
        if start is not None and resume is None:
            about["started_from"] = start.about(val.hashes)
            if self.context.leads:
                self.notify(start_remark(about["started_from"]))

    @property
    def _has_picture_list(self) -> bool:
        return (self.folder / RUN_HASHES).is_file()

    def _report_start(self, trainer: Trainer, left_out: str) -> None:
        state, rows = trainer.state, self.context.shard(self.settings.batch)
        if left_out:
            self.notify(left_out)
        if state.step:
            done = counted(len(state.history), "epoch")
            self.notify(f"resuming from step {state.step}, after {done}")
        steps = trainer.total - state.step
        message = duration(trainer.settings, rows.stop - rows.start, steps, self.context.device)
        if message:
            self.notify(message)

    def _warn_of_chips(self, pictures: TrainingPictures) -> None:
        """Warn if pictures are treated as aligned chips and the data set does not say they are."""
        detector, dataset = pictures.detector.spec, pictures.dataset.spec
        if detector.layout and not dataset.aligned:
            self.notify(
                f"data.detector is {detector.name!r}: each picture of {dataset.name} is treated as "
                "one face cropped like an aligned chip; for photographs name a detector"
            )


def _keep_test(result: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Keep the record of an earlier evaluation on the test part, even without `final_test`."""
    if result["final_test"] or earlier.get("final_test") is not True:
        return
    result["final_test"] = True
    figures = earlier.get("figures")
    if earlier.get("ended") == result["ended"] and isinstance(figures, dict) and "test" in figures:
        result["figures"]["test"] = figures["test"]


@contextlib.contextmanager
def enough_memory(what_to_do: str) -> Iterator[None]:
    """Replace the errors that numpy and torch raise when memory runs out.

    Raises:
        AgebenchError: memory ran out within the context.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On processors torch raises a plain RuntimeError.
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        ):
            raise
        raise AgebenchError(f"there is not enough memory: {what_to_do}") from error


def evaluate_best(
    folder: Path, parts: Mapping[str, TrainingFaces], context: DistributedContext
) -> dict[str, dict[str, Any]]:
    """Return the harness's figures of the best checkpoint's averaged weights, per part."""
    try:
        saved = read_checkpoint(folder / BEST_FILE)
    except WeightsError as error:
        raise best_is_unusable(error) from error
    spec = LOSSES[saved.settings.loss.name]
    model = build_network(saved.settings.model, spec.head).to(context.device)
    require_fit(model.state_dict(), saved.averaged, "averaged weights")
    with using_weights(model, dict(saved.averaged)):
        return {
            name: _figures(faces, predicted_years(model, faces, spec, saved.settings))
            for name, faces in parts.items()
        }


def _figures(faces: TrainingFaces, years: Floats) -> dict[str, Any]:
    """Return the figures for exact ages and for age ranges."""
    exact = faces.lows == faces.highs
    figures: dict[str, Any] = {"n": 0, "mae_years": None}
    if exact.any():
        figures = plain(summarise(faces.ages[exact], years[exact]))
    if not exact.all():
        bounds = np.stack([faces.lows, faces.highs], axis=1)[~exact]
        figures["ranges"] = {
            "n": len(bounds),
            "inside": float(range_hit(bounds, years[~exact]).mean()),
            "distance_years": float(distance_to_range(bounds, years[~exact]).mean()),
        }
    return figures


def draw_preview(
    settings: TrainSettings,
    out: Path,
    *,
    dataset: tuple[str, Path | str | None],
    detector: str,
    pictures: int,
    draws: int,
    seed: int,
) -> tuple[int, int]:
    """Draw the effect of the settings' augmentation, and write it as a PNG.

    Args:
        settings: views, size of cached faces, and augmentation.
        out: the file.
        dataset: name, and its folder or file.
        detector: finds the faces.
        pictures: number of columns, sampled with the seed.
        draws: number of rows; 0 draws one row for each single augmentation.
        seed: of all random numbers.

    Returns:
        Height and width of the sheet, pixels.

    Raises:
        UsageError: a name is unknown, or `out` is one of the pictures.
        DatasetError: no picture can be used.
    """
    listed = load_dataset(*dataset)
    refuse_input(out, [item.path for item in listed.samples])
    chosen = sample(listed, min(pictures, len(listed.samples)), seed)
    crop = settings.model.crop
    longest_px = settings.data.longest_px
    faces = gather_faces(chosen, load_detector(detector), crop, longest_px=longest_px)
    require_faces(faces, repr(dataset[0]))
    rows = [(f"draw {number + 1}", settings.augment) for number in range(draws)]
    sheet = preview(faces, crop, rows or each_alone(settings.augment), seed)
    write_whole(out, encode_png(sheet))
    return sheet.shape[0], sheet.shape[1]
