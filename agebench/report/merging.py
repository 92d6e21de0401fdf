"""Several results of the same pictures as the JSON of one, to be analysed like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agebench.report.reading import ResultFile


def merged(results: Sequence[ResultFile], labels: Mapping[tuple[int, str], str]) -> dict[str, Any]:
    """Return what `agebench.harness.analysis.analyse` reads of a result, of all of them together.

    Args:
        results: of the same pictures in the same order.
        labels: what each estimator is called now, by position of its result and name.
    """
    estimators = [
        {**item, "name": labels[at, item["name"]]}
        for at, result in enumerate(results)
        for item in result.json["estimators"]
    ]
    images = []
    for same in zip(*(result.images for result in results), strict=True):
        predictions = {
            labels[at, name]: outcome
            for at, image in enumerate(same)
            for name, outcome in image["predictions"].items()
        }
        images.append({**same[0], "predictions": predictions})
    first = results[0].json
    return {
        "settings": first["settings"],
        "dataset": first["dataset"],
        "estimators": estimators,
        "images": images,
    }
