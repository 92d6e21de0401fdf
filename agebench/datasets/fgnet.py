"""FG-NET: 1,002 scanned family photographs of 82 people, with their 68 landmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agebench.datasets.base import (
    FoundFile,
    SampleList,
    finished,
    list_files,
    require_folder,
)
from agebench.datasets.names import parse_fgnet
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample

SPEC = DatasetSpec(
    name="fgnet",
    # The photographs are dated and the dates of birth known, so these are ages, not guesses.
    label_kind="birth-age",
    licence="research only; private family photographs",
    source="https://yanweifu.github.io/FG_NET_data/",
    citation=(
        "Panis, Lanitis, Tsapatsoulis, Cootes: Overview of research on facial ageing using the "
        "FG-NET ageing database, IET Biometrics 5(2), 2016"
    ),
)

_POINTS_SUFFIX = ".pts"


def load(root: Path) -> SampleList:
    """List FG-NET under `root`: the folder with ``images`` and ``points``, or with the pictures.

    Folder and file names may be in any case.  Landmarks are searched for in ``points`` inside
    `root` or, if `root` is the picture folder itself, next to it.  `Sample.identity` is the
    subject's three digits, `Sample.landmarks_path` the 68-point file if there is one.

    Raises:
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    require_folder(root, SPEC.name, "images/ (001A02.JPG, ...) and points/")
    images = _folder(root, "images") or root
    found, listed = list_files(images)
    prefix = "" if images == root else images.name + "/"
    problems = [Problem(prefix + problem.name, problem.reason) for problem in listed]
    files = [FoundFile(root, prefix + file.name) for file in found]
    points = _points(root, images)
    samples: list[Sample] = []
    for file in files:
        label = parse_fgnet(file.base_name)
        if isinstance(label, Problem):
            problems.append(replace(label, name=file.name))
            continue
        samples.append(
            Sample(
                path=file.path,
                name=file.name,
                age_years=float(label.age_years),
                identity=label.subject,
                landmarks_path=points.get(_key(file)),
            )
        )
    without = sum(sample.landmarks_path is None for sample in samples)
    notes = (f"{without} of {len(samples)} pictures have no points file",) if without else ()
    return finished(replace(SPEC, notes=notes), root, samples, problems)


def _folder(parent: Path, name: str) -> Path | None:
    """Return the folder with that name in any case, not a link; of several the first sorted."""
    try:
        found = sorted(entry for entry in parent.iterdir() if entry.name.lower() == name)
        return next((entry for entry in found if entry.is_dir() and not entry.is_symlink()), None)
    except OSError:  # a root that can't be listed is reported when its pictures are looked for
        return None


def _points(root: Path, images: Path) -> dict[str, Path]:
    """Return the landmark files by the lower-case stem of their picture."""
    folder = _folder(root, "points")
    if folder is None and images == root:
        # Absolute, so that "." too has a folder around it.
        folder = _folder(root.absolute().parent, "points")
    if folder is None:
        return {}
    files, _ = list_files(folder, lambda name: name.lower().endswith(_POINTS_SUFFIX))
    return {
        _key(file): file.path for file in sorted(files, key=lambda file: file.name, reverse=True)
    }


def _key(file: FoundFile) -> str:
    return Path(file.base_name).stem.strip().lower()
