"""Applying protocols to a data set: checking options, reading pictures, assigning parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agebench.datasets.packed import sample_names
from agebench.duplicates.near_search import CURRENT, Criteria
from agebench.errors import DatasetError, UsageError, suggestion
from agebench.protocols import Dataset, ProgressStep
from agebench.splits.parts import Split
from agebench.splits.protocols import PictureContents, ProtocolRule, find_protocol
from agebench.types import Problem, Setting


def _converted(protocol: str, name: str, value: Setting, default: Setting) -> Setting:
    kind = type(default)
    if type(value) is kind:
        return value
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise TypeError
        if kind is bool:
            return {"true": True, "yes": True, "false": False, "no": False}[str(value).lower()]
        number = kind(value)  # type: ignore[arg-type,misc]  # defaults are int or float
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(
            f"option {name}={value} of {protocol!r}: expected a value such as {default}"
        ) from None
    return number


def check_protocol(
    protocol: str, dataset: Dataset, options: Mapping[str, Setting]
) -> tuple[ProtocolRule, dict[str, Setting]]:
    """Return the protocol and the values of all its options, before anything slow starts.

    Raises:
        UsageError: unknown protocol or option, or the protocol is for another data set.
    """
    rule = find_protocol(protocol)
    if rule.dataset not in ("", dataset.spec.name):
        raise UsageError(
            f"protocol {protocol!r} is for the data set {rule.dataset!r}, got "
            f"{dataset.spec.name!r}: use 'holdout'"
        )
    for name in options:
        if name not in rule.options:
            raise UsageError(
                f"protocol {protocol!r} has no option {name!r}: {suggestion(name, rule.options)}"
            )
    return rule, {
        name: _converted(protocol, name, options.get(name, default), default)
        for name, default in rule.options.items()
    }


def make_split(
    protocol: str,
    dataset: Dataset,
    pictures: PictureContents | None = None,
    options: Mapping[str, Setting] | None = None,
) -> Split:
    """Apply a protocol to a data set whose copies are known, without reading files.

    Args:
        protocol: a name of `PROTOCOLS`.
        dataset: all of it; a part of it gives the same parts for its pictures.
        pictures: content hashes and copies.  Not needed by fgnet-lopo.
        options: of the protocol: ``fraction`` (of test), ``val_fraction``, ``seed`` and
            ``stratify`` of holdout.  With ``stratify=False`` a picture's part does not change
            when others that are not its copies come or go; with it, those near the shares' edges
            may.

    Raises:
        UsageError: unknown protocol or option, or the protocol is for another data set.
        DatasetError: no picture is in any part.
    """
    rule, settings = check_protocol(protocol, dataset, options or {})
    pictures = pictures or PictureContents()
    usable = {name: key for name, key in pictures.sha256.items() if name not in pictures.broken}
    pictures = replace(pictures, sha256=usable)
    draft = rule.rule(dataset.samples, pictures, settings)
    for name in sample_names(dataset.samples):
        if name not in draft.parts and name not in draft.unused:
            draft.unused[name] = pictures.broken.get(name, "its content hash is not known")
    if not draft.parts:
        reasons = sorted(set(draft.unused.values()))
        raise DatasetError(f"protocol {protocol!r} leaves no picture in any part: {reasons[0]}")
    return Split(
        protocol=protocol,
        parts=dict(sorted(draft.parts.items())),
        unused=tuple(Problem(name, draft.unused[name]) for name in sorted(draft.unused)),
        dataset=dataset.spec.name,
        label_kind=dataset.spec.label_kind,
        parameters={**settings, "version": rule.version, "aligned": dataset.spec.aligned},
        sha256={name: usable[name] for name in sorted(draft.parts) if name in usable},
    )


def read_contents(
    dataset: Dataset,
    progress: ProgressStep | None = None,
    *,
    criteria: Sequence[Criteria] = (CURRENT,),
) -> PictureContents:
    """Read all pictures of a data set: their hashes, and which are copies of one another.

    Args:
        dataset: whose pictures are read.
        progress: called as the reading proceeds.
        criteria: which near-identical pictures are copies; those by any of them.
    """
    from agebench.duplicates.groups import MOST_KEPT, find_duplicates, fingerprints

    keep = MOST_KEPT if criteria else 0
    prints = fingerprints(dataset.samples, progress=progress, keep=keep)
    return PictureContents(
        sha256={item.name: item.sha256 for item in prints if item.sha256},
        duplicates=[
            group
            for one in criteria
            for group in find_duplicates(dataset.samples, prints, criteria=one, progress=progress)
        ],
        broken={item.name: item.reason for item in prints if item.reason},
    )


def build_split(
    protocol: str,
    dataset: Dataset,
    options: Mapping[str, Setting] | None = None,
    progress: ProgressStep | None = None,
) -> Split:
    """Apply a protocol to a data set, reading its pictures where the protocol needs that.

    Args, Raises: as `make_split`.
    """
    rule, _ = check_protocol(protocol, dataset, options or {})
    pictures = (
        read_contents(dataset, progress, criteria=rule.criteria) if rule.needs_pictures else None
    )
    return make_split(protocol, dataset, pictures, options)
