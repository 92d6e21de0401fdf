"""Names, references and settings: any text gives a value or one plain sentence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.conversion.darknet_files import parse_cfg
from agebench.datasets import adience, agfw, facial_age, fairface, fgnet, folders, utkface
from agebench.datasets.kaggle_merged import parse_kaggle_merged
from agebench.datasets.names import parse_age_label, parse_fgnet, parse_utkface
from agebench.errors import UsageError, inert
from agebench.modelfiles.manifest import bundled_dir, parse_manifest
from agebench.references import join_options, parse_reference
from agebench.runtimes.onnx_metadata import FileSpec, from_properties
from agebench.train.settings import read_settings, settings_from
from agebench.train.stability import history_from_json
from agebench.types import Problem
from tests.fuzz.mutations import changed, mutated, odd_values
from tests.fuzz.promises import FIGURES, counted, keeps_promise

NAMES: dict[str, tuple[Callable[[str], Any], str]] = {
    "utkface": (parse_utkface, "26_1_2_20170117175041574.jpg.chip.jpg"),
    "fgnet": (parse_fgnet, "001A02a.JPG"),
    "age label": (parse_age_label, "(25, 32)"),
    "kaggle-merged": (parse_kaggle_merged, "8_163.jpg"),
    "fairface group": (fairface.parse_group, "03-Sep"),
    "agfw group": (agfw.parse_group, "20-24"),
    "adience age": (adience.parse_age, "(38, 48)"),
}


@cache
def texts(seed: str) -> st.SearchStrategy[str]:
    """Return changed copies of a text, and any others; lone surrogates are file names too."""
    damaged = mutated(seed.encode(), most=3).map(lambda data: data.decode("utf-8", "replace"))
    escaped = mutated(seed.encode(), most=3).map(lambda data: data.decode(errors="surrogateescape"))
    return damaged | escaped | st.text(max_size=40)


@pytest.mark.parametrize("family", NAMES)
@given(data=st.data())
def test_names(family: str, data: st.DataObject) -> None:
    parse, seed = NAMES[family]
    text = data.draw(texts(seed))
    found = parse(text)
    counted("names", "refused" if isinstance(found, Problem) else "read")
    if isinstance(found, Problem):
        assert inert(found.reason) == found.reason


@given(text=texts("caffe-age-net:my/net.caffemodel@onnxruntime:cuda crops=10 years=midpoint"))
def test_references(text: str) -> None:
    keeps_promise("references", lambda: parse_reference(text))
    keeps_promise("references", lambda: join_options(text.split(" ")))


MANIFEST = (bundled_dir() / "weights.toml").read_bytes()[:2500].rpartition(b"\n[")[0] + b"\n"


@given(content=mutated(MANIFEST))
def test_manifest(content: bytes) -> None:
    text = content.decode(errors="replace")
    keeps_promise("manifest", lambda: parse_manifest(text))


SETTINGS = b"""epochs = 3
batch = 8
decode = "median"
[data]
dataset = "csv"
root = "list.csv"
[model.views.face]
region = "chip"
size_hw = [32, 32]
backbone = { depth = 10, width = 4 }
[optim]
learning_rate = 1e-3
[augment]
filters = { equalise = 0.1, jpeg = 0.1 }
"""


@given(content=mutated(SETTINGS))
def test_train_settings_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_bytes(content)
        keeps_promise("train settings", lambda: read_settings(path), Path(folder))


@given(override=texts("optim.learning_rate=1e-3"))
def test_train_overrides(override: str) -> None:
    keeps_promise("train settings", lambda: read_settings(None, [override]))


NEST: dict[str, Any] = {
    "epochs": 3,
    "batch": 8,
    "data": {"dataset": "csv", "root": "x", "train_fraction": 0.5, "longest_px": 64},
    "model": {
        "views": {"face": {"region": "chip", "size_hw": [32, 32], "backbone": {"depth": 10}}},
        "youngest": 0,
        "oldest": 90,
        "dense": 16,
    },
    "loss": {"name": "dldl-v2"},
    "augment": {"filters": {"jpeg": 0.1}},
    "bootstrap": {},
    "stability": {"min_epochs": 10},
    "optim": {"learning_rate": 0.1, "schedule": "cosine"},
}


@given(values=changed(NEST))
def test_train_settings_values(values: Any) -> None:
    if isinstance(values, dict):
        keeps_promise("train settings", lambda: settings_from(values, "x.toml"))


@given(name=st.sampled_from(sorted(NEST)), value=odd_values())
def test_train_settings_tables(name: str, value: Any) -> None:
    keeps_promise("train settings", lambda: settings_from({name: value}, "x.toml"))


@given(text=texts('[{"epoch": 1, "step_start": 0, "step_end": 5, "decision": "go on"}]'))
def test_history(text: str) -> None:
    keeps_promise("history of epochs", lambda: history_from_json(text))


@given(text=texts("[net]\nwidth=32\nheight=32\n[convolutional]\nfilters=8\nsize=3\nstride=1\n"))
def test_darknet_layout(text: str) -> None:
    keeps_promise("darknet layout", lambda: parse_cfg(text))


SPEC = (
    '{"name": "tiny", "views": [{"name": "face", "region": "face", "size_hw": [8, 8]}], '
    '"bins": [[0, 10], [11, 90]], "bin_years": [5, 50], "decode": "expectation", '
    '"licence": "CC0", "trained_on": "", "label_kind": "unknown", "sources": []}'
)


@given(text=texts(SPEC), version=st.sampled_from(("1", "2", "x")))
def test_properties_of_onnx_files(text: str, version: str) -> None:
    properties = {"agebench.spec": text, "agebench.format": version}
    properties["agebench.kind"] = "age-estimator"
    keeps_promise("ONNX metadata", lambda: from_properties(properties, "x.onnx", FileSpec))


FOLDER_SETS: dict[str, Callable[[Path], object]] = {
    "utkface": utkface.load,
    "fgnet": fgnet.load,
    "folders": folders.load,
    "facial-age": facial_age.load,
    "agfw": agfw.load,
}
_SEEDS = (b"26_1_2_20170117175041574.jpg", b"001A02.JPG", b"20-24/a.png", b"007/b.jpg", b"images")


def _place(folder: Path, name: bytes) -> None:
    """Make a file of that name where the system allows it."""
    try:
        path = os.path.join(os.fsencode(folder), *filter(None, name[:300].split(b"/")[:3]))  # noqa: PTH118 - names of bytes
        if b".." in name or b"\0" in name:
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - names of bytes
        with open(path, "xb"):  # noqa: PTH123 - a name of bytes
            pass
    except OSError:
        return


@given(names=st.lists(st.sampled_from(_SEEDS).flatmap(mutated), min_size=1, max_size=8))
def test_folders_of_any_names(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            _place(Path(folder), name)
        for load in FOLDER_SETS.values():
            keeps_promise("folders", partial(load, Path(folder)), Path(folder))


def test_the_harness_sees_what_is_wrong() -> None:
    """A reader that breaks the promise is found: the checks themselves are checked."""

    def colours() -> None:
        raise UsageError("a \x1b[31mred\x1b[0m name")

    def another() -> None:
        raise KeyError("x")

    with pytest.raises(AssertionError, match="control characters"):
        keeps_promise("meant to fail", colours)
    with pytest.raises(KeyError):
        keeps_promise("meant to fail", another)
    assert FIGURES.pop("meant to fail")["other exceptions"] == 1
