"""Networks under cv2.dnn: Caffe, Darknet, TensorFlow and ONNX."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from agebench.errors import ModelError, UsageError
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource, Tensor, library_message, refuse_device, text_names
from agebench.runtimes.channel_shuffle import with_gathered_channels
from agebench.vision.opencv import cv2

# Its messages may quote an untrusted file, which need not be valid text.
_FAILURES = (cv2.error, UnicodeDecodeError)

_ARG_FAULT_SINCE = (4, 12)

_CUT_OFF = ". The file may be truncated: compare its size with that of the original"
"""For TFLite, whose flat buffers OpenCV verifies without reporting what is wrong."""


def _text(config: str | None) -> Any:
    return np.frombuffer((config or "").encode(), np.uint8)


def _tensorflow(data: Any, config: str | None) -> Any:
    # An empty layout is an error; None is the graph's own.
    if config is None:
        return cv2.dnn.readNetFromTensorflow(data)
    return cv2.dnn.readNetFromTensorflow(data, _text(config))


def read_net(source: ModelSource, device: str = "cpu") -> Any:
    """Return the `cv2.dnn.Net` of a model's files.

    Args:
        source: the files.
        device: as for `OpenCvModel`; only the CPU computes channel shuffles in another way.

    Raises:
        ModelError: OpenCV can't load it.
        OSError: the file can't be read.
    """
    # We read the files and OpenCV parses them from memory: its own file access does not support
    # non-ASCII paths on some systems, and the hashed bytes must be the parsed ones.
    content = source.read()
    if source.kind == "onnx":
        _require_computed(source, content)
        if source.gathers_channels and device == "cpu":
            content = with_gathered_channels(content)
    data = np.frombuffer(content, np.uint8)
    readers: Mapping[str, Callable[[], Any]] = {
        "onnx": lambda: cv2.dnn.readNetFromONNX(data),
        "caffe": lambda: cv2.dnn.readNetFromCaffe(_text(source.config), data),
        "darknet": lambda: cv2.dnn.readNetFromDarknet(_text(source.config), data),
        "tensorflow": lambda: _tensorflow(data, source.config),
        "tflite": lambda: cv2.dnn.readNetFromTFLite(data),
    }
    try:
        net = readers[source.kind]()
    except _FAILURES as error:
        hint = _CUT_OFF if source.kind == "tflite" else _instead(source)
        raise ModelError(
            f"{source.path}: cv2.dnn {cv2.__version__} can't load this {source.kind} model: "
            f"{library_message(error)}{hint}"
        ) from error
    if net.empty():
        raise ModelError(f"{source.path}: cv2.dnn finds no layer in this {source.kind} model")
    if source.kind == "darknet":
        _require_all_weights(source, content, net)
    return net


def _require_computed(source: ModelSource, content: bytes) -> None:
    """Refuse models for which this OpenCV is known to return uninitialised memory.

    Raises:
        ModelError: an ArgMax or ArgMin that removes its axis (4.10 and 4.11 compute it, 4.12 and
            4.14 do not write the output).
    """
    version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
    if version < _ARG_FAULT_SINCE or b"ArgM" not in content:
        return
    try:
        nodes = onnx.ModelProto.FromString(content).graph.node
    except DecodeError:
        return  # OpenCV reports what is wrong with it
    for node in nodes:
        kept = all(item.i for item in node.attribute if item.name == "keepdims")
        if node.op_type in ("ArgMax", "ArgMin") and not kept:
            raise ModelError(
                f"{source.path}: cv2.dnn {cv2.__version__} does not compute {node.op_type} with "
                "keepdims = 0 and returns whatever is in its memory: ask for '@onnxruntime', "
                "or export the model with keepdims = 1"
            )


def _require_all_weights(source: ModelSource, content: bytes, net: Any) -> None:
    """Refuse truncated Darknet weights: OpenCV leaves missing numbers uninitialised.

    Raises:
        ModelError: the file has fewer bytes than the layout needs.
    """
    layers = [net.getLayer(net.getLayerId(name)) for name in net.getLayerNames()]
    # A YOLO layer's numbers are anchors, which are in the layout.
    numbers = sum(
        int(np.prod(blob.shape))
        for layer in layers
        if layer.type != "Region"
        for blob in layer.blobs
    )
    major, minor = (int(number) for number in np.frombuffer(content[:8].ljust(8, b"\0"), "<i4"))
    # Three numbers, and the number of pictures seen, of 8 bytes since version 0.2.
    needed = 12 + (8 if major * 10 + minor >= 2 else 4) + 4 * numbers
    if len(content) < needed:
        raise ModelError(
            f"{source.path} is truncated or belongs to another layout: it has {len(content):,} "
            f"bytes, its layout needs {needed:,}; compare its size with that of the original"
        )


def _instead(source: ModelSource) -> str:
    """Return advice on what else may run a model that cv2.dnn can't."""
    return ". ONNX Runtime reads more: ask for '@onnxruntime'" if source.kind == "onnx" else ""


def _use_device(net: Any, device: str) -> str:
    """Set backend and target; return the target's name in OpenCV."""
    if device == "cpu":
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        return "DNN_BACKEND_OPENCV/DNN_TARGET_CPU"
    if device == "cuda":
        # If the build lacks a target, OpenCV runs on the CPU with only a log message.
        targets = cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_CUDA)
        if cv2.dnn.DNN_TARGET_CUDA not in targets:
            raise refuse_device("cv2dnn", device, "this OpenCV was built without CUDA")
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
        return "DNN_BACKEND_CUDA/DNN_TARGET_CUDA"
    if device == "opencl":
        if not cv2.ocl.haveOpenCL():
            raise refuse_device("cv2dnn", device, "no OpenCL device was found")
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_OPENCL)
        return "DNN_BACKEND_OPENCV/DNN_TARGET_OPENCL"
    raise UsageError(f"unknown device {device!r} for cv2dnn: use cpu, cuda or opencl")


class OpenCvModel:
    """A network loaded by cv2.dnn; see `agebench.runtimes.base.Model`."""

    def __init__(self, source: ModelSource, device: str = "cpu") -> None:
        try:
            self._net = read_net(source, device)
        except OSError as error:
            raise ModelError(f"{source.path}: can't be read: {error.strerror}") from error
        target = _use_device(self._net, device)
        self._source = replace(source, data=None)  # the bytes are not needed after parsing
        names = text_names(source, self._net.getUnconnectedOutLayersNames)
        self._outputs = list(source.outputs) or names
        self._lock = threading.Lock()
        self._info = RuntimeInfo("cv2dnn", device, target, cv2.__version__)

    @property
    def info(self) -> RuntimeInfo:
        """See `Model.info`."""
        return self._info

    @property
    def input_names(self) -> tuple[str, ...]:
        """See `Model.input_names`."""
        return self._source.inputs

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model.run`."""
        with self._lock:
            try:
                for name, blob in inputs.items():
                    self._net.setInput(blob, name)
                outputs = self._net.forward(self._outputs)
            except _FAILURES as error:
                raise ModelError(
                    f"{self._source.path}: cv2.dnn failed on input of shape "
                    f"{[blob.shape for blob in inputs.values()]}: {library_message(error)}"
                    f"{_instead(self._source)}"
                ) from error
            # The arrays may be views of the network's own buffers: copy them before the next call.
            return {
                name: np.array(value) for name, value in zip(self._outputs, outputs, strict=True)
            }
