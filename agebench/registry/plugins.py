"""Loads estimators, detectors and data sets from entry points, on demand.

A factory is any callable (such as a class) that takes keyword arguments and returns an object of
the group's protocol.  Its signature defines its options: `path`, `runtime` and `device` if a
reference may contain them, and one typed keyword for each option.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from agebench.errors import (
    AgebenchError,
    ContractError,
    DatasetError,
    UsageError,
    WeightsUnavailableError,
    error_text,
    suggestion,
)
from agebench.protocols import Dataset, Estimator, FaceDetector
from agebench.references import Reference, called, parse_reference, user_path
from agebench.registry.installed import entry_points
from agebench.util.foreign_code import foreign_code

ESTIMATORS = "agebench.estimators"
DETECTORS = "agebench.detectors"
DATASETS = "agebench.datasets"

FILELESS_DETECTOR = "haar"
"""Suggested if a detector's file is not available."""

_NAMED_BY_REFERENCE = ("path", "runtime", "device")
"""Parameters from the reference of an estimator or detector; a data set only has options."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered name, whose code is not imported yet."""

    group: str
    name: str
    target: str
    package: str
    version: str


def _plugin(entry: EntryPoint) -> Plugin:
    dist = entry.dist
    package, version = (dist.name, dist.version) if dist is not None else ("", "")
    return Plugin(entry.group, entry.name, entry.value, package, version)


def list_plugins(group: str) -> list[Plugin]:
    """Return the entries of `group`, sorted by name, without importing them.

    If two packages register the same name, agebench's own is used and the other is ignored.
    """
    found: dict[str, Plugin] = {}
    for plugin in map(_plugin, entry_points(group=group)):
        if plugin.name not in found or plugin.package == "agebench":
            found[plugin.name] = plugin
    return [found[name] for name in sorted(found)]


_WAYS = {
    ".csv": "a list of pictures is given as '--dataset csv --root {0}', predicted ages as "
    "'answers:{0}'",
    ".onnx": "a model of 'agebench export-onnx' is written as 'onnx:{0}'; describe another in a "
    "spec file: 'spec:FILE.toml'",
    **dict.fromkeys(
        (".h5", ".keras", ".pb", ".pt", ".pth", ".tflite"),
        "a model's file is described in a spec file: 'spec:FILE.toml'",
    ),
}
"""What to do with a file given in place of an estimator's name, by suffix."""


def _find(group: str, name: str) -> EntryPoint:
    entries = [entry for entry in entry_points(group=group) if entry.name == name]
    if not entries:
        kind = group.removeprefix("agebench.").removesuffix("s")
        known = [plugin.name for plugin in list_plugins(group)]
        if name.lower().endswith(".toml") and "spec" in known:
            hint = f"a spec file is written as 'spec:{name}'"
        elif group == ESTIMATORS and (way := _WAYS.get(Path(name).suffix.lower())):
            hint = way.format(name)
        else:
            hint = f"{suggestion(name, known)} ('agebench ls' lists them)"
        raise UsageError(f"unknown {kind} {name!r}: {hint}")
    if len(entries) == 1:  # whose package is not read
        return entries[0]
    return max(entries, key=lambda entry: _plugin(entry).package == "agebench")


def require_registered(group: str, reference: str) -> None:
    """Check the form and the name of a reference without importing anything.

    Raises:
        UsageError: it is malformed, or the name is unknown.
    """
    _find(group, parse_reference(reference).name)


def load_factory(group: str, name: str) -> Callable[..., Any]:
    """Import the factory registered as `name`.

    Raises:
        UsageError: the name is unknown.
        AgebenchError: its module can't be imported.
    """
    entry = _find(group, name)
    try:
        with foreign_code(name, "the import"):
            factory = entry.load()
    except AgebenchError:
        raise
    except Exception as error:  # a plug-in may fail in any way, and must not end in a traceback
        raise AgebenchError(
            f"{name!r} of package {_plugin(entry).package!r} can't be imported ({entry.value}): "
            f"{error_text(error)}"
        ) from error
    if not callable(factory):
        raise ContractError(f"{name!r} ({entry.value}) must be callable, got {type(factory)}")
    return typing.cast("Callable[..., Any]", factory)


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return tuple(part for part in get_args(annotation) if part is not type(None))
    return (annotation,)


