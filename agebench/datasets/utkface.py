"""UTKFace: the aligned chips, or the pictures in the wild; age, gender and race in the names."""

from __future__ import annotations

import re
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
_PICTURE = re.compile(r"(?:jpe?g|png|pg)$", re.IGNORECASE)

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
    files, problems = list_files(root, lambda name: bool(_PICTURE.search(name)))
    parsed: list[_Parsed] = []
    for file in files:
        label = parse_utkface(file.base_name)
        if isinstance(label, Problem):
            problems.append(replace(label, name=file.name))
        else:
            parsed.append((file, label))
    chips = sum(label.chip for _, label in parsed)
    aligned = layout == "chips" or (layout == "auto" and 2 * chips > len(parsed))
    if layout == "auto":
        problems += [_wrong_layout(file, aligned) for file, label in parsed if label.chip != aligned]
        parsed = [(file, label) for file, label in parsed if label.chip == aligned]
    kind = "aligned chips" if aligned else "pictures in the wild"
    told = "told by" if layout == "auto" else f"as asked by layout={layout};"
    total = len(parsed) if layout != "auto" else len(parsed) + _minority(chips, parsed, aligned)
    notes = [f"taken as {kind}, {told} {chips} of {total} names ending in .chip.jpg"]
    spec = replace(SPEC, aligned=aligned, notes=(*notes, *_notes(parsed)))
    return finished(spec, root, (_sample(*pair) for pair in parsed), problems)
