"""Former names of keys in result files, so that files of earlier versions can be read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Renamed: TypeAlias = Mapping[tuple[str, ...], str]
"""The present name by the path of the former key; "*" matches any key and any item of a list."""

_UP_TO_2: Renamed = MappingProxyType(
    {
        ("pictures",): "counts",
        ("images",): "pictures",
        ("images", "*", "image"): "picture",
        ("estimators", "*", "seen_in_training", "images"): "pictures",
        ("estimators", "*", "seen_in_training", "near_copies", "images"): "pictures",
        ("settings", "latency_images"): "latency_pictures",
    }
)
_UP_TO_3: Renamed = MappingProxyType(
    {
        ("settings", "workers"): "decode_threads",
        ("timing", "control", "floor"): "noise_floor",
        ("analysis", "settings", "floor"): "baseline",
        ("analysis", "estimators", "*", "apart"): "unranked_reason",
        ("analysis", "estimators", "*", "gates"): "age_thresholds",
        ("analysis", "estimators", "*", "calibration", "coverage", "*", "share"): "fraction",
    }
)
_BY_VERSION: Mapping[float, tuple[Renamed, ...]] = {
    1: (_UP_TO_2, _UP_TO_3),
    2: (_UP_TO_2, _UP_TO_3),
    3: (_UP_TO_3,),
}


def with_present_names(content: Any) -> Any:
    """Return the content of a result file with present key names, whatever version wrote it.

    Only keys are renamed: figures and `schema_version` stay as they are, and so does anything
    damaged, which is reported when the content is read as a result.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    for names in _BY_VERSION.get(version, ()) if isinstance(version, (int, float)) else ():
        content = renamed_keys(content, names)
    return content


def renamed_keys(value: Any, names: Renamed) -> Any:
    """Return nested JSON with the keys that `names` lists renamed.

    >>> renamed_keys({"a": [{"old": 1}]}, {("a", "*", "old"): "new"})
    {'a': [{'new': 1}]}
    """
    if not names or not isinstance(value, (dict, list)):
        return value
    deeper = [(path, new) for path, new in names.items() if len(path) > 1]

    def below(key: str) -> Renamed:
        return {path[1:]: new for path, new in deeper if path[0] in ("*", key)}

    if isinstance(value, list):
        return [renamed_keys(item, below("*")) for item in value]
    here = {path[0]: new for path, new in names.items() if len(path) == 1}
    return {here.get(key, key): renamed_keys(item, below(key)) for key, item in value.items()}
