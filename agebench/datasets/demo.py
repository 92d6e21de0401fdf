"""One picture that is part of scikit-image, to try things without any data set."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from agebench.datasets.base import SampleList
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import Sample

SPEC = DatasetSpec(
    name="demo",
    label_kind="unknown",
    licence="public domain (NASA)",
    source="scikit-image, skimage.data.astronaut",
    citation="NASA portrait of Eileen Collins",
)

APPROXIMATE_AGE_YEARS = 36.0
"""Born in November 1956; the portrait is from about 1993.  For demonstration only."""


def load() -> SampleList:
    """Return the astronaut's portrait with an approximate age: a demonstration, not a measurement.

    Raises:
        DatasetError: this scikit-image does not contain the picture.
    """
    spec = find_spec("skimage")
    locations = spec.submodule_search_locations if spec is not None else None
    picture = Path(next(iter(locations or [""]))) / "data" / "astronaut.png"
    if not picture.is_file():
        raise DatasetError(
            f"{picture} is missing from scikit-image; reinstall it with: pip install "
            "--force-reinstall scikit-image"
        )
    return SampleList(SPEC, (Sample(picture, "astronaut.png", APPROXIMATE_AGE_YEARS),))
