"""What a reader must know of a result besides its figures: remarks, circumstances, sources."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from agebench import __version__
from agebench.benchmark.tables import busy_lines, control_sentence
from agebench.harness.contents_setup import Detector, Model, Spec, Terms
from agebench.harness.reading import ResultFile
from agebench.metrics.number_format import counted, number
from agebench.report.escaping import latex
from agebench.report.figures import MAX_DRAWN
from agebench.report.joining import Entry, Joined, letter
from agebench.report.swaps import swaps_tried

Details = list[tuple[str, str]]

_LABELS = {
    "birth-age": "True ages come from dates of birth.",
    "apparent": "True ages are people's guesses, not dates of birth.",
    "dex-estimated": (
        "True ages were estimated by the DEX network and checked by annotators: an error here is "
        "the distance to those estimates, not to ages."
    ),
    "unknown": "How the true ages came about is not known.",
}


def _available(joined: Joined) -> list[Entry]:
    """All that were measured, also those without a mean error: labels may be ranges."""
    return [entry for entry in joined.entries if entry.content.available]


def remarks(joined: Joined) -> list[str]:
    """Return what else a reader of the figures must know."""
    return [*joined.remarks, *_busy(joined), *_of_data(joined), *_of_estimators(joined)]


def _busy(joined: Joined) -> Iterable[str]:
    """Say what else ran, where it was too much for the times to mean something."""
    several = len(joined.results) > 1
    for at, result in enumerate(joined.results):
        timing = result.content.timing
        if timing and timing.too_busy:
            of = f"Result {letter(at)}: " if several else ""
            yield f"{of}{' '.join(busy_lines(timing))}"


def of_labels(joined: Joined) -> list[str]:
    """Return how the true ages came about."""
    return [_LABELS[joined.dataset.label_kind]]


def _of_data(joined: Joined) -> Iterable[str]:
    yield from of_labels(joined)
    yield from joined.dataset.notes
    yield from dict.fromkeys(map(_why_detector, (item.content.detector for item in joined.results)))
    first = joined.results[0].content
    total, scored = first.counts.total, int(joined.common.sum())
    if scored < total:
        yield f"Of {counted(total, 'picture')}, {scored:,} have an age from every estimator."
    kept = first.detector.kept_detections
    if kept and kept.used:
        yield (
            f"The faces of {counted(kept.used, 'picture')} were found by an earlier run with "
            "the same detector and kept; all times are of this run."
        )
    several = first.counts.several_faces
    if several:
        yield f"On {counted(several, 'picture')} with several faces the largest was used."
    if joined.dataset.problems:
        count = counted(len(joined.dataset.problems), "file")
        yield f"{count} left out while the data set was listed; the result file names them."


def _why_detector(detector: Detector) -> str:
    why = detector.chosen_because or "it was named"
    return f"Faces were found by {detector.reference}: {why}."


def _of_estimators(joined: Joined) -> Iterable[str]:
    for entry in joined.entries:
        if not entry.content.available:
            reason = " ".join(entry.content.unavailable_reason.split())  # it has several lines
            yield f"{entry.label} was not available: {reason}"
    notes = (f"{entry.name}: {note}" for entry in _available(joined) for note in entry.spec.notes)
    yield from dict.fromkeys(notes)
    if len(joined.scored) > MAX_DRAWN:
        yield f"The pictures show the best {MAX_DRAWN} of {len(joined.scored)} estimators."


def lead(joined: Joined) -> str:
    """Return one line below the title: data, part, detector and when."""
    detectors = sorted({result.content.detector.reference for result in joined.results})
    days = sorted({result.content.created[:10] for result in joined.results})
    return (
        f"{joined.dataset.name}, {joined.dataset.protocol}; faces found by "
        f"{' and '.join(detectors)}; measured {' and '.join(days)}"
    )


def methods(joined: Joined) -> list[str]:
    """Return the sentences that explain how the figures were computed."""
    settings = joined.analysis.settings
    sentences = [
        "The detector ran once per picture, and every estimator got the same faces. Errors are "
        "over the common pictures: those that every ranked estimator gave an age for.",
        _intervals_and_tests(joined),
    ]
    baseline = settings.baseline
    if baseline is not None:
        sentences.append(
            "\u201cWith misses\u201d counts a picture without an age with the error of answering "
            f"{baseline['years']} years ({baseline['from']})."
        )
    sentences.append(
        "Times are wall time at batch 1 after a warm-up; on each picture the estimators took "
        "turns, and no sample was dropped. \u201cFaster\u201d is said only where the interval of "
        "the ratio leaves 1 out, the ratio is beyond what one estimator differs from itself when "
        "it is measured twice, and the machine was not busy with something else."
    )
    return sentences


def _intervals_and_tests(joined: Joined) -> str:
    settings = joined.analysis.settings
    by_person = "people" if settings.clustered else "pictures"
    level = settings.level
    how = (
        f"come from {settings.replicates} bootstrap resamples of {by_person}"
        if settings.replicates is not None  # a file of version 1
        else f"are Student's t about the mean, with the spread that leaving {by_person} out in "
        f"turn shows; with fewer than {settings.minimum_people} {by_person} there is none"
    )
    return (
        f"Intervals hold {number(100 * level, 0)} % and {how}. "
        f"{swaps_tried(joined.pairs, by_person)}"
        "With Holm's correction for the number of pairs, \u201cbetter\u201d and \u201cworse\u201d "
        f"are said only where p is below {number(1 - level)}. Groups need "
        f"{settings.minimum_n} pictures for a figure."
    )


def environment(result: ResultFile) -> Details:
    """Return versions, machine and settings."""
    machine, settings = result.content.environment, result.content.settings
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    detector = result.content.detector
    given = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    return [
        ("machine", f"{machine.processor}, {counted(machine.cores, 'core')}"),
        ("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("system", machine.system),
        ("Python", machine.python),
        ("packages", packages),
        ("OpenCV threads", str(machine.opencv_threads)),
        *_while_timed(result),
        ("settings", given),
        ("detector", _model(detector, proven=detector.runtime_proven)),
        *(
            (item.name, _model(item.spec, proven=item.runtime_proven))
            for item in result.estimators
            if item.spec
        ),
    ]


def _while_timed(result: ResultFile) -> Iterable[tuple[str, str]]:
    """What else ran, and what the first estimator differs from itself."""
    timing = result.content.timing
    if timing:
        if lines := busy_lines(timing):
            yield "load", " ".join(lines)
        if (control := timing.control) is not None:
            yield "control", control_sentence(control)


def _model(spec: Model, *, proven: bool) -> str:
    runtime = spec.runtime
    said = "" if proven else " (as it says of itself)"
    told = [f"{runtime.runtime} {runtime.version}".strip() + f", {runtime.device}{said}"]
    if runtime.detail:
        told[0] += f" ({runtime.detail})"
    if isinstance(spec, Spec):
        told += [f"years by {spec.decode}"] if spec.decode else []
        told += [
            f"crop {name}: {view.region}, {view.size_hw[1]}\u00d7{view.size_hw[0]}"
            for name, view in spec.crop.views.items()
        ]
        told += [f"trained on {spec.trained_on}"] if spec.trained_on else []
    if spec.licence:
        told.append(f"licence: {spec.licence}")
    return "; ".join(told)


def citations(joined: Joined) -> Details:
    """Return what to cite: data, detectors, estimators; each once."""
    found: dict[str, str] = {}
    parts: list[tuple[str, Terms]] = [(joined.dataset.name, joined.dataset)]
    for result in joined.results:
        parts.append((result.content.detector.name, result.content.detector))
        parts += [(item.spec.name, item.spec) for item in result.estimators if item.spec]
    for name, spec in parts:
        told = " ".join(filter(None, (spec.citation, spec.source)))
        if told:
            found.setdefault(name, told)
    return list(found.items())


def bibtex(joined: Joined) -> str:
    """Return entries for agebench, the data and the models, to be cited with the citations above.

    What is cited is free text of the makers': it stands as a note, not taken apart by guessing.
    """
    entries = [
        f"@software{{agebench,\n  title = {{agebench}},\n  version = {{{__version__}}}\n}}",
        *(
            f"@misc{{{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-') or 'model'},\n"
            f"  title = {{{latex(name)}}},\n  note = {{{latex(told)}}}\n}}"
            for name, told in citations(joined)
        ),
    ]
    return "\n\n".join(entries)


def hashes(joined: Joined) -> Details:
    """Return what has to be the same for the same figures."""
    dataset = joined.dataset
    found = [("data", f"sha256 {dataset.content_sha256}, over names, labels and files")]
    if dataset.split is not None:
        split = dataset.split
        found.append(("split", f"{split.protocol}, part {split.part}: {split.fingerprint}"))
    for at, result in enumerate(joined.results):
        where = f" ({letter(at)})" if len(joined.results) > 1 else ""
        predictions = result.content.predictions_sha256
        if predictions:
            found.append((f"predictions.csv{where}", f"sha256 {predictions}"))
        models: list[tuple[str, Model]] = [("detector", result.content.detector)]
        models += [(item.name, item.spec) for item in result.estimators if item.spec]
        found += [
            (f"{name}{where}", f"{weights.file}, sha256 {weights.sha256}")
            for name, spec in models
            for weights in spec.weights
        ]
    return found


def command(result: ResultFile) -> str:
    """Return the command line that made a result, for a shell.

    The folder that the program lies in says nothing to another machine and is left out.
    """
    words: Sequence[str] = result.content.command
    program = [PurePath(words[0]).name] if words else []
    return shlex.join([*program, *words[1:]])
