"""Types of a result file: its pictures and their predictions.

There may be very many, so they stay dictionaries as parsed from JSON, after being checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from agebench.types import MAX_AGE_YEARS
from agebench.util.record_fields import (
    Between,
    By,
    Count,
    Fraction,
    Number,
    StructureError,
    Text,
    Years,
)
from agebench.util.typed_records import decoder

_LabelYears: TypeAlias = Annotated[int, Between(0, int(MAX_AGE_YEARS))]
_TWO_YEARS = decoder(tuple[_LabelYears, _LabelYears])


def _age_range(value: Any) -> tuple[int, int]:
    first, last = _TWO_YEARS(value)
    if first > last:
        raise StructureError("a range of ages in ascending order", value)
    return first, last


AgeRange: TypeAlias = Annotated[Sequence[int], By(_age_range)]
Ends: TypeAlias = Annotated[Sequence[float], By(decoder(tuple[Number, Number]))]
Corners: TypeAlias = Annotated[Sequence[float], By(decoder(tuple[Number, Number, Number, Number]))]


class Prediction(TypedDict):
    """The prediction of one estimator for one picture."""

    status: Text
    years: Years | None
    reason: NotRequired[str]
    class_index: NotRequired[Annotated[int, Between(-1, 32767)] | None]
    outside: NotRequired[Fraction]
    nll: NotRequired[Number | None]
    crps_years: NotRequired[Number | None]
    pit: NotRequired[Number | None]
    interval_50: NotRequired[Ends | None]
    interval_80: NotRequired[Ends | None]
    interval_95: NotRequired[Ends | None]


class Picture(TypedDict):
    """One picture."""

    picture: Text
    sha256: str
    true_years: Years | None
    identity: str | None
    attributes: Mapping[str, str]
    status: Text
    faces: Count
    box_xyxy: Corners | None
    predictions: Mapping[str, Prediction]
    reason: NotRequired[str]
    true_range: NotRequired[AgeRange | None]


class StoredPicture(Picture):
    """One picture with all fields that the present version writes."""

    detector_score: float | None
    landmarks_xy: Sequence[Sequence[float]]
    landmark_scheme: str
    frame_from: str
