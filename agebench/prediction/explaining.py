"""How much each view (face, eyes, mouth) moved the answer: it is left out, and the age compared."""

from __future__ import annotations

import numpy as np

from agebench.errors import AgebenchError, UsageError
from agebench.prediction.predictor import ask
from agebench.protocols import Estimator
from agebench.types import Crops
from agebench.util.foreign_code import foreign_code


def check_explainable(name: str, estimator: Estimator) -> None:
    """Check, on black crops, that an estimator can do without each of its views.

    Raises:
        UsageError: it has a single view, or can't do without one of them.
    """
    spec = estimator.spec.crop
    if len(spec.views) < 2:
        (view,) = spec.views
        raise UsageError(
            f"--explain leaves out one view at a time, but {name!r} uses only {view!r}: name an "
            "estimator with several views, such as an exported multi-crop model "
            "(onnx:FILE)"
        )
    black = Crops(
        {view: np.zeros((1, *shape.size_hw, 3), np.uint8) for view, shape in spec.views.items()},
        {view: np.ones(1, np.bool_) for view in spec.views},
        {view: np.zeros(1) for view in spec.views},
    )
    for view in spec.views:
        try:
            with foreign_code(estimator, "predict"):
                estimator.predict(black.without(view))
        except AgebenchError as error:
            raise UsageError(
                f"--explain can't leave {view!r} out: {name!r} needs it ({error})"
            ) from error


def moved_years(estimator: Estimator, crops: Crops) -> list[dict[str, float | None]]:
    """Return for each face by how many years each view moved the age.

    It is the age with all views less the age without that one: above 0 if the view makes the
    person older.  None for a view that the face lacks anyway, or without which there is no age.
    """
    whole = ask(estimator, crops)
    moved: list[dict[str, float | None]] = [{} for _ in whole]
    for view in estimator.spec.crop.views:
        for row, answer in enumerate(ask(estimator, crops.without(view))):
            with_all, had = whole[row].years, bool(crops.present[view][row])
            known = with_all is not None and answer.years is not None and had
            moved[row][view] = with_all - answer.years if known else None  # type: ignore[operator]  # known says so
    return moved
