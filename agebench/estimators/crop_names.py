"""Named crops for the [crop] table of spec files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Border: TypeAlias = Literal["replicate", "constant", "clip"]


@dataclass(frozen=True, slots=True)
class NamedCrop:
    """The definition of a named crop; see `agebench.types.ViewSpec`.

    Attributes:
        what: description.
        region, margin, margin_px, align, border: of the view.
    """

    what: str
    region: str
    margin: float = 0.0
    margin_px: float = 0.0
    align: bool = False
    border: Border = "replicate"


CROPS: Mapping[str, NamedCrop] = MappingProxyType(
    {
        "face": NamedCrop("the face from forehead to chin, as detectors box it", "face"),
        "square": NamedCrop("a square whose side is the face's longer side", "square"),
        "insightface": NamedCrop(
            "1.5 times the longer side, as for InsightFace's attribute models",
            "square",
            margin=0.25,
            border="constant",
        ),
        "imdb-wiki": NamedCrop(
            "40 % more on every side, the margin of IMDB-WIKI's own crops", "square", margin=0.4
        ),
        "arcface-112": NamedCrop(
            "eyes, nose and mouth on ArcFace's five points",
            "arcface-112",
            align=True,
            border="constant",
        ),
        "dlib-chip": NamedCrop(
            "dlib's face chip with padding 0.25, which is UTKFace's frame", "chip", align=True
        ),
        "chip": NamedCrop("the same place, upright in the picture", "chip"),
        "adience": NamedCrop(
            "the face and 20 pixels on every side, as for Levi and Hassner's networks",
            "face",
            margin_px=20.0,
            border="clip",
        ),
        "original": NamedCrop("the whole picture", "original"),
    }
)
"""Every named crop; drawn in docs/spec-file.md."""
