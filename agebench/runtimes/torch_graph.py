"""Runs ONNX graphs with PyTorch: the runtime `torch`, on the CPU or CUDA.

Exported graphs consist of a few simple operators, for which a table is enough: the same file runs
with cv2.dnn, onnxruntime and PyTorch, and what is timed on a GPU (eager, captured in a CUDA graph,
compiled, in half precision) is the file's own network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from agebench.errors import ModelError, UsageError
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource, refuse_device, wanted_threads
from agebench.runtimes.base import Tensor as Array
from agebench.runtimes.onnx_reading import with_full_weights
from agebench.runtimes.torch_device import exact_float32, keep_to_threads, on_threads, out_of_memory

Attributes: TypeAlias = Mapping[str, Any]
Operator: TypeAlias = Callable[[Sequence[Tensor], Attributes], Tensor]

PRECISIONS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Precisions of a graph, and the type of its numbers."""


def _pairs(attributes: Attributes) -> tuple[list[int], list[int], list[int]]:
    """Return kernel, stride and the pads at (top, left, bottom, right)."""
    kernel = list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1, 1]))
    return kernel, strides, list(attributes.get("pads", [0, 0, 0, 0]))


def _even(pads: Sequence[int], what: str) -> list[int]:
    if list(pads[:2]) != list(pads[2:]):
        raise ModelError(f"the graph's {what} pads its sides unevenly ({list(pads)})")
    return list(pads[:2])


