"""Selecting the pictures to score: a part of a protocol, the first few, or a random sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from agebench.datasets.base import limit, sample
from agebench.errors import UsageError, suggestion
from agebench.harness.comparability import Scored
from agebench.harness.contents_setup import PublicDataset
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, ProgressStep, no_progress
from agebench.references import parse_reference, user_path
from agebench.splits.align import align
from agebench.splits.building import build_split, check_protocol
from agebench.splits.files import read_split
from agebench.splits.parts import Split, part, select_parts
from agebench.splits.protocols import PROTOCOLS
from agebench.types import plain
from agebench.util.files import refuse_input

DEFAULT_PART = "test"


SplitMaker: TypeAlias = Callable[[ProgressStep], Split]
"""Builds a split; may read all pictures, and reports its progress."""


def find_split(dataset: Dataset, protocol: str) -> SplitMaker:
    """Return the function that builds the split named by ``--protocol``, after all possible checks.

    Args:
        dataset: all of it.
        protocol: a protocol with its options, such as ``"holdout seed=3"``, or a split file or
            folder of lists.  An ambiguous name is taken as the protocol; ``./holdout`` is the file.

    Raises:
        UsageError: it is neither, or an option is wrong.
        DatasetError: the file is malformed, or does not fit the data set.
    """
    name = (protocol.split(maxsplit=1) or [""])[0]
    if name in PROTOCOLS:
        reference = parse_reference(protocol)
        if reference.name != name:
            raise UsageError(f"{protocol!r} is not a protocol: expected NAME [key=value ...]")
        check_protocol(name, dataset, reference.options)
        return lambda progress: build_split(name, dataset, reference.options, progress)
    path = user_path(protocol)
    try:
        there = bool(name) and path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise UsageError(
            f"{protocol!r} is neither a protocol nor a split file: {suggestion(name, PROTOCOLS)}"
        )
    split = align(read_split(path), dataset)
    return lambda _progress: split


def refuse_lists(out: Path, root: str | Path | None, protocol: str | None) -> None:
    """Refuse to overwrite a data set's list, or the file that its split is read from.

    Raises:
        UsageError: `out` is one of them.  New files may be written to a folder of pictures, but not
            to one of lists.
    """
    of_pictures = root is None or user_path(root).is_dir()
    refuse_input(out, [None if of_pictures else root, protocol])


def take_pictures(
    dataset: Dataset,
    maker: SplitMaker | None,
    settings: CompareSettings,
    progress: ProgressStep = no_progress,
) -> tuple[Dataset, Split | None]:
    """Return the pictures that the settings select, and the split they are a part of.

    Raises:
        UsageError: the split has no such part.
        DatasetError: the part has no picture.
    """
    split = None if maker is None else maker(progress)
    if split is not None:
        dataset = part(dataset, split, part_of(settings))
    if settings.limit is not None:
        return limit(dataset, settings.limit), split
    if settings.sample is not None:
        return sample(dataset, settings.sample, settings.seed), split
    return dataset, split


def part_of(settings: CompareSettings) -> str:
    """Return the name of the part that is scored, "" without a protocol."""
    if settings.protocol is None:
        return ""
    return DEFAULT_PART if settings.part is None else settings.part


def _subset(settings: CompareSettings, *, all_taken: bool) -> str:
    """Describe which pictures are taken and how they are changed, as both affect comparability."""
    changed = "" if settings.variant is None else f"changed: {settings.variant}"
    return ", ".join(filter(None, ("" if all_taken else _taken(settings), changed)))


def _taken(settings: CompareSettings) -> str:
    if settings.limit is not None:
        return f"first {settings.limit} by name"
    return f"random {settings.sample}, seed {settings.seed}"


def describe_selection(
    everything: Dataset, dataset: Dataset, split: Split | None, settings: CompareSettings
) -> dict[str, Any]:
    """Return the description of a result's pictures as JSON-compatible values.

    A limit of the number of pictures or more takes all, which is not a subset.

    `scored_on` reads this back, as figures of different protocols can't be ranked together.
    """
    spec, all_taken = dataset.spec, settings.limit is None and settings.sample is None
    if not all_taken:
        whole = everything if split is None else part(everything, split, part_of(settings))
        all_taken = len(dataset.samples) == len(whole.samples)
    subset = _subset(settings, all_taken=all_taken)
    content: dict[str, Any] = {"protocol": "", "subset": subset, "split": None}
    protocol = part_name = ""
    if split is not None:
        protocol, part_name = split.protocol, part_of(settings)
        content["split"] = {
            "protocol": protocol,
            "part": part_name,
            "parts": sorted(select_parts(split, part_name)),
            "fingerprint": split.fingerprint,
            "parameters": plain(split.parameters),
            "unused": len(split.unused),
        }
    scored = Scored(spec.name, protocol, part_name, spec.label_kind, subset)
    return {**content, "protocol": scored.label}


def scored_on(dataset: PublicDataset) -> Scored:
    """Return the pictures that a result was measured on.

    Two of these are the arguments of `agebench.harness.comparability.comparable`.
    """
    split = dataset.split
    return Scored(
        dataset=dataset.name,
        protocol="" if split is None else split.protocol,
        part="" if split is None else split.part,
        label_kind=dataset.label_kind,
        pictures=dataset.subset,
        content_sha256=dataset.content_sha256,
    )
