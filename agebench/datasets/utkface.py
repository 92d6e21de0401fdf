"""UTKFace: the aligned chips, or the pictures in the wild; age, gender and race in the names."""

from __future__ import annotations

from collections import Counter
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

_Parsed: TypeAlias = tuple[FoundFile, UtkName]


def load(root: Path, layout: Layout = "auto") -> SampleList:
    """List UTKFace, at any depth below `root`.

    A set has one layout, since aligned chips need another detector than pictures in the wild.
    With "auto" it is the layout that more than half of the names tell (chips are named
    ``.chip.jpg``); the others are left out.  With "chips" or "wild" all pictures are taken for
    that, whatever they are called.  `spec.aligned` and `spec.notes` say what was decided.

    Sample attributes: "gender" and "race" in words, where known; "label_note" on a picture whose
    malformed name lacks one of them.

    Raises:
        DatasetError: `root` is no folder or holds no usable picture.
    """
    require_folder(root, SPEC.name, "names such as 26_1_2_20170117175041574.jpg.chip.jpg")
    files, problems = list_files(root, lambda name: name.lower().endswith(_ENDINGS))
    parsed: list[_Parsed] = []
    for file in files:
        label = parse_utkface(file.base_name)
        if isinstance(label, Problem):
            problems.append(replace(label, name=file.name))
        else:
            parsed.append((file, label))
    aligned, note = _decide(layout, parsed)
    if layout == "auto":
        problems += [_other_layout(file, aligned) for file, name in parsed if name.chip != aligned]
        parsed = [(file, name) for file, name in parsed if name.chip == aligned]
    spec = replace(SPEC, aligned=aligned, notes=(note, *_irregularities(parsed)))
    return finished(spec, root, (_sample(file, name) for file, name in parsed), problems)


def _decide(layout: Layout, parsed: list[_Parsed]) -> tuple[bool, str]:
    """Return whether the pictures are aligned chips, and a note that says why."""
    chips = sum(name.chip for _, name in parsed)
    aligned = 2 * chips > len(parsed) if layout == "auto" else layout == "chips"
    kind = "aligned chips" if aligned else "pictures in the wild"
    count = f"{chips} of {len(parsed)} names end in .chip.jpg"
    return aligned, f"taken as {kind} (layout={layout}): {count}"


def _other_layout(file: FoundFile, aligned: bool) -> Problem:
    mixed = (
        "named as a picture in the wild among aligned chips (layout=chips takes it as a chip)"
        if aligned
        else "named as an aligned chip among pictures in the wild (layout=wild takes it too)"
    )
    return Problem(file.name, mixed)


def _irregularities(parsed: list[_Parsed]) -> list[str]:
    notes = []
    incomplete = sum(bool(name.note) for _, name in parsed)
    if incomplete:
        notes.append(f"{incomplete} kept with their age though their names lack gender or race")
    copies = Counter(file.base_name for file, _ in parsed)
    repeated = sum(count > 1 for count in copies.values())
    if repeated:
        notes.append(f"{repeated} file names occur in several folders: pictures may be repeated")
    return notes


def _sample(file: FoundFile, name: UtkName) -> Sample:
    labels = {"gender": name.gender, "race": name.race, "label_note": name.note}
    return Sample(
        path=file.path,
        name=file.name,
        age_years=float(name.age_years),
        attributes={key: value for key, value in labels.items() if value},
    )