def _conv(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    _, strides, pads = _pairs({"kernel_shape": values[1].shape[2:], **attributes})
    picture = values[0]
    if pads[:2] != pads[2:]:  # like TensorFlow's "same"
        picture = functional.pad(picture, (pads[1], pads[3], pads[0], pads[2]))
        pads = [0, 0]
    bias = values[2] if len(values) > 2 else None
    dilations = list(attributes.get("dilations", [1, 1]))
    groups = int(attributes.get("group", 1))
    return functional.conv2d(picture, values[1], bias, strides, pads[:2], dilations, groups)


def _max_pool(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    kernel, strides, pads = _pairs(attributes)
    ceil = bool(attributes.get("ceil_mode", 0))
    return functional.max_pool2d(values[0], kernel, strides, _even(pads, "MaxPool"), ceil_mode=ceil)


def _average_pool(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    kernel, strides, (top, left, bottom, right) = _pairs(attributes)
    ceil, around = bool(attributes.get("ceil_mode", 0)), (left, right, top, bottom)
    picture = functional.pad(values[0], around)
    pooled = functional.avg_pool2d(picture, kernel, strides, ceil_mode=ceil)
    if not any(around) or attributes.get("count_include_pad", 0):
        return pooled
    inside = functional.pad(torch.ones_like(values[0][:1, :1]), around)
    return pooled / functional.avg_pool2d(inside, kernel, strides, ceil_mode=ceil)


def _gemm(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    first = values[0].T if attributes.get("transA", 0) else values[0]
    second = values[1].T if attributes.get("transB", 0) else values[1]
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if len(values) == 2:
        product = first @ second
        return product if alpha == 1.0 else product * alpha
    return torch.addmm(values[2], first, second, beta=beta, alpha=alpha)


def _lrn(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """Response normalisation over channels: x / (bias + alpha/size * sum of squares)^beta."""
    size = int(attributes["size"])
    # A convolution over the channels; in half precision the squares of pixels would overflow.
    squares = values[0].float().square()
    before, after = (size - 1) // 2, size // 2
    summed = functional.pad(squares, (0, 0, 0, 0, before, after))
    total = torch.stack([summed[:, at : at + squares.shape[1]] for at in range(size)]).sum(0)
    scale = float(attributes.get("bias", 1.0)) + float(attributes.get("alpha", 1e-4)) / size * total
    return values[0] * scale.pow(-float(attributes.get("beta", 0.75))).to(values[0].dtype)


def _reshape(values: Sequence[Tensor], _attributes: Attributes) -> Tensor:
    wanted = [int(side) for side in values[1].tolist()]
    sides = [values[0].shape[at] if side == 0 else side for at, side in enumerate(wanted)]
    return values[0].reshape(sides)


def _reduce_mean(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    axes = values[1].tolist() if len(values) > 1 else attributes["axes"]
    return values[0].mean([int(axis) for axis in axes], keepdim=bool(attributes.get("keepdims", 1)))


def _gather(values: Sequence[Tensor], attributes: Attributes) -> Tensor:
    axis, places = int(attributes.get("axis", 0)), values[1]
    if places.ndim == 1:
        return values[0].index_select(axis, places)
    found = values[0].index_select(axis, places.flatten())
    return found.reshape(*found.shape[:axis], *places.shape, *found.shape[axis + 1 :])


def _clip(values: Sequence[Tensor], _attributes: Attributes) -> Tensor:
    return torch.clamp(values[0], values[1], values[2])


def _slice(values: Sequence[Tensor], _attributes: Attributes) -> Tensor:
    starts, ends = values[1].tolist(), values[2].tolist()
    axes = values[3].tolist() if len(values) > 3 else range(len(starts))
    if len(values) > 4 and any(step != 1 for step in values[4].tolist()):
        raise ModelError("the graph's Slice has steps other than 1")
    found = values[0]
    for axis, start, end in zip(axes, starts, ends, strict=True):
        side = found.shape[axis]
        low, high = (max(0, min(at + side * (at < 0), side)) for at in (start, end))
        found = found.narrow(axis, low, max(0, high - low))
    return found


OPERATORS: Mapping[str, Operator] = {
    "Add": lambda values, _: values[0] + values[1],
    "ArgMax": lambda values, at: values[0].argmax(
        int(at.get("axis", 0)), keepdim=bool(at.get("keepdims", 1))
    ),
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": lambda values, at: torch.cat(list(values), int(at["axis"])),
    "Conv": _conv,
    "Flatten": lambda values, at: values[0].flatten(int(at.get("axis", 1))),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda values, _: values[0].mean((2, 3), keepdim=True),
    "LRN": _lrn,
    "MaxPool": _max_pool,
    "Mul": lambda values, _: values[0] * values[1],
    "ReduceMean": _reduce_mean,
    "Relu": lambda values, _: values[0].relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda values, _: values[0].sigmoid(),
    "Slice": _slice,
    "Softmax": lambda values, at: values[0].float().softmax(int(at.get("axis", -1))),
    "Sub": lambda values, _: values[0] - values[1],
}
"""Evaluates a node; the attributes are those of ONNX, in the supported versions."""

_HOST_INPUTS = {"Reshape": (1,), "ReduceMean": (1,), "Slice": (1, 2, 3, 4)}
"""Inputs that are parameters: they stay on the host, or every call would wait for the device."""


class TorchGraph(nn.Module):
    """A graph of ONNX operators as a module.

    Args:
        model: without control flow; its weights are float32, float16 that is cast, or integers.
        where: the file, for errors.

    Raises:
        ModelError: an operator is not in `OPERATORS`, or a weight has another type.
    """

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        super().__init__()
        graph = with_full_weights(model).graph
        stored = {tensor.name for tensor in graph.initializer}
        self.inputs = tuple(item.name for item in graph.input if item.name not in stored)
        self.outputs = tuple(item.name for item in graph.output)
        self.shapes = {
            item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)[1:]
            for item in graph.input
            if item.name not in stored
        }
        kinds = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if kinds:
            raise ModelError(
                f"{where}: the runtime 'torch' does not support the operator {', '.join(kinds)}; "
                "run the file under '@onnxruntime'"
            )
        self._places = self._keep(graph, where)
        self._nodes = [
            (
                OPERATORS[node.op_type],
                tuple(node.input),
                node.output[0],
                {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute},
            )
            for node in graph.node
        ]

    def _keep(self, graph: onnx.GraphProto, where: str) -> dict[str, str]:
        """Register the weights as buffers; return their names by the value's name."""
        on_host = {
            node.input[at]
            for node in graph.node
            for at in _HOST_INPUTS.get(node.op_type, ())
            if at < len(node.input)
        }
        self.host: dict[str, Tensor] = {}
        places = {}
        for number, item in enumerate(graph.initializer):
            values = np.array(numpy_helper.to_array(item))
            if values.dtype not in (np.float32, np.int64):
                raise ModelError(
                    f"{where}: {item.name!r:.60} has the type {values.dtype}, the runtime 'torch' "
                    "needs float32; run the file under '@onnxruntime'"
                )
            if item.name in on_host:
                self.host[item.name] = torch.from_numpy(values)
                continue
            places[item.name] = f"value_{number}"
            self.register_buffer(places[item.name], torch.from_numpy(values))
        return places

    def computed_in(self, precision: str, *, channels_last: bool = False) -> TorchGraph:
        """Convert the weights; probabilities and values computed from them stay float32.

        Eleven bits are enough for activations, but not for a sum over a hundred ages.

        Args:
            precision: one of `PRECISIONS`; "tf32" needs `exact_float32(tf32=True)` around runs.
            channels_last: store the filters in the memory layout of tensor cores.

        Raises:
            UsageError: an unknown precision.
        """
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS)}")
        exact = self._exact_values()
        for name, place in self._places.items():
            value: Tensor = getattr(self, place)
            if value.is_floating_point() and name not in exact:
                value = value.to(PRECISIONS[precision])
            if channels_last and value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            setattr(self, place, value)
        return self

    def _exact_values(self) -> set[str]:
        """Return the names of values that are probabilities, or are computed from or with them."""
        exact: set[str] = set()
        for operator, names, output, _ in self._nodes:
            if operator is OPERATORS["Softmax"] or exact.intersection(names):
                exact.add(output)
                if operator is not OPERATORS["Softmax"]:
                    exact.update(names)
        return exact

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, in order, for the inputs in order."""
        values: dict[str, Tensor] = dict(zip(self.inputs, inputs, strict=True))
        values |= self.host
        values |= {name: getattr(self, place) for name, place in self._places.items()}
        for operator, names, output, attributes in self._nodes:
            values[output] = operator([values[name] for name in names if name], attributes)
        return tuple(values[name] for name in self.outputs)


def read_graph(path: Path, content: bytes | None = None) -> TorchGraph:
    """Read an ONNX file as a module, in evaluation mode.

    Args:
        path: the file.
        content: its bytes, if they were read before.

    Raises:
        ModelError: it is not a graph that `TorchGraph` supports.
    """
    try:
        model = onnx.ModelProto.FromString(path.read_bytes() if content is None else content)
    except Exception as error:  # protobuf has its own exceptions, and the file system
        raise ModelError(f"{path} can't be read as ONNX: {error}") from error
    return TorchGraph(model, str(path)).eval()


class TorchModel:
    """An ONNX file under PyTorch, in float32; see `agebench.runtimes.base.Model`.

    Args:
        source: an ONNX file.
        device: "cpu" or "cuda".

    Raises:
        UsageError: an unknown device, or another format.
        DeviceError: there is no CUDA device.
        ModelError: the graph is not one that `TorchGraph` supports.
    """

    def __init__(self, source: ModelSource, device: str = "cpu") -> None:
        if source.kind != "onnx":
            raise UsageError(f"the runtime 'torch' reads ONNX files, {source.path.name} is not one")
        if device not in ("cpu", "cuda"):
            raise UsageError(f"unknown device {device!r} for torch: use cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise refuse_device("torch", device, "it finds no GPU")
        self._source = replace(source, data=None)  # the bytes are not needed after parsing
        self._graph = read_graph(source.path, source.data).to(device)
        self._device = torch.empty(0, device=device).device
        self._threads = wanted_threads()
        keep_to_threads(self._threads)
        wanted = source.outputs or self._graph.outputs
        missing = [name for name in wanted if name not in self._graph.outputs]
        if missing:
            raise ModelError(f"{source.path} has no output {missing[0]!r}")
        self._wanted = wanted
        self._info = RuntimeInfo("torch", device, str(self._device), torch.__version__)

    @property
    def info(self) -> RuntimeInfo:
        """See `Model.info`."""
        return self._info

    @property
    def input_names(self) -> tuple[str, ...]:
        """See `Model.input_names`."""
        return self._graph.inputs

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Model.run`."""
        names = self._graph.inputs
        feed = {name or names[0]: value for name, value in inputs.items()}
        try:
            tensors = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in names]
            with exact_float32(), on_threads(self._threads):
                found = self._graph(*(value.to(self._device) for value in tensors))
                values = [value.cpu().numpy() for value in found]
        except torch.OutOfMemoryError as error:
            raise out_of_memory(str(self._source.path.name), error) from error
        except (RuntimeError, KeyError, IndexError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(f"{self._source.path}: torch failed: {first}") from error
        named = dict(zip(self._graph.outputs, values, strict=True))
        return {name: named[name] for name in self._wanted}
