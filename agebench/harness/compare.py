"""`compare`: real photographs, one detector, several estimators; years and milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agebench.estimators.answers import AnswersFile
from agebench.harness.accuracy import PassSettings
from agebench.harness.analysis import analyse
from agebench.harness.contamination import contamination_of
from agebench.harness.environment import describe_call
from agebench.harness.gathering import Gathered, Pass, gather, identity_of
from agebench.harness.kept_detections import KeptDetections, kept_json
from agebench.harness.known_pictures import Known, known_pictures
from agebench.harness.loading import (
    Contender,
    check_names,
    load_contenders,
    load_pictures,
    reads_back_its_runtime,
)
from agebench.harness.near_copies import NearCopyWatch
from agebench.harness.outside_answers import choose_unseen, given_times, joined, timed_here
from agebench.harness.part_scores import part_scores
from agebench.harness.reading import measured
from agebench.harness.results import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    CompareResult,
    EstimatorResult,
    PictureCounts,
    output_folder,
)
from agebench.harness.scores import common_subset, score_estimator
from agebench.harness.selection import describe_selection, refuse_lists, take_pictures
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, Estimator, FaceDetector, ProgressStep, no_progress
from agebench.references import parse_reference, user_path
from agebench.registry.defaults import choose_detector
from agebench.registry.plugins import named_detector
from agebench.runtimes.threads import pinned
from agebench.timing.latency import StageTimes, choose_pictures, run_latency
from agebench.timing.pairs import compare_times
from agebench.types import plain
from agebench.util.arrays import Bools
from agebench.util.files import refuse_input
from agebench.util.private_paths import without_folders
from agebench.vision.variants import parse_variant


def compare(
    estimators: Sequence[str | Estimator | Contender],
    dataset: str | Dataset,
    *,
    root: str | Path | None = None,
    detector: str | FaceDetector | None = None,
    out: str | Path | None = None,
    settings: CompareSettings | None = None,
    progress: ProgressStep = no_progress,
    detections: KeptDetections | None = None,
) -> CompareResult:
    """Run a comparison; as `agebench.compare`, but without showing progress.

    An estimator may also be a `Contender`, loaded before under the name to use.  `detections` of
    earlier runs are used and extended; times never come from there.
    """
    settings = settings or CompareSettings()
    # Cheap checks come first: a typing error must not wait for a download.
    check_names(estimators, detector)
    where = None if root is None else user_path(root)
    everything, maker = load_pictures(dataset, where, settings.protocol)
    if out is not None:
        files = [item for item in _named_files(estimators) if item.is_file()]
        for name in (RESULT_FILE, PREDICTIONS_FILE):
            refuse_lists(Path(out) / name, where, settings.protocol)
            refuse_input(Path(out) / name, files)
    # Models are opened inside too: their number of threads is set as they are opened.
    with output_folder(out), pinned(settings.threads) as (threads, _):
        contenders = load_contenders(estimators, skip_unavailable=settings.skip_unavailable)
        contenders = joined(contenders, everything)
        unseen = choose_unseen(contenders, detector)
        specs = [item.estimator.spec for item in contenders if item.estimator is not None]
        detector, why = unseen or choose_detector(detector, everything.spec, specs)
        detector_name, face_detector = named_detector(detector)
        pictures, split = take_pictures(everything, maker, settings, progress)
        about = _about(detector_name, face_detector, pictures, where, settings)
        about["detector"]["chosen_because"] = why
        about["dataset"] |= describe_selection(everything, pictures, split, settings)
        runnable = [item for item in contenders if item.estimator is not None]
        what = Pass(
            pictures.samples,
            None if unseen else face_detector,
            runnable,
            PassSettings(
                settings.batch_size,
                settings.decode_threads,
                settings.max_pixels,
                detections,
                None if settings.variant is None else parse_variant(settings.variant),
                settings.seed,
            ),
            NearCopyWatch([item.trained for item in runnable], everything, split, detections),
        )
        # A run can be resumed only if all models were given by name: an object may have changed.
        named = all(
            isinstance(model, str) or (isinstance(model, Contender) and model.load is not None)
            for model in (*estimators, detector)
        )
        folder = Path(out) if out is not None and named else None
        before = (0, 0) if detections is None else (detections.used, detections.added)
        found = gather(what, folder, identity_of(what, about), progress)
        kept = None if unseen else kept_json(detections, face_detector, before)
        about["detector"]["kept_detections"] = kept
        result = _measure(what, contenders, found, settings, about, progress, threads)
        if out is not None:
            result.save(out)
            result.forget_part()
    return result


def _named_files(estimators: Sequence[str | Estimator | Contender]) -> Iterator[Path]:
    """Yield the paths in references, such as a file of answers."""
    for one in estimators:
        path = parse_reference(one).path if isinstance(one, str) else None
        if path is not None:
            yield user_path(path)


def _measure(
    what: Pass,
    contenders: Sequence[Contender],
    found: Gathered,
    settings: CompareSettings,
    about: dict[str, Any],
    progress: ProgressStep,
    threads: int,
) -> CompareResult:
    """Time and score the accuracy pass `found`, and complete the result's header `about`."""
    columns = found.columns
    with what.settings.seconds.spent_on("near copies"):
        near = what.watch.found(found.records, progress)
    trained = {item.name: item.trained for item in what.contenders}
    known = known_pictures(found.records.store, columns, trained, near)
    latency = None
    timed = timed_here(contenders)
    if settings.latency_pictures and what.detector is not None and timed:
        chosen = choose_pictures(columns.face, settings.latency_pictures, settings.seed)
        latency = run_latency(
            [what.samples[row] for row in chosen],
            what.detector,
            [item.estimator for item in timed if item.estimator is not None],
            max_pixels=settings.max_pixels,
            second_copy=_second_copy(timed),
            threads=threads,
            progress=progress,
        )
    names = [item.name for item in timed]
    own_times = {} if latency is None else dict(zip(names, latency.own, strict=True))
    about["dataset"]["content_sha256"] = found.content_sha256
    about["dataset"]["notes"] += found.notes
    common = common_subset(columns)
    results = _results(contenders, found, common, own_times, known)
    timing = None
    if latency is not None:
        timing = compare_times([item.name for item in timed], latency)
    counts = PictureCounts(len(columns), int(common.sum()), columns.several_faces, found.taken_over)
    result = CompareResult(
        tuple(results),
        found.records,
        counts,
        latency,
        about,
        timing=timing,
        stage_seconds=what.settings.seconds.by_stage,
    )
    progress("statistics", 0, 1)
    # Judged by the content of the file, as when it is read and joined later.
    written = measured(result).content
    judged = tuple(
        replace(item, contamination=contamination_of(entry, written.dataset))
        for item, entry in zip(result.estimators, written.estimators, strict=True)
    )
    analysis = analyse(columns, written.estimators, written.dataset, settings.seed)
    result = replace(result, estimators=judged, analysis=analysis)
    progress("statistics", 1, 1)
    return result


