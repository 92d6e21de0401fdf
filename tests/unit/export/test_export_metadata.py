"""What an exported file says of itself: written, read back, and refused where it is invalid."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agebench.errors import ModelError
from agebench.export.candidate import Candidate
from agebench.runtimes.onnx_metadata import (
    FileSpec,
    FileView,
    from_properties,
    to_properties,
    views_of,
)
from agebench.types import CropSpec, ViewSpec


def test_it_reads_back_as_it_was_written(tiny: Candidate) -> None:
    written = replace(tiny.spec, notes=("ä \u202e",), classes=True, decode="median")
    properties = {"someone": "else's", **to_properties(written)}
    assert from_properties(properties, "x.onnx", FileSpec) == written


def test_views_keep_every_setting() -> None:
    view = ViewSpec("eyes", (5, 7), margin=0.25, margin_px=3.0, align=True, max_outside=0.5)
    (written,) = views_of(CropSpec({"both": view}))
    assert written.view() == view


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bins": [[0, 10], [5, 30], [31, 90]]}, "bins must be ascending ranges"),
        ({"bin_years": [5, 20]}, "bin_years must be one age"),
        ({"bin_years": [5, 20, 130]}, "bin_years must be one age of 0..120"),
        ({"views": []}, "expected 1 to 16 views"),
        ({"name": "../../x"}, "can't be called"),
        ({"decode": "mode"}, "decode: unknown value"),
        ({"channel_order": "rgb"}, "channel_order: unknown value"),
        ({"label_kind": 3}, "label_kind: expected one of"),
        ({"surprise": 1}, "surprise: unknown key"),
        ({"sources": [{"file": "a", "sha256": "12"}]}, "64 lower-case hex digits"),
    ],
)
def test_values_that_do_not_fit_are_named(
    tiny: Candidate, change: dict[str, object], message: str
) -> None:
    properties = to_properties(tiny.spec)
    values = {**json.loads(properties["agebench.spec"]), **change}
    properties["agebench.spec"] = json.dumps(values)
    with pytest.raises(ModelError, match=f"x.onnx: its metadata is invalid: .*{message}"):
        from_properties(properties, "x.onnx", FileSpec)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "2", "of format '2', this agebench reads format 1"),
        ("kind", "face-detector", "has the kind 'face-detector', expected 'age-estimator'"),
        ("spec", "{", "not valid JSON"),
        ("spec", "[" * 100_000, "not valid JSON"),
        ("spec", "[1]", "must be a JSON object"),
        ("spec", "x" * (1 << 21), "has more than 1,048,576 bytes"),
        ("spec", '{"name": NaN}', "is invalid"),
    ],
)
def test_properties_that_do_not_fit_are_refused(
    tiny: Candidate, key: str, value: str, message: str
) -> None:
    properties = {**to_properties(tiny.spec), f"agebench.{key}": value}
    with pytest.raises(ModelError, match=message):
        from_properties(properties, "x.onnx", FileSpec)


def test_a_file_without_metadata_is_told_what_to_do(tiny: Candidate) -> None:
    with pytest.raises(ModelError, match=r"without agebench's metadata.*'spec:FILE.toml'"):
        from_properties({"author": "someone"}, "x.onnx", FileSpec)
    half = {key: text for key, text in to_properties(tiny.spec).items() if "spec" not in key}
    with pytest.raises(ModelError, match=r"lacks agebench\.spec"):
        from_properties(half, "x.onnx", FileSpec)


def test_one_view_alone_can_not_be_missing(tiny: Candidate) -> None:
    with pytest.raises(ValueError, match="a single view can't be missing"):
        replace(tiny.spec, views=tiny.spec.views[:1])
    with pytest.raises(ValueError, match="is taken"):
        FileView("age", "face", (4, 4))
