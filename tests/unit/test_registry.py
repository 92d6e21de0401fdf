"""Plug-ins: listed without import, loaded by name, their options converted by signature."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest

from agebench.datasets.base import SampleList
from agebench.errors import (
    AgebenchError,
    ContractError,
    DatasetError,
    ModelError,
    UsageError,
    WeightsUnavailableError,
)
from agebench.protocols import DatasetSpec, DetectorSpec, EstimatorSpec
from agebench.registry import plugins
from agebench.registry.plugins import (
    DATASETS,
    DETECTORS,
    ESTIMATORS,
    convert_option,
    list_plugins,
    load_dataset,
    load_detector,
    load_estimator,
    load_factory,
    require_registered,
)
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image


class Fake:
    """An estimator that remembers what it was made with."""

    def __init__(  # noqa: PLR0917 - one option of every type
        self,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        crops: int = 1,
        share: float = 0.5,
        mirror: bool = False,
        years: Literal["midpoint", "expectation"] = "midpoint",
        count: Literal[1, 10] = 1,
        table: Path | None = None,
        size: int | str = 640,
        label: str = "",
    ) -> None:
        self.made_with = {key: value for key, value in locals().items() if key != "self"}
        self.spec = EstimatorSpec("fake", CropSpec(), "none")

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return [AgePrediction(1.0)] * len(crops)


class FakeDetector:
    spec = DetectorSpec("fake")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        return []


def fake_data(root: Path, kind: str = "a") -> SampleList:
    return SampleList(DatasetSpec(f"{root.name}-{kind}", "unknown"), ())


def rootless() -> SampleList:
    return SampleList(DatasetSpec("rootless", "unknown"), ())


def no_estimator() -> object:
    return object()


def breaks() -> object:
    raise ZeroDivisionError("oh")


def refuses() -> object:
    raise ModelError("not this file")


def unreadable(x: NoSuchType) -> object:  # type: ignore[name-defined]  # noqa: F821 - the very point
    return x


def needs(path: Path, *, level: int, **rest: object) -> Fake:
    return Fake(path, label=str(level))


NOT_CALLABLE = 3

ENTRIES: dict[str, dict[str, str]] = {
    ESTIMATORS: {
        "fake": "Fake",
        "needs": "needs",
        "other": "no_estimator",
        "breaks": "breaks",
        "refuses": "refuses",
        "unreadable": "unreadable",
        "number": "NOT_CALLABLE",
        "absent": "Absent",
        "gone": "",
        "bad-syntax": "",
    },
    DETECTORS: {"fake": "FakeDetector", "other": "no_estimator"},
    DATASETS: {"fake": "fake_data", "rootless": "rootless", "other": "no_estimator"},
}


@pytest.fixture(autouse=True)
def _fake_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "fake_plugins", module)

    def entry_points(*, group: str) -> list[EntryPoint]:
        modules = {"gone": "no_such_module_at_all:X", "bad-syntax": "not an entry point!"}
        return [
            EntryPoint(name, modules.get(name, f"fake_plugins:{target}"), group)
            for name, target in ENTRIES[group].items()
        ]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def _made(reference: str, **options: Any) -> dict[str, Any]:
    estimator = load_estimator(reference, **options)
    assert isinstance(estimator, Fake)
    return estimator.made_with


def test_listing_is_sorted_and_survives_broken_plugins() -> None:
    names = [plugin.name for plugin in list_plugins(ESTIMATORS)]
    assert names == sorted(ENTRIES[ESTIMATORS])
    assert "gone" in names
    assert "bad-syntax" in names


def test_own_plugins_win_over_others_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dist:
        def __init__(self, name: str) -> None:
            self.name, self.version = name, "1"

    class Entry:
        def __init__(self, package: str) -> None:
            self.name, self.group, self.value = "fake", ESTIMATORS, package
            self.dist = Dist(package)

        def load(self) -> Callable[[], Fake]:
            return lambda: Fake(label=self.value)

    for order in (("agebench", "theirs"), ("theirs", "agebench")):
        entries = [Entry(package) for package in order]
        monkeypatch.setattr(plugins, "entry_points", lambda group, found=entries: found)
        assert [plugin.package for plugin in list_plugins(ESTIMATORS)] == ["agebench"]
        assert _made("fake")["label"] == "agebench"


def test_nothing_given_nothing_passed_on() -> None:
    assert _made("fake") == Fake().made_with


def test_path_runtime_device_and_options_reach_the_factory() -> None:
    made = _made("fake:a b.onnx@cv2dnn:opencl crops=10 share=.25 mirror=yes years=expectation")
    assert made["path"] == Path("a b.onnx")
    assert (made["runtime"], made["device"]) == ("cv2dnn", "opencl")
    assert (made["crops"], made["share"], made["mirror"]) == (10, 0.25, True)
    assert made["years"] == "expectation"


def test_keywords_win_over_text_and_are_converted_if_text() -> None:
    assert _made("fake crops=10", crops=5)["crops"] == 5
    assert _made("fake", crops="7", mirror=True)["crops"] == 7
    assert _made("fake", path=Path("x"))["path"] == Path("x")


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("True", bool, True),
        ("no", bool, False),
        ("0", bool, False),
        ("x y", str, "x y"),
        ("a/b", Path, Path("a/b")),
        ("4", int | None, 4),
        ("b", Literal["a", "b"] | None, "b"),
        ("10", Literal[1, 10], 10),
        ("640", int | str, 640),
        ("640x480", int | str, "640x480"),
        ("", str, ""),
        ("anything", Sequence[str], "anything"),
    ],
)
def test_conversion(text: str, annotation: Any, value: Any) -> None:
    got = convert_option(text, annotation)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "said"),
    [
        ("3.5", int, "expected a whole number"),
        ("", float, "expected a number"),
        ("ja", bool, "expected one of true, yes, 1, false, no, 0"),
        ("c", Literal["a", "b"], "expected one of a, b"),
        ("2", Literal[1, 10], "expected one of 1, 10"),
        ("x", int | None, "expected a whole number"),
        ("x", int | bool, "expected a whole number or expected one of true"),
    ],
)
def test_wrong_values(text: str, annotation: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        convert_option(text, annotation)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("fakee", "unknown estimator 'fakee': did you mean 'fake'?"),
        ("zzz", "unknown estimator 'zzz': known: absent, bad-syntax, breaks"),
        ("fake crop=10", "'fake' has no option 'crop': did you mean 'crops'?"),
        ("fake crops=ten", "option crops='ten' of 'fake': expected a whole number"),
        ("fake path=x", "'fake' has no option 'path'"),
        ("breaks:file", "'breaks' takes no path, got 'file': leave it out"),
        ("breaks@torch", "'breaks' takes no runtime, got 'torch'"),
        ("breaks x=1", "'breaks' has no option 'x': known: none"),
        ("needs", "'needs' needs a file: needs:FILE"),
        ("needs:f", "'needs' needs level=..."),
        ("needs:f level=1 rest=2", "has no option 'rest'"),
    ],
)
def test_wrong_references_are_usage_errors(reference: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_estimator(reference)
    assert said in str(caught.value)


@pytest.mark.parametrize("load", [load_estimator, load_detector, load_dataset])
@pytest.mark.parametrize("value", [None, 3])
def test_what_is_no_text_is_no_name(load: Callable[..., object], value: object) -> None:
    with pytest.raises(
        UsageError, match=rf"expected a name, NAME.*, got {value}: write it as text"
    ):
        load(value)


def test_required_values_are_passed_on() -> None:
    made = _made("needs:f level=4")
    assert (made["path"], made["label"]) == (Path("f"), "4")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("gone", AgebenchError, "can't be imported (no_such_module_at_all:X): ModuleNotFound"),
        ("absent", AgebenchError, "can't be imported (fake_plugins:Absent): AttributeError"),
        ("bad-syntax", AgebenchError, "can't be imported"),
        ("number", ContractError, "must be callable, got <class 'int'>"),
        ("other", ContractError, "gave object, not an Estimator"),
        ("breaks", AgebenchError, "'breaks' can't be created: ZeroDivisionError: oh"),
        ("refuses", ModelError, "not this file"),
        ("unreadable", ContractError, "NoSuchType"),
    ],
)
def test_broken_plugins_are_one_sentence(name: str, kind: type[AgebenchError], said: str) -> None:
    with pytest.raises(kind) as caught:
        load_estimator(name)
    assert said in str(caught.value)


def test_detectors() -> None:
    assert isinstance(load_detector("fake"), FakeDetector)
    with pytest.raises(ContractError, match="gave object, not a FaceDetector"):
        load_detector("other")
    with pytest.raises(UsageError, match="unknown detector 'fak': did you mean 'fake'"):
        load_detector("fak")


def test_whoever_lacks_a_detectors_file_is_told_of_one_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable(*_arguments: Any) -> None:
        raise WeightsUnavailableError("fake.onnx is not available")

    monkeypatch.setattr(plugins, "_load", unavailable)
    with pytest.raises(WeightsUnavailableError, match=r"available\nThe detector 'haar' needs no"):
        load_detector("fake")


def test_data_sets(tmp_path: Path) -> None:
    assert load_dataset("fake", tmp_path, kind="b").spec.name == f"{tmp_path.name}-b"
    assert load_dataset("fake kind=b", tmp_path).spec.name == f"{tmp_path.name}-b"
    assert load_dataset("fake kind=b", tmp_path, kind="a").spec.name == f"{tmp_path.name}-a"
    assert load_dataset("rootless").spec.name == "rootless"
    for name, root, said in (
        ("fake", None, "needs its folder or file"),
        ("rootless", tmp_path, "leave the root out"),
        ("fakee", tmp_path, "unknown dataset 'fakee'"),
        ("fake colour=red", tmp_path, "no option 'colour'"),
        ("fake:elsewhere", tmp_path, "takes no path"),
        ("fake", "~no-such-user-/x", "without a home folder"),
    ):
        with pytest.raises(UsageError, match=said):
            load_dataset(name, root)
    with pytest.raises(ContractError, match="not a Dataset"):
        load_dataset("other")
    with pytest.raises(DatasetError, match="'fake': expected its folder or file, found no "):
        load_dataset("fake", tmp_path / "nope")


def test_names_can_be_checked_without_import() -> None:
    require_registered(ESTIMATORS, "gone k=1")
    with pytest.raises(UsageError, match="did you mean"):
        require_registered(ESTIMATORS, "gonne")


def test_factories_are_imported_once_asked_for() -> None:
    assert load_factory(ESTIMATORS, "fake") is Fake
