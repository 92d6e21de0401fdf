"""Which estimators were trained on the pictures they are scored on, and so get no verdict.

A model memorises its training pictures, so its error on them does not predict its error on others.
If the estimator lists its training pictures (`agebench.duplicates.training_hashes`), the pictures
are compared, otherwise the names of the data sets it was trained on.  Joined results are judged in
the same way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from agebench.harness.contents import Estimator, SeenCount
from agebench.harness.contents_setup import Spec

NEAR_FRACTION = 0.01
"""Fraction of near copies among the scored pictures from which there is no verdict: on 2,351
UTKFace chips, 102 near copies in training (4 %) lowered the error from 4.67 to 4.62 years."""

_MADE_OF = {
    "kaggle-merged": ("utkface", "facial-age"),
    "sample": ("utkface",),
}
"""Data sets that consist of the pictures of others, by registry name."""

_FORMATS = frozenset({"csv", "folders", "names", "prepared"})
"""Data sets that are ways to list pictures: two of one name need not have a picture in common."""

_PREPARED_FROM = "prepared from "
"""Start of a prepared data set's first note, followed by the set it was made from."""

_TITLES = {
    "adience": "Adience",
    "agedb": "AgeDB",
    "all-age-faces": "All-Age-Faces",
    "fairface": "FairFace",
    "fgnet": "FG-NET",
    "imdb-wiki": "IMDB-WIKI",
    "kaggle-merged": "the merged Kaggle set",
    "megaage-asian": "MegaAge-Asian",
    "morph2": "MORPH 2",
    "utkface": "UTKFace",
}


class NamedSet(Protocol):
    """What is needed of a data set here."""

    @property
    def name(self) -> str:
        """Its registry name."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Its notes; a prepared set names its source there."""
        ...


def why_contaminated(
    dataset: NamedSet,
    scored: int,
    seen: int | None,
    trained_sets: Collection[str],
    *,
    near: int = 0,
    listed: str = "",
) -> str:
    """Return why an estimator gets no verdict, "" if it is not contaminated.

    Args:
        dataset: the one that was scored.
        scored: number of pictures that the estimator gave an age for.
        seen: how many of these it was trained on; None if it does not list its training pictures.
        trained_sets: names of the data sets that it was trained on.
        near: for how many more it was trained on a near copy; they count from a fraction of
            `NEAR_FRACTION` on, as a few do not change a mean.
        listed: the source of its list of training pictures. If this names some of `trained_sets`,
            the pictures of the others are not on the list.

    >>> from agebench import DatasetSpec
    >>> utkface = DatasetSpec("utkface", "dex-estimated")
    >>> why_contaminated(utkface, 80, 68, ["utkface"])
    'trained on 68 of its 80 pictures'
    >>> why_contaminated(utkface, 80, 0, ["utkface"])
    ''
    >>> why_contaminated(utkface, 80, None, ["utkface"])
    'its makers trained on UTKFace'
    >>> why_contaminated(utkface, 80, 0, ["fairface", "utkface"], listed="fairface/train")
    'its makers trained on UTKFace'
    """
    if seen is not None:
        found = [f"{seen:,} of its {scored:,} pictures"] if seen else []
        if near and near >= NEAR_FRACTION * scored:
            found.append(
                f"near copies of {near:,} {'more' if seen else f'of its {scored:,} pictures'}"
            )
        if found:
            return f"trained on {' and '.join(found)}"
    # A comparison of pictures is more reliable than the name of a set, as far as the list goes.
    named = trained_sets if seen is None else _unlisted(trained_sets, listed)
    both = [name for name in _sets_in(dataset) if name in named]
    if not both:
        return ""
    return f"its makers trained on {' and '.join(_TITLES.get(name, name) for name in both)}"


def _unlisted(trained_sets: Collection[str], listed: str) -> Collection[str]:
    """Return the sets that a list of training pictures leaves out, if it names any."""
    missing = [name for name in trained_sets if name not in listed]
    return missing if len(missing) < len(trained_sets) else ()


def sets_trained_on(trained_sets: Collection[str], trained_on: str) -> Collection[str]:
    """Return the data sets, by registry name, that an estimator was trained on.

    Args:
        trained_sets: those that its spec names.
        trained_on: the spec's description in words, used if it names no sets: names or titles at
            the start of a part count, where parts are separated by commas, "+", ";", "/" and "and".

    >>> sets_trained_on(["agedb"], "UTKFace")
    ['agedb']
    >>> sets_trained_on([], "IMDB-WIKI, then fgnet (all of it) and own pictures")
    ['imdb-wiki', 'fgnet']
    """
    if trained_sets:
        return trained_sets
    parts = re.split(r"[,;+/]|\band\b|\bthen\b", trained_on.casefold())
    titles = {title.casefold(): name for name, title in _TITLES.items()}
    titles |= {name: name for name in _TITLES}
    found = [
        name
        for part in parts
        for title, name in titles.items()
        if re.match(rf"\s*(?:(?:parts? of|all of|the) )?{re.escape(title)}(?![\w-])", part)
    ]
    return list(dict.fromkeys(found))


def contamination_of(item: Estimator, dataset: NamedSet) -> str:
    """Return `why_contaminated` for an estimator of a result."""
    if not item.available or item.spec is None:
        return ""
    return contamination_by(dataset, item.scored, item.seen_in_training, item.spec)


def contamination_by(dataset: NamedSet, scored: int, seen: SeenCount | None, spec: Spec) -> str:
    """Return `why_contaminated` for an estimator with this spec and these seen pictures."""
    near = None if seen is None else seen.near_copies
    return why_contaminated(
        dataset,
        scored,
        None if seen is None else seen.count,
        sets_trained_on(spec.trained_sets, spec.trained_on),
        near=0 if near is None else near.count,
        listed="" if seen is None else seen.what,
    )


def _sets_in(dataset: NamedSet) -> Iterable[str]:
    """Return the data set's name and those of the sets that its pictures come from."""
    name = dataset.name
    notes = dataset.notes if name == "prepared" else ()
    origins = [
        note.removeprefix(_PREPARED_FROM) for note in notes if note.startswith(_PREPARED_FROM)
    ]
    names = [name for name in (name, *origins) if name not in _FORMATS]
    return dict.fromkeys(part for name in names for part in (name, *_MADE_OF.get(name, ())))
