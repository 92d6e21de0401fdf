"""Models of other libraries for runtimes that only read ONNX: converted once, kept in the cache.

The source files were checked before.  A file in the cache is read with all checks, and replaced if
it is not what was stored there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import onnx

from agebench import __version__
from agebench.conversion.age_net_onnx import age_net_core
from agebench.conversion.darknet_onnx import darknet_model
from agebench.conversion.face_api import face_api_model
from agebench.conversion.keras_file import keras_model, read_keras
from agebench.conversion.layers import Pair
from agebench.conversion.mxnet_model import mxnet_model
from agebench.conversion.ssr_net import ssr_net_model
from agebench.errors import AgebenchError
from agebench.modelfiles.weights import cache_dir
from agebench.runtimes.caffe_model import read_caffemodel
from agebench.runtimes.onnx_reading import read_onnx
from agebench.util.files import write_whole

Converter: TypeAlias = Literal["keras", "ssr-net", "mxnet", "face-api"]
"""Libraries or networks whose files are converted."""

LAYOUT_FILES: frozenset[Converter] = frozenset({"mxnet", "face-api"})
"""Converters that need a layout file in addition to the weights."""

_KEY = "agebench.made_from"
_FORM = 1
"""Incremented whenever a conversion writes different bytes than before."""


def converted_age_net(caffemodel: Path, sha256: str) -> Path:
    """Return a caffemodel of the age_net layout as ONNX, with Caffe's inputs and outputs.

    Args:
        caffemodel: the file.
        sha256: of its bytes when they were checked.

    Raises:
        WeightsError: the file has changed since; nothing is stored.
        ModelError: it has another layout.
        AgebenchError: the cache can't be written to.
    """
    return _cached(
        "age-net", [sha256], lambda: age_net_core(read_caffemodel(caffemodel, sha256=sha256))
    )


def converted_darknet(cfg: str, weights: Path, sha256: str, size_hw: tuple[int, int]) -> Path:
    """Return a Darknet detector as ONNX; see `darknet_onnx.darknet_model`.

    Args:
        cfg: text of the layout.
        weights: file with the weights.
        sha256: of the weights file when it was checked.
        size_hw: height and width of the input.

    Raises:
        WeightsError: the file has changed since; nothing is stored.
        ModelError: a file is damaged, or has parts that can't be converted.
        AgebenchError: the cache can't be written to.
    """
    parts = [hashlib.sha256(cfg.encode()).hexdigest(), sha256, f"{size_hw[0]}x{size_hw[1]}"]
    return _cached("darknet", parts, lambda: darknet_model(cfg, weights, size_hw, sha256)[0])


def converted_foreign(
    converter: Converter, path: Path, content: bytes, config: str, size_hw: Pair, output: str
) -> Path:
    """Return another library's model as ONNX.

    Args:
        converter: of the library or network.
        path: file with the weights, for errors.
        content: bytes of that file.
        config: text of the layout, if it is a separate file.
        size_hw: height and width of the input, if no file states them.
        output: name of the required output.

    Raises:
        ModelError: a file is damaged, or has parts that can't be converted.
        MissingDependencyError: a library that reads it is not installed.
        AgebenchError: the cache can't be written to.
    """
    parts = [hashlib.sha256(data).hexdigest() for data in (content, config.encode())]
    parts += [f"{size_hw[0]}x{size_hw[1]}", output]
    make: Mapping[str, Callable[[], onnx.ModelProto]] = {
        "keras": lambda: keras_model(read_keras(path, content)),
        "ssr-net": lambda: ssr_net_model(read_keras(path, content)),
        "mxnet": lambda: mxnet_model(path, content, config, size_hw, output),
        "face-api": lambda: face_api_model(path, content, config),
    }
    return _cached(converter, parts, make[converter])


def _cached(kind: str, sources: list[str], make: Callable[[], onnx.ModelProto]) -> Path:
    text = " ".join([kind, str(_FORM), __version__, *sources])
    path = (
        cache_dir() / "converted" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.onnx"
    )
    if not _is_current(path, text):
        model = make()
        onnx.helper.set_model_props(model, {_KEY: text})
        _keep(path, model.SerializeToString(deterministic=True))
    return path


def _keep(path: Path, content: bytes) -> None:
    advice = "set AGEBENCH_CACHE to a folder in which the converted model can be stored"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise AgebenchError(
            f"{path.parent} can't be created ({error.strerror}): {advice}"
        ) from error
    except AgebenchError as error:
        raise AgebenchError(f"{error}: {advice}") from error


def _is_current(path: Path, text: str) -> bool:
    """Return whether the file is complete, and was made from these files by this version."""
    try:
        model, _ = read_onnx(path)
    except AgebenchError:
        return False
    return any(item.key == _KEY and item.value == text for item in model.metadata_props)
