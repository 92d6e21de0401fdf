"""Which contenders were trained on what they are scored on: nothing is decided for or against them.

A model remembers what it was trained on, so its error there says nothing of its error on other
pictures.  It is told by the pictures themselves where the estimator lists those that it was trained
on (`agebench.duplicates.training_hashes`), otherwise by the names of the sets that its makers used.
Results which are joined later are judged in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from agebench.harness.contents import Estimator, SeenCount
from agebench.harness.contents_setup import Spec

NEAR_FRACTION = 0.01
"""Fraction of the scored pictures from which on near copies leave no verdict: on 2,351 UTKFace
chips, 102 near copies in training, 4 %, made an error of 4.67 years one of 4.62."""

_MADE_OF = {
    "kaggle-merged": ("utkface", "facial-age"),
    "sample": ("utkface",),
}
"""Data sets whose pictures are those of other ones, by registry name."""

_PREPARED_FROM = "prepared from "
"""How the first note of a prepared data set names the one that it was made from."""

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
    """What is asked of a data set here."""

    @property
    def name(self) -> str:
        """Its registry name."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What is to be known of it; of a prepared one, what it was prepared from."""
        ...


def why_contaminated(
    dataset: NamedSet,
    scored: int,
    seen: int | None,
    trained_sets: Collection[str],
    *,
    near: int = 0,
) -> str:
    """Return why nothing is decided for or against an estimator, "" where nothing speaks for that.

    Args:
        dataset: that was scored.
        scored: pictures that the estimator gave an age for.
        seen: how many of these it was trained on; None where it does not list its pictures.
        trained_sets: names of the data sets that it was trained on.
        near: of how many further ones it was trained on a near copy; a few do not move a mean, and
            it is from `NEAR_FRACTION` of its pictures on that they speak against it.

    >>> from agebench import DatasetSpec
    >>> utkface = DatasetSpec("utkface", "dex-estimated")
    >>> why_contaminated(utkface, 80, 68, ["utkface"])
    'trained on 68 of its 80 pictures'
    >>> why_contaminated(utkface, 80, 0, ["utkface"])
    ''
    >>> why_contaminated(utkface, 80, None, ["utkface"])
    'its makers trained on UTKFace'
    """
    if seen is not None:  # the pictures themselves say more than the name of their set
        told = [f"{seen:,} of its {scored:,} pictures"] if seen else []
        if near and near >= NEAR_FRACTION * scored:
            told.append(
                f"near copies of {near:,} {'more' if seen else f'of its {scored:,} pictures'}"
            )
        return f"trained on {' and '.join(told)}" if told else ""
    both = [name for name in _sets_in(dataset) if name in trained_sets]
    if not both:
        return ""
    return f"its makers trained on {' and '.join(_TITLES.get(name, name) for name in both)}"


def sets_trained_on(trained_sets: Collection[str], trained_on: str) -> Collection[str]:
    """Return the data sets, by registry name, that an estimator learned from.

    Args:
        trained_sets: those that its spec names.
        trained_on: what its spec says in words; where it names none those count that begin a part
            of this, between commas, "+", ";", "/" and "and", by name or title.

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
    """Return `why_contaminated` of an estimator in a result of that data set."""
    if not item.available or item.spec is None:
        return ""
    return contamination_by(dataset, item.scored, item.seen_in_training, item.spec)


def contamination_by(dataset: NamedSet, scored: int, seen: SeenCount | None, spec: Spec) -> str:
    """Return `why_contaminated` of an estimator that is that, and has seen that."""
    near = None if seen is None else seen.near_copies
    return why_contaminated(
        dataset,
        scored,
        None if seen is None else seen.count,
        sets_trained_on(spec.trained_sets, spec.trained_on),
        near=0 if near is None else near.count,
    )


def _sets_in(dataset: NamedSet) -> Iterable[str]:
    """The data set by name, and those that its pictures are from."""
    name = dataset.name
    notes = dataset.notes if name == "prepared" else ()
    origins = [
        note.removeprefix(_PREPARED_FROM) for note in notes if note.startswith(_PREPARED_FROM)
    ]
    names = [name, *origins]
    return dict.fromkeys(part for name in names for part in (name, *_MADE_OF.get(name, ())))