def _second_copy(contenders: Sequence[Contender]) -> Estimator | None:
    """Load the first contender a second time if there are several to compare."""
    runnable = [item for item in contenders if item.estimator is not None]
    if len(runnable) < 2:
        return None
    first = runnable[0]
    return first.estimator if first.load is None else first.load()


def _results(
    contenders: Sequence[Contender],
    found: Gathered,
    common: Bools,
    own_times: Mapping[str, Mapping[str, StageTimes]],
    known: Mapping[str, Known],
) -> Iterator[EstimatorResult]:
    """Score all; unavailable ones come last, so that positions match the records' outcomes."""
    runnable = [item for item in contenders if item.estimator is not None]
    for index, item in enumerate(runnable):
        name, pictures = item.name, known[item.name]
        classes = item.estimator.spec.classes if item.estimator is not None else None
        score = score_estimator(found.columns, common, name, classes, pictures)
        times = own_times.get(name, {})
        if isinstance(item.estimator, AnswersFile):
            times = given_times(item.estimator, found.records, index)
        parts = part_scores(found.columns, common, name, score, pictures)
        yield EstimatorResult(item, score, times, parts)
    for item in contenders:
        if item.estimator is None:
            yield EstimatorResult(item, None, {})


def _about(
    detector_name: str,
    detector: FaceDetector,
    pictures: Dataset,
    root: Path | None,
    settings: CompareSettings,
) -> dict[str, Any]:
    return {
        **describe_call(),
        "dataset": {
            **plain(pictures.spec),
            "root": None if root is None else without_folders(str(root)),
            "problems": plain(list(pictures.problems)),
        },
        "detector": {
            "reference": detector_name,
            **plain(detector.spec),
            "runtime_proven": reads_back_its_runtime(detector),
        },
        "settings": plain(settings),
    }
