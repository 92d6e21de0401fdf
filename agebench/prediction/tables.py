"""Ages for a batch of a table: for Ray Data's `map_batches` and Spark's `mapInPandas`.

Both pass tables in pieces, to many processes, and return the pieces of a new table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from agebench.errors import MissingDependencyError, UsageError
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.records import AgeAnswer, PredictedFace, PredictedPicture

if TYPE_CHECKING:
    from pandas import DataFrame

Column: TypeAlias = npt.NDArray[Any]

TYPES: Mapping[str, str] = {
    "status": "string",
    "reason": "string",
    "face": "int",
    "left": "double",
    "top": "double",
    "right": "double",
    "bottom": "double",
    "score": "double",
    "estimator": "string",
    "years": "double",
    "low_80": "double",
    "high_80": "double",
}
"""The added columns, with their Spark types."""

_NUMPY = {"string": object, "int": np.int32, "double": np.float64}


class PredictBatch:
    """A function from a batch of pictures to a batch of faces with ages.

    One row per face and estimator; a picture without any face, or one that can't be read, has one
    row with face 0.  Missing numbers are NaN.  Models are loaded at the first batch, once per
    process; until then the object only contains names, so that it can be sent to other processes.

    Args:
        estimators: one or several, by name.
        detector: by name; None takes the best available, which should be named where many
            machines must do alike.
        picture: the column with paths, bytes of files, or arrays of B, G, R.
        keep: columns that are carried over, such as an identifier.

    Raises:
        UsageError: a column to keep has the name of one that is added.

    >>> function = PredictBatch("constant years=30", detector="aligned", keep=("id",))
    >>> black = np.zeros((1, 64, 64, 3), np.uint8)
    >>> faces = function({"picture": black, "id": np.array([7])})
    >>> faces["id"].tolist(), faces["face"].tolist(), faces["years"].tolist()
    ([7], [1], [30.0])
    """

    def __init__(
        self,
        estimators: str | Sequence[str] | None = None,
        *,
        detector: str | None = None,
        picture: str = "picture",
        keep: Sequence[str] = (),
    ) -> None:
        taken = sorted(set(keep) & TYPES.keys())
        if taken:
            raise UsageError(f"column {taken[0]!r} can't be kept: an output column has that name")
        self.estimators, self.detector = estimators, detector
        self.picture, self.keep = picture, tuple(keep)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to another process: no loaded model."""
        return {name: value for name, value in vars(self).items() if name != "_predictor"}

    @cached_property
    def _predictor(self) -> AgePredictor:
        return AgePredictor(self.estimators, detector=self.detector)

    def __call__(self, batch: Mapping[str, Column]) -> dict[str, Column]:
        """Return the faces of a batch; Ray Data calls this.

        Args:
            batch: columns by name, all of one length.

        Raises:
            UsageError: a column is missing, or what it holds is not a picture.
            AgebenchError: a model file is not available.
        """
        for name in (self.picture, *self.keep):
            if name not in batch:
                raise UsageError(f"the batch has no column {name!r}, only {', '.join(batch)}")
            if isinstance(batch[name], (str, bytes)):
                raise UsageError(f"expected a column of values for {name!r}, got a single value")
        rows: list[dict[str, Any]] = []
        origin: list[int] = []
        for index, picture in enumerate(batch[self.picture]):
            found = list(_rows(self._answer(_plain(picture))))
            rows += found
            origin += [index] * len(found)
        kept = {name: _taken(batch[name], origin) for name in self.keep}
        return kept | {
            name: np.array([row[name] for row in rows], _NUMPY[kind])
            for name, kind in TYPES.items()
        }

    def _answer(self, picture: Any) -> PredictedPicture:
        if picture is None or (isinstance(picture, float) and np.isnan(picture)):  # null cells
            reason = "there is no picture in this row"
            return PredictedPicture("", "", (), status="unreadable", reason=reason)
        return self._predictor.predict_one(picture, name="")

    def in_pandas(self, frames: Iterable[DataFrame]) -> Iterator[DataFrame]:
        """Yield the faces of each data frame; Spark's `mapInPandas` calls this.

        Raises:
            MissingDependencyError: there is no pandas.
            UsageError, AgebenchError: as for a batch.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError("data frames need pandas: pip install pandas") from error
        for frame in frames:
            columns = {str(name): frame[name].to_numpy() for name in frame.columns}
            found = self(columns).items()
            yield pd.DataFrame(
                {name: rows if rows.ndim == 1 else list(rows) for name, rows in found}
            )

    def schema(self, kept: Mapping[str, str]) -> str:
        """Return the result's columns as Spark writes a schema.

        Args:
            kept: Spark's types of the columns in `keep`, by name.

        Raises:
            UsageError: the type of one is missing.

        >>> PredictBatch("constant").schema({}).split(", ")[2]
        '`face` int'
        """
        missing = [name for name in self.keep if name not in kept]
        if missing:
            raise UsageError(f"the type of column {missing[0]!r} is needed, such as 'string'")
        types = {**{name: kept[name] for name in self.keep}, **TYPES}
        return ", ".join(f"`{name}` {kind}" for name, kind in types.items())


def _plain(value: object) -> Any:
    """Return a cell as `to_image` takes it."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, np.generic):  # a path in a column of fixed width
        return cast("object", value.item())
    return value


def _taken(column: Column, rows: Sequence[int]) -> Column:
    return np.asarray(column)[np.asarray(rows, np.intp)]


def _rows(picture: PredictedPicture) -> Iterator[dict[str, Any]]:
    common = {"status": picture.status, "reason": picture.reason}
    nothing = dict.fromkeys(("left", "top", "right", "bottom", "score"), np.nan)
    if not picture.faces:
        yield {**common, "face": 0, **nothing, "estimator": "", **_age(AgeAnswer(None))}
    for number, face in enumerate(picture.faces, start=1):
        for estimator, answer in face.ages.items():
            # A failure of the estimator is this row's own.
            yield {
                **common,
                "reason": answer.reason or picture.reason,
                "face": number,
                **_place(face),
                "estimator": estimator,
                **_age(answer),
            }


def _place(face: PredictedFace) -> dict[str, float]:
    corners = zip(("left", "top", "right", "bottom"), face.face.box_xyxy, strict=True)
    return {**{name: float(value) for name, value in corners}, "score": float(face.face.score)}


def _age(answer: AgeAnswer) -> dict[str, float]:
    low, high = answer.interval_80 or (np.nan, np.nan)
    return {
        "years": np.nan if answer.years is None else answer.years,
        "low_80": low,
        "high_80": high,
    }
