"""UTKFace: the aligned chips, or the pictures in the wild; age, gender and race in the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from agebench.datasets.base import FoundFile, SampleList, finished, list_files, require_folder
from agebench.datasets.names import UtkName, parse_utkface
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample

Layout: TypeAlias = Literal["auto", "chips", "wild"]

SPEC = DatasetSpec(
    name="utkface",
    label_kind="dex-estimated",
    licence="non-commercial research only",
    source="https://susanqq.github.io/UTKFace/",
    citation=(
        "Zhang, Song, Qi: Age Progression/Regression by Conditional Adversarial Autoencoder, "
        "CVPR 2017"
    ),
)

# Two pictures of the set lack the dot or a letter of their suffix: "…357jpg" and "…272.pg".
_ENDINGS = ("jpg", "jpeg", "png", "pg")


def load(root: Path, layout: Layout = "auto") -> SampleList:
    """List UTKFace, at any depth below `root`.

    A set has one layout, since aligned chips need another detector than pictures in the wild.  With
    "auto" it is the layout of more than half of the names (chips are named ``.chip.jpg``); the
    others are omitted.  With "chips" or "wild" all pictures are used as such, whatever their names.
    `spec.aligned` and `spec.notes` document the decision.

    Sample attributes: "gender" and "race" in words, if known; "label_note" on a picture whose
    malformed name lacks one of them.

    Raises:
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    require_folder(root, SPEC.name, "names such as 26_1_2_20170117175041574.jpg.chip.jpg")
    files, problems = list_files(root, lambda name: name.lower().endswith(_ENDINGS))
    # Parsing a name again takes less memory than keeping the result.
    named: dict[bool, list[FoundFile]] = {True: [], False: []}  # by whether they are named as chips
    incomplete = {True: 0, False: 0}
    for file in files:
        label = parse_utkface(file.base_name)
        if isinstance(label, Problem):
            problems.append(replace(label, name=file.name))
        else:
            named[label.chip].append(file)
            incomplete[label.chip] += bool(label.note)
    aligned, note = _decide(layout, len(named[True]), len(named[True]) + len(named[False]))
    if layout == "auto":
        problems += [_other_layout(file, aligned) for file in named.pop(not aligned)]
    used = sorted((file for group in named.values() for file in group), key=lambda file: file.name)
    notes = _irregularities(used, sum(incomplete[chips] for chips in named))
    spec = replace(SPEC, aligned=aligned, notes=(note, *notes))
    return finished(spec, root, map(_sample, used), problems)


def _decide(layout: Layout, chips: int, total: int) -> tuple[bool, str]:
    """Return whether the pictures are aligned chips, and a note with the reason."""
    aligned = 2 * chips > total if layout == "auto" else layout == "chips"
    kind = "aligned chips" if aligned else "pictures in the wild"
    count = f"{chips} of {total} names end in .chip.jpg"
    return aligned, f"taken as {kind} (layout={layout}): {count}"


def _other_layout(file: FoundFile, aligned: bool) -> Problem:
    mixed = (
        "named as a picture in the wild among aligned chips (layout=chips takes it as a chip)"
        if aligned
        else "named as an aligned chip among pictures in the wild (layout=wild takes it too)"
    )
    return Problem(file.name, mixed)


def _irregularities(files: Sequence[FoundFile], incomplete: int) -> list[str]:
    notes = []
    if incomplete:
        notes.append(f"{incomplete} kept with their age though their names lack gender or race")
    repeated = sum(count > 1 for count in Counter(file.base_name for file in files).values())
    if repeated:
        notes.append(f"{repeated} file names occur in several folders: pictures may be repeated")
    return notes


def _sample(file: FoundFile) -> Sample:
    name = parse_utkface(file.base_name)
    assert isinstance(name, UtkName)  # noqa: S101 - it was when it was first parsed
    labels = {"gender": name.gender, "race": name.race, "label_note": name.note}
    return Sample(
        path=file.path,
        name=file.name,
        age_years=float(name.age_years),
        attributes={key: value for key, value in labels.items() if value},
    )
