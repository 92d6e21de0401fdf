"""What a reader should know about a result besides its figures: remarks, environment, sources."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

from agebench import __version__
from agebench.benchmark.tables import busy_lines, control_sentence
from agebench.harness.contents_setup import Detector, Model, Spec, Terms
from agebench.harness.contents_statistics import Pair
from agebench.harness.reading import ResultFile
from agebench.metrics.number_format import counted, number
from agebench.report.escaping import latex
from agebench.report.figures import MAX_DRAWN
from agebench.report.joining import Joined, letter
from agebench.timing.ratios import MIN_RATIO_OF_ONE_LOAD

Details = list[tuple[str, str]]

_LABELS = {
    "birth-age": "True ages come from dates of birth.",
    "apparent": "True ages are people's guesses, not dates of birth.",
    "dex-estimated": (
        "True ages were estimated by the DEX network and checked by annotators: an error here is "
        "the distance to those estimates, not to real ages."
    ),
    "unknown": "The origin of the true ages is not known.",
}


def files(joined: Joined) -> Details:
    """Return the letter of each of several results, with its file and when it was measured."""
    if len(joined.results) < 2:
        return []
    return [
        (letter(at), f"{result.path}, {result.content.created}")
        for at, result in enumerate(joined.results)
    ]


def remarks(joined: Joined) -> list[str]:
    """Return what else a reader of the figures should know."""
    return [*joined.remarks, *_busy(joined), *_on_data(joined), *_on_estimators(joined)]


def _busy(joined: Joined) -> Iterable[str]:
    """Yield the load by other processes, for results whose times it made meaningless."""
    several = len(joined.results) > 1
    for at, result in enumerate(joined.results):
        timing = result.content.timing
        if timing and timing.too_busy:
            prefix = f"Result {letter(at)}: " if several else ""
            yield f"{prefix}{' '.join(busy_lines(timing))}"


def label_origin(joined: Joined) -> str:
    """Return a sentence on the origin of the true ages."""
    return _LABELS[joined.dataset.label_kind]


def _on_data(joined: Joined) -> Iterable[str]:
    yield label_origin(joined)
    yield from joined.dataset.notes
    yield from dict.fromkeys(map(_why_detector, (item.content.detector for item in joined.results)))
    first = joined.results[0].content
    total, scored = first.counts.total, int(joined.common.sum())
    if scored < total:
        yield f"Of {counted(total, 'picture')}, {scored:,} have an age from every ranked estimator."
    kept = first.detector.kept_detections
    if kept and kept.used:
        yield (
            f"The faces of {counted(kept.used, 'picture')} are those found by an earlier run with "
            "the same detector; all times are from this run."
        )
    several = first.counts.several_faces
    if several:
        pictures = counted(several, "picture")
        yield f"In {pictures} with several faces, the labelled or else largest one was used."
    if joined.dataset.problems:
        count = counted(len(joined.dataset.problems), "file")
        yield f"{count} left out while listing the data set; the result file names them."


def _why_detector(detector: Detector) -> str:
    why = detector.chosen_because or "it was requested"
    return f"Faces were found by {detector.reference}: {why}."


def _on_estimators(joined: Joined) -> Iterable[str]:
    for entry in joined.entries:
        if not entry.content.available:
            reason = " ".join(entry.content.unavailable_reason.split())  # it has several lines
            yield f"{entry.label} was not available: {reason}"
    yield from dict.fromkeys(
        f"{entry.name}: {note}"
        for entry in joined.entries
        if entry.content.available
        for note in entry.spec.notes
    )
    if len(joined.scored) > MAX_DRAWN:
        yield f"The figures show the best {MAX_DRAWN} of {len(joined.scored)} estimators."


def lead(joined: Joined) -> str:
    """Return the line below the title: data, protocol, detector and date."""
    detectors = sorted({result.content.detector.reference for result in joined.results})
    days = sorted({result.content.created[:10] for result in joined.results})
    return (
        f"{joined.dataset.name}, {joined.dataset.protocol}; faces found by "
        f"{' and '.join(detectors)}; measured {' and '.join(days)}"
    )


def methods(joined: Joined) -> list[str]:
    """Return the paragraphs that explain how the figures were computed."""
    paragraphs = [
        "The detector ran once per picture, and every estimator got the same faces. Errors are "
        "over the common pictures: those that every ranked estimator gave an age for.",
        _intervals_and_tests(joined),
    ]
    baseline = joined.analysis.settings.baseline
    if baseline is not None:
        paragraphs.append(
            "\u201cWith misses\u201d gives each picture without an age the error of predicting "
            f"{baseline['years']:g} years ({baseline['from']})."
        )
    paragraphs.append(
        "Times are wall-clock times at batch 1 after a warm-up; the estimators took turns on each "
        "picture, and no sample was dropped. An estimator is called faster only if the interval "
        "of the ratio excludes 1, the ratio is larger than the difference of one estimator from "
        f"itself when measured twice and than {MIN_RATIO_OF_ONE_LOAD}, and the machine was not "
        "busy with other processes."
    )
    return paragraphs


def swaps_tried(pairs: Iterable[Pair], swapped: str) -> str:
    """Return a sentence on the swaps tried by the paired tests, and the smallest possible p.

    Args:
        pairs: "pairs" of an analysis; files of version 1 don't state swaps.
        swapped: what was swapped, "people" or "pictures".

    >>> from types import SimpleNamespace as Pair
    >>> swaps_tried([Pair(swaps=1024, all_swaps=True, smallest_p=2 / 1024)], "people")
    'Differences were tested with all 1,024 ways of swapping people; p is at least 0.002. '
    >>> swaps_tried([Pair(swaps=9999, all_swaps=False, smallest_p=0.0028)], "pictures")
    'Differences were tested with 9,999 random swaps of pictures; p is at least 0.0028. '
    >>> swaps_tried([], "pictures")
    ''
    >>> swaps_tried([Pair(swaps=5, all_swaps=False, smallest_p=None)], "people")
    'Differences were tested with 5 random swaps of people. '
    """
    tested = [pair for pair in pairs if pair.swaps is not None]
    if not tested:
        return ""
    tests = " or ".join(
        f"all {count:,} ways of swapping {swapped}"
        if exhaustive
        else f"{count:,} random swaps of {swapped}"
        for count, exhaustive in sorted(
            {(pair.swaps or 0, bool(pair.all_swaps)) for pair in tested}
        )
    )
    known = [pair.smallest_p for pair in tested if pair.smallest_p is not None]
    least = f"; p is at least {min(known):.2g}" if known else ""
    return f"Differences were tested with {tests}{least}. "


def _intervals_and_tests(joined: Joined) -> str:
    settings = joined.analysis.settings
    units = "people" if settings.clustered else "pictures"
    level = settings.level
    how = (
        f"come from {settings.replicates} bootstrap resamples of {units}"
        if settings.replicates is not None  # a file of version 1
        else "are Student's t intervals of the mean, with a jackknife standard error over "
        f"{units}; there is none with fewer than {settings.minimum_people} {units}"
    )
    return (
        f"Confidence intervals ({number(100 * level, 0)} %) {how}. "
        f"{swaps_tried(joined.pairs, units)}"
        "An estimator is called better or worse only if p is below "
        f"{number(1 - level)} after Holm's correction for the number of pairs. Groups with fewer "
        f"than {settings.minimum_n} pictures have no figures."
    )


def environment(result: ResultFile) -> Details:
    """Return versions, machine and settings."""
    machine, settings = result.content.environment, result.content.settings
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    detector = result.content.detector
    options = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    return [
        ("machine", f"{machine.processor}, {counted(machine.cores, 'core')}"),
        ("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("system", machine.system),
        ("Python", machine.python),
        ("packages", packages),
        ("OpenCV threads", str(machine.opencv_threads)),
        *_while_timed(result),
        ("settings", options),
        ("detector", _model(detector, proven=detector.runtime_proven)),
        *(
            (item.name, _model(item.spec, proven=item.runtime_proven))
            for item in result.estimators
            if item.spec
        ),
    ]


def _while_timed(result: ResultFile) -> Iterable[tuple[str, str]]:
    """Yield the load by other processes, and how much the first estimator differs from itself."""
    timing = result.content.timing
    if timing:
        if lines := busy_lines(timing):
            yield "load", " ".join(lines)
        if (control := timing.control) is not None:
            yield "control", control_sentence(control, MIN_RATIO_OF_ONE_LOAD)


def _model(spec: Model, *, proven: bool) -> str:
    runtime = spec.runtime
    unverified = "" if proven else " (unverified)"
    parts = [f"{runtime.called}, {runtime.device}{unverified}"]
    if runtime.detail:
        parts[0] += f" ({runtime.detail})"
    if isinstance(spec, Spec):
        parts += [f"years by {spec.decode}"] if spec.decode else []
        parts += [
            f"crop {name}: {view.region}, {view.size_hw[1]}\u00d7{view.size_hw[0]}"
            for name, view in spec.crop.views.items()
        ]
        parts += [f"trained on {spec.trained_on}"] if spec.trained_on else []
    if spec.licence:
        parts.append(f"licence: {spec.licence}")
    return "; ".join(parts)


def citations(joined: Joined) -> Details:
    """Return what to cite for the data, detectors and estimators, each once."""
    found: dict[str, str] = {}
    parts: list[tuple[str, Terms]] = [(joined.dataset.name, joined.dataset)]
    for result in joined.results:
        parts.append((result.content.detector.name, result.content.detector))
        parts += [(item.spec.name, item.spec) for item in result.estimators if item.spec]
    for name, spec in parts:
        if reference := " ".join(filter(None, (spec.citation, spec.source))):
            found.setdefault(name, reference)
    return list(found.items())


def bibtex(joined: Joined) -> str:
    """Return BibTeX entries for agebench, the data and the models.

    Citations are free text by the makers, so they become notes rather than being parsed.
    """
    entries = [
        f"@software{{agebench,\n  title = {{agebench}},\n  version = {{{__version__}}}\n}}",
        *(
            f"@misc{{{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-') or 'model'},\n"
            f"  title = {{{latex(name)}}},\n  note = {{{latex(reference)}}}\n}}"
            for name, reference in citations(joined)
        ),
    ]
    return "\n\n".join(entries)


def hashes(joined: Joined) -> Details:
    """Return the hashes that have to be equal for equal figures."""
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

    The program's folder is left out, as it means nothing on another machine.
    """
    command_line = result.content.command
    return shlex.join([*(PurePath(item).name for item in command_line[:1]), *command_line[1:]])
