"""The table that converts a network's age classes to years, with the data it was fitted on.

It is a JSON file, written by ``agebench fit-years`` and read by the estimators that have classes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from agebench.errors import AgebenchError, UsageError, suggestion
from agebench.metrics.age_classes import YEARS_RULES
from agebench.metrics.intervals import MINIMUM_PICTURES
from agebench.metrics.number_format import counted
from agebench.protocols import EstimatorSpec
from agebench.types import MAX_AGE_YEARS, Setting, frozen_mapping, plain
from agebench.util.files import read_whole, write_whole
from agebench.util.record_fields import By, Count, FromOne, Years
from agebench.util.typed_records import decoder, read_record

FORMAT = "agebench-class-years"
FORMAT_VERSION = 1
LARGEST_BYTES = 1_000_000

_SCORED_PART = re.compile(r"(?:test|val|fold-[0-9]+|person-.+|not-(?!fold-[0-9]+\Z|person-.).*)\Z")


def require_training_part(part: str) -> None:
    """Refuse a part that is used for testing: "test", "val", a fold or a person.

    Raises:
        UsageError: `part` is one, or includes one; "not-fold-0" is not, "not-train" is.
    """
    for name in part.split("+"):
        if not name or _SCORED_PART.match(name.lower()):
            raise UsageError(
                f"part {part!r} is for testing: a table of years fitted on it would bias the "
                "results; use 'train', or all but a fold, such as 'not-fold-0'"
            )


@dataclass(frozen=True, slots=True)
class ClassYears:
    """The years that each class stands for.

    Attributes:
        classes: labels of the classes, such as "25-32".
        years: one per class, 0 to `MAX_AGE_YEARS`.
        rule: the rule of `age_classes.years_from_classes` that they were fitted for.
        protocol, part: the training part that they were fitted on.
        pictures: how many it has.
        content_sha256: over names, labels and contents of those pictures.
        label_kind: how their ages came about.
        weights_sha256: of the network's file.
        settings: of the estimator, those that affect its probabilities.
        likeliest: number of pictures for which each class was the most probable one; not in the
            file, so only known after fitting.

    Raises:
        ValueError: a value is out of range, or the numbers of classes and years differ.
        UsageError: `part` is used for testing.
    """

    classes: tuple[str, ...]
    years: tuple[Years, ...]
    rule: str
    protocol: str
    part: str
    pictures: FromOne
    content_sha256: str
    label_kind: str = "unknown"
    weights_sha256: str = ""
    settings: Annotated[Mapping[str, Setting], By(decoder(Mapping[str, Any]))] = field(
        default_factory=dict
    )
    likeliest: tuple[Count, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("expected at least one class, got none")
        if len(self.classes) != len(self.years):
            classes = counted(len(self.classes), "class", "classes")
            raise ValueError(f"expected the years of {classes}, got {len(self.years)}")
        if not all(0.0 <= age <= MAX_AGE_YEARS for age in self.years):
            raise ValueError(f"years must be 0 to {MAX_AGE_YEARS:g}, got {self.years}")
        if self.rule not in YEARS_RULES:
            hint = suggestion(self.rule, YEARS_RULES)
            raise ValueError(f"unknown rule {self.rule!r}: {hint}")
        if self.pictures < 1:
            raise ValueError(f"it was fitted on {self.pictures} pictures")
        require_training_part(self.part)
        object.__setattr__(self, "settings", frozen_mapping(self.settings))

    def doubts(self) -> tuple[str, ...]:
        """Return what makes the table doubtful, in sentences: few pictures, a wrong order."""
        found = []
        if self.pictures < MINIMUM_PICTURES:
            found.append(
                f"fitted to {counted(self.pictures, 'picture')}: at least {MINIMUM_PICTURES} for "
                "each class would be better"
            )
        backwards = [
            f"{later} ({self.years[index + 1]:.1f}) below {self.classes[index]} "
            f"({self.years[index]:.1f})"
            for index, later in enumerate(self.classes[1:])
            if self.years[index + 1] < self.years[index]
        ]
        if backwards:
            found.append(
                f"classes in the wrong order: {', '.join(backwards)}: fit to more pictures, or "
                "use the table only for comparison"
            )
        return tuple(found)

    @property
    def summary(self) -> str:
        """Return a sentence on what the years were fitted on."""
        return (
            f"years per class were fitted on {self.protocol}/{self.part} "
            f"({self.pictures} pictures, content {self.content_sha256[:12]})"
        )

    def write(self, path: str | Path) -> None:
        """Write the file that `read_class_years` reads.

        Raises:
            AgebenchError: the file can't be written.
        """
        content = {"format": FORMAT, "version": FORMAT_VERSION, **plain(self)}
        del content["likeliest"]
        write_whole(Path(path), json.dumps(content, indent=1, allow_nan=False) + "\n")

    def require_fit(self, spec: EstimatorSpec) -> None:
        """Refuse use with a network, or in a way, that it was not fitted for.

        Raises:
            UsageError: something differs; the message says what.
        """
        fitted = {
            "classes": self.classes,
            "years": self.rule,
            "weights": self.weights_sha256,
            **self.settings,
        }
        asked = {
            "classes": () if spec.classes is None else spec.classes.labels,
            "years": spec.decode,
            "weights": _weights(spec),
            **deciding_settings(spec),
        }
        for key in sorted({*asked, *fitted}):
            if asked.get(key) != fitted.get(key):
                raise UsageError(
                    f"the table of years does not fit {spec.name}: it was fitted with "
                    f"{key}={fitted.get(key)}, not with {key}={asked.get(key)}; "
                    "fit one with 'agebench fit-years'"
                )


def _weights(spec: EstimatorSpec) -> str:
    return spec.weights[0].sha256 if spec.weights else ""


def deciding_settings(spec: EstimatorSpec) -> dict[str, Setting]:
    """Return what an estimator's probabilities depend on besides its weights."""
    settings = {key: spec.settings[key] for key in spec.settings if key not in ("years", "table")}
    return {**settings, "crop": json.dumps(plain(spec.crop), sort_keys=True)}


def make_class_years(
    spec: EstimatorSpec, years: Sequence[float], fitted_on: Mapping[str, Any]
) -> ClassYears:
    """Create the table of an estimator.

    Args:
        spec: with classes and a rule of `age_classes.YEARS_RULES` as `decode`.
        years: one per class.
        fitted_on: protocol, part, pictures, content_sha256, label_kind and likeliest.
    """
    return ClassYears(
        classes=() if spec.classes is None else spec.classes.labels,
        years=tuple(map(float, years)),
        rule=spec.decode,
        weights_sha256=_weights(spec),
        settings=deciding_settings(spec),
        **fitted_on,
    )


def read_class_years(path: str | Path) -> tuple[ClassYears, str]:
    """Read a table, and the sha256 of its file.

    Raises:
        AgebenchError: there is no such file, or it is not such a table.
        UsageError: it was fitted on a part that is used for testing.
    """
    file = Path(path)
    expected = f"{str(file)!r} is not a table of years (make one with 'agebench fit-years')"
    data = read_whole(file, "a table of years", LARGEST_BYTES)
    try:
        table = _parse(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise AgebenchError(f"{expected}: {error}") from error
    return table, hashlib.sha256(data).hexdigest()


def _parse(content: Any) -> ClassYears:
    header = content if isinstance(content, dict) else {}
    if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
        raise ValueError(f"expected the format {FORMAT!r}, version {FORMAT_VERSION}")
    return read_record(content, ClassYears)