_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _lookup(text: str, known: Mapping[str, Any]) -> Any:
    if text not in known:
        raise ValueError("expected one of " + ", ".join(known))
    return known[text]


def _convert_one(text: str, annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return _lookup(text, {str(value): value for value in get_args(annotation)})
    if annotation is bool:
        return _lookup(text.lower(), _TRUTH)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            kind = "a whole number" if annotation is int else "a number"
            raise ValueError(f"expected {kind}") from None
    if annotation is Path:
        return user_path(text)
    return text


def convert_option(text: str, annotation: Any) -> Any:
    """Convert an option's text to the type in the factory's signature.

    Raises:
        ValueError: the text matches none of the types; the message says what was expected.
    """
    reasons: list[str] = []
    for choice in _choices(annotation):
        try:
            return _convert_one(text, choice)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(" or ".join(reasons))


def _parameters(factory: Callable[..., Any]) -> dict[str, Any]:
    """Names and types of a factory's keyword parameters."""
    hinted = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(hinted)
        parameters = inspect.signature(factory).parameters
    except (NameError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"the signature of {factory!r} can't be read: {error}") from error
    return {
        name: hints.get(name, str)
        for name, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def takes_option(group: str, name: str, option: str) -> bool:
    """Return whether the factory registered as `name` has an option of that name.

    Raises:
        UsageError: the name is unknown.
        AgebenchError: its module can't be imported, or its signature can't be read.
    """
    return option in _options(group, load_factory(group, name))


def _options(group: str, factory: Callable[..., Any]) -> list[str]:
    taken = ("root",) if group == DATASETS else _NAMED_BY_REFERENCE
    return [name for name in _parameters(factory) if name not in taken]


def _keywords(
    group: str, factory: Callable[..., Any], reference: Reference, extra: Mapping[str, Any]
) -> dict[str, Any]:
    parameters = _parameters(factory)
    keywords: dict[str, Any] = {}
    asked = {"path": reference.path, "runtime": reference.runtime, "device": reference.device}
    for name, value in asked.items():
        if value is None:
            continue
        if name not in parameters or group == DATASETS:
            raise UsageError(
                f"{reference.name!r} takes no {name}, got {str(value)!r}: leave it out"
            )
        keywords[name] = value
    options = _options(group, factory)
    for name, value in {**reference.options, **extra}.items():
        if name not in options and not (name in extra and name in parameters):
            hint = suggestion(name, options)
            raise UsageError(f"{reference.name!r} has no option {name!r}: {hint}")
        keywords[name] = _option_value(reference.name, name, value, parameters[name])
    return keywords


def _call(
    factory: Callable[..., Any], name: str, keywords: Mapping[str, Any], form: str = ""
) -> Any:
    """Call a factory; missing arguments and exceptions give one sentence.

    `form` shows how to give a path, for the message.
    """
    missing = [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in keywords
    ]
    if "path" in missing:
        raise UsageError(f"{name!r} needs a file: {form}")
    if missing:
        wanted = " ".join(f"{option}=..." for option in missing)
        raise UsageError(f"{name!r} needs {wanted}")
    try:
        with foreign_code():  # no time limit: a download or a large folder may take long
            return factory(**keywords)
    except AgebenchError:
        raise
    except Exception as error:  # a plug-in may fail in any way, and must not end in a traceback
        raise AgebenchError(f"{name!r} can't be created: {error_text(error)}") from error


def _keeps(item: object, protocol: type, what: str) -> bool:
    """Return whether an object has the members of a protocol; reads its `spec` once.

    Raises:
        ContractError: that fails.
    """
    try:
        with foreign_code(type(item).__qualname__, "the spec"):
            kept = isinstance(item, protocol)
            if kept:
                _ = item.spec  # type: ignore[attr-defined]  # all protocols of this module have one
    except AgebenchError as error:
        raise ContractError(f"{what}: its spec can't be read: {error}") from error
    except Exception as error:  # third-party code may fail in any way
        raise ContractError(f"{what}: its spec can't be read: {error_text(error)}") from error
    return kept


def _option_value(plugin: str, name: str, value: Any, annotation: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return convert_option(value, annotation)
    except ValueError as error:
        raise UsageError(f"option {name}={value!r} of {plugin!r}: {error}") from error


def _load(group: str, reference: str | Reference, extra: Mapping[str, Any]) -> Any:
    parsed = reference if isinstance(reference, Reference) else parse_reference(reference)
    factory = load_factory(group, parsed.name)
    keywords = _keywords(group, factory, parsed, extra)
    return _call(factory, parsed.name, keywords, form=f"{parsed.name}:FILE")


def load_estimator(reference: str | Reference, /, **options: Any) -> Estimator:
    """Load an estimator by its name, such as ``"hse-mobilenet"`` or ``"caffe-age-net:FILE"``.

    Args:
        reference: ``NAME[:PATH][@RUNTIME[:DEVICE]] [key=value ...]``.
        options: the same options as keywords, e.g. ``crops=10``; they override the text's.

    Raises:
        UsageError: unknown name or option.
        WeightsUnavailableError: its model file is not available.
        DeviceError: the requested runtime or device is not available.
    """
    estimator: Estimator = _load(ESTIMATORS, reference, options)
    if not _keeps(estimator, Estimator, repr(str(reference))):
        raise ContractError(f"{reference!r} gave {type(estimator).__name__}, not an Estimator")
    return estimator


def load_detector(reference: str | Reference, /, **options: Any) -> FaceDetector:
    """Load a face detector by its name, such as ``"yolov8-face"``; as `load_estimator`."""
    try:
        detector: FaceDetector = _load(DETECTORS, reference, options)
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(
            f"{error}\nThe detector {FILELESS_DETECTOR!r} needs no file but finds fewer faces."
        ) from error
    if not _keeps(detector, FaceDetector, repr(str(reference))):
        raise ContractError(f"{reference!r} gave {type(detector).__name__}, not a FaceDetector")
    return detector


def named_estimator(estimator: str | Estimator) -> tuple[str, Estimator]:
    """Return an estimator's name in results, and the estimator, loaded if it is given by name.

    Raises:
        UsageError: it is neither a name nor an estimator; and as `load_estimator`.
    """
    if isinstance(estimator, str):
        return called(estimator), load_estimator(estimator)
    if not _keeps(estimator, Estimator, type(estimator).__name__):
        raise UsageError(
            f"expected an estimator or its name, got {type(estimator).__name__}: "
            "it needs `spec` and `predict`"
        )
    return estimator.spec.name, estimator


def named_detector(detector: str | FaceDetector) -> tuple[str, FaceDetector]:
    """Return a face detector's name in results, and the detector; as `named_estimator`."""
    if isinstance(detector, str):
        return called(detector), load_detector(detector)
    if not _keeps(detector, FaceDetector, type(detector).__name__):
        raise UsageError(
            f"expected a detector or its name, got {type(detector).__name__}: "
            "it needs `spec` and `detect`"
        )
    return detector.spec.name, detector


def load_dataset(reference: str, /, root: str | Path | None = None, **options: Any) -> Dataset:
    """List a data set, such as ``"utkface"`` or ``"csv label_kind=birth-age"``.

    Args:
        reference: ``NAME [key=value ...]``.
        root: its folder or file; None only for a data set that includes its pictures.
        options: the same options as keywords, such as ``layout="chips"``; they override the
            text's.

    Raises:
        UsageError: unknown name or option, or a root is missing or not allowed.
        DatasetError: `root` is missing or contains no usable picture.
    """
    parsed = parse_reference(reference)
    name = parsed.name
    factory = load_factory(DATASETS, name)
    keywords = _keywords(DATASETS, factory, parsed, options)
    if root is not None:
        keywords["root"] = user_path(root)
    if ("root" in _parameters(factory)) != (root is not None):
        needs = (
            "brings its own pictures: leave the root out (--root)"
            if root
            else "needs its folder or file (root, --root)"
        )
        raise UsageError(f"data set {name!r} {needs}")
    dataset: Dataset = _call(factory, name, keywords)
    if not _keeps(dataset, Dataset, repr(name)):
        raise ContractError(f"{name!r} gave {type(dataset).__name__}, not a Dataset")
    if root is not None and not dataset.samples and not keywords["root"].exists():
        # Globbing a folder that does not exist, as a plug-in may do, only finds nothing.
        raise DatasetError(
            f"data set {name!r}: expected its folder or file, found no {str(root)!r}"
        )
    return dataset
