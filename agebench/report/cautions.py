"""Cautions that are shown next to an estimator's figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agebench.harness.comparability import LABEL_SOURCES
from agebench.harness.scores import CLIPPED_FRACTION, errors_at
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.number_format import bounds, counted, number, percent
from agebench.report.grid import Note
from agebench.report.joining import Entry, Joined
from agebench.util.arrays import Bools

NOTABLE_CLIPPED = 0.05
"""Fraction of clipped crops from which the ranking has a note on them."""


def cautions(joined: Joined, entry: Entry) -> list[Note]:
    """Return the cautions about an estimator's figures, the most serious first."""
    if not entry.content.available:
        return []
    return [
        *_unranked(entry),
        *_contaminated(joined, entry),
        *_few_near_copies(joined, entry),
        *_clipped(joined, entry),
        *_other_labels(joined, entry),
        *_runtime(entry),
    ]


def looks_at_faces(entry: Entry) -> bool:
    """Return whether it is not the baseline that predicts the same age for everybody."""
    spec = entry.content.spec
    return spec is not None and spec.name != "constant"


def _unranked(entry: Entry) -> Iterator[Note]:
    """Yield why it is not ranked: it has ages for too few pictures to compare the others on."""
    reason = None if entry.analysis is None else entry.analysis.unranked_reason
    if not reason:
        return
    own, own_mae = entry.content.own_errors, ""
    if own is not None and own.n:
        own_mae = f"; on its own {counted(own.n, 'picture')} its MAE is {number(own.mae_years)}"
    yield Note(f"not ranked: {reason}{own_mae}", severe=True)


def _contaminated(joined: Joined, entry: Entry) -> Iterator[Note]:
    if not entry.contamination:
        return
    unseen = unseen_errors(joined, entry)
    on_unseen = "" if unseen is None else f"; {_mae_on(unseen, 'it was not trained on')}"
    yield Note(f"{entry.contamination}: no verdict{on_unseen}", severe=True)


def _few_near_copies(joined: Joined, entry: Entry) -> Iterator[Note]:
    """Yield a note on near copies that are too few to withhold a verdict."""
    seen = entry.content.seen_in_training
    near = None if seen is None else seen.near_copies
    if entry.contamination or near is None or not near.count:
        return
    unseen = unseen_errors(joined, entry)
    on_unseen = "" if unseen is None else f"; {_mae_on(unseen, 'without near copies')}"
    scored = entry.content.scored
    yield Note(
        f"was trained on near copies of {near.count:,} of its {scored:,} pictures{on_unseen}"
    )


def _clipped(joined: Joined, entry: Entry) -> Iterator[Note]:
    scored, clipped = entry.content.scored, entry.content.clipped
    if not looks_at_faces(entry) or not scored or clipped / scored < NOTABLE_CLIPPED:
        return
    extent = f"extended more than {percent(CLIPPED_FRACTION, 0)} % beyond the picture"
    if clipped == scored:
        yield Note(f"all its {scored:,} crops {extent}")
        return
    unclipped = unclipped_errors(joined, entry)
    on_unclipped = "" if unclipped is None else f"; {_mae_on(unclipped, 'with whole crops')}"
    percentage = percent(clipped / scored, 0)
    yield Note(f"{clipped:,} of its {scored:,} crops ({percentage} %) {extent}{on_unclipped}")


def _mae_on(errors: ErrorSummary, which: str) -> str:
    if not errors.n:
        return f"there is no common picture of known age {which}"
    interval = bounds(errors.mae_interval)
    figure = f"{number(errors.mae_years)} {interval}".strip()
    return f"on the {counted(errors.n, 'common picture')} {which} its MAE is {figure}"


def _other_labels(joined: Joined, entry: Entry) -> Iterator[Note]:
    learned, scored = entry.spec.label_kind, joined.dataset.label_kind
    known = {"unknown", learned, scored} & LABEL_SOURCES.keys()
    if len(known) == 3:
        yield Note(
            f"was trained to give ages from {LABEL_SOURCES[learned]}; the true ages here come from "
            f"{LABEL_SOURCES[scored]}"
        )


def _runtime(entry: Entry) -> Iterator[Note]:
    """Yield a note if there are times, but only the estimator itself states its runtime."""
    runtime = entry.spec.runtime
    notable = runtime.runtime != "python" or runtime.device != "cpu"
    if notable and not entry.content.runtime_proven and entry.content.latency:
        yield Note(
            f"its runtime ({runtime.runtime}, {runtime.device}) is as stated by the estimator "
            "itself, and was not verified"
        )


def unseen_errors(joined: Joined, entry: Entry) -> ErrorSummary | None:
    """Return the errors over the common pictures that it was not trained on.

    None if it was trained on none of them, or the result does not list which.
    """
    seen = entry.content.seen_in_training
    if seen is None:
        return None
    near = () if seen.near_copies is None else seen.near_copies.pictures
    names = frozenset((*seen.pictures, *near))
    if not names:
        return None
    keep = [image["picture"] not in names for image in joined.pictures]
    return _errors(joined, entry, np.asarray(keep, np.bool_))


def unclipped_errors(joined: Joined, entry: Entry) -> ErrorSummary | None:
    """Return the errors over the common pictures with whole crops; None if none was clipped."""
    if not entry.content.clipped:
        return None
    outside = joined.columns[entry.result].answers[entry.name].outside
    return _errors(joined, entry, outside <= CLIPPED_FRACTION)


def _errors(joined: Joined, entry: Entry, keep: Bools) -> ErrorSummary:
    answers = joined.columns[entry.result].answers[entry.name]
    return errors_at(joined.columns[0], answers, joined.common & keep)
