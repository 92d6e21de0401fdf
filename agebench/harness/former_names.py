"""What result files of earlier versions call what has another name today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

WITH_IMAGES = (1, 2)
"""Versions in which the list of pictures was called "images", and their counts "pictures"."""

_OF_RESULT = {"pictures": "counts", "images": "pictures"}
_OF_PICTURE = {"image": "picture"}
_OF_LIST = {"images": "pictures"}
_OF_SETTINGS = {"latency_images": "latency_pictures"}


def with_present_names(content: Any) -> Any:
    """Return the content of a result file with the names of today, whatever version wrote it.

    What has another name is all that changes: figures and `schema_version` stay.  What is damaged
    is left as it is: reading it as a result names the fault.
    """
    if not isinstance(content, dict) or content.get("schema_version") not in WITH_IMAGES:
        return content
    return dict(_present(_renamed(content, _OF_RESULT)))


def _present(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        match name, value:
            case "pictures", list():
                yield name, [_renamed(item, _OF_PICTURE) for item in value]
            case "estimators", list():
                yield name, [_estimator(item) for item in value]
            case "settings", dict():
                yield name, _renamed(value, _OF_SETTINGS)
            case _:
                yield name, value


def _estimator(item: Any) -> Any:
    seen = item.get("seen_in_training") if isinstance(item, dict) else None
    if not isinstance(seen, dict):
        return item
    renamed = _renamed(seen, _OF_LIST)
    if "near_copies" in renamed:
        renamed["near_copies"] = _renamed(renamed["near_copies"], _OF_LIST)
    return {**item, "seen_in_training": renamed}


def _renamed(record: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(record, dict):
        return record
    return {names.get(name, name): value for name, value in record.items()}
