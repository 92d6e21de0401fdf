"""The common interface of loaded networks, whatever library runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy.typing as npt

from agebench.errors import DeviceError, ModelError, UsageError, inert
from agebench.protocols import RuntimeInfo
from agebench.util.regular_files import read_regular

Tensor: TypeAlias = npt.NDArray[Any]
ModelKind: TypeAlias = Literal["onnx", "caffe", "darknet", "tensorflow", "tflite"]

MAX_MODEL_BYTES = 1 << 31
"""Larger files are refused; it is also the limit of protobuf, in which most are stored."""

_SUFFIX_KINDS: Mapping[str, ModelKind] = {
    ".onnx": "onnx",
    ".caffemodel": "caffe",
    ".weights": "darknet",
    ".pb": "tensorflow",
    ".tflite": "tflite",
}

_KERAS = (
    'running a Keras file needs Keras: many .h5 files are accepted with converter = "keras" in '
    "[files] of a spec file, others are converted to ONNX as docs/spec-file.md says"
)
_TORCH = (
    "TorchScript files and pickles are programs that run when they are loaded, so they are never "
    "opened: export the model to ONNX where it was made (torch.onnx.export)"
)
_OPENVINO = "OpenVINO's files are not read: use the ONNX file that they were made from"
_NOT_READ: Mapping[str, str] = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), _KERAS),
    **dict.fromkeys((".pt", ".pth", ".ts", ".torchscript", ".ckpt", ".pkl"), _TORCH),
    **dict.fromkeys((".xml", ".bin"), _OPENVINO),
    ".params": "MXNet's files are not read: convert the model to ONNX",
    ".safetensors": "weights without their network: export the model to ONNX where it was made",
}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A network's files.

    Attributes:
        kind: the format.
        path: the file with the weights.
        config: the text of the layout (prototxt, cfg or pbtxt), if the format has one.
        outputs: names of the requested outputs; empty for all.
        inputs: names of the inputs, in order, if the format does not contain them.
        data: the file's bytes if they were read before, so that the parsed bytes are the hashed
            ones; None to read them from `path`.
        sha256: hash of the file at `path` when it was checked; "" if it was not.
        pixels: inputs that are given as uint8 pixels, though the graph takes them as float32; for
            onnxruntime on the CPU.
        gathers_channels: an ONNX file whose channel shuffles cv2.dnn computes in another way on the
            CPU (`agebench.runtimes.channel_shuffle`); for files whose hash is known.
    """

    kind: ModelKind
    path: Path
    config: str | None = None
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)
    sha256: str = ""
    pixels: tuple[str, ...] = ()
    gathers_channels: bool = False

    def read(self) -> bytes:
        """Return the bytes to parse: those that were read and hashed before, or the file's.

        Raises:
            OSError: the file can't be read.
        """
        return read_regular(self.path) if self.data is None else self.data

    @staticmethod
    def kind_of(path: Path) -> ModelKind:
        """Return the format for the file's suffix.

        Raises:
            UsageError: the suffix is unknown; the message gives advice for known formats that are
                not supported.
        """
        suffix = path.suffix.lower()
        kind = _SUFFIX_KINDS.get(suffix)
        if kind is None and suffix in _NOT_READ:
            raise UsageError(f"{path}: {_NOT_READ[suffix]}")
        if kind is None:
            known = ", ".join(_SUFFIX_KINDS)
            raise UsageError(f"{path}: unknown suffix; known suffixes are {known}")
        return kind


class Model(Protocol):
    """A loaded network.  `run` may be called from several threads, which wait for each other."""

    @property
    def info(self) -> RuntimeInfo:
        """The runtime and device in use, read back after loading."""
        ...

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs, in the model's order; may be empty for cv2.dnn."""
        ...

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once and return the outputs by name.

        The name "" stands for a single input.

        Raises:
            ModelError: the runtime refuses the input or fails.
        """
        ...


@dataclass(slots=True)
class WatchedModel:
    """A model that records the shapes of its inputs; see `watch_models`.

    Attributes:
        source: its files.
        model: that is run.
        runs: the shape of each input, in order, for every call of `run`.
    """

    source: ModelSource
    model: Model
    runs: list[dict[str, tuple[int, ...]]] = field(default_factory=list)

    @property
    def info(self) -> RuntimeInfo:
        """See `Model.info`."""
        return self.model.info

    @property
    def input_names(self) -> Sequence[str]:
        """See `Model.input_names`."""
        return self.model.input_names

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model.run`."""
        self.runs.append({name: tuple(value.shape) for name, value in inputs.items()})
        return self.model.run(inputs)


_threads: ContextVar[int | None] = ContextVar("threads", default=None)
_leaving: ContextVar[ExitStack | None] = ContextVar("leaving", default=None)
_watched: ContextVar[list[WatchedModel] | None] = ContextVar("watched", default=None)


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Set the number of threads of models opened within the context; None keeps the default.

    cv2.dnn uses OpenCV's global number (`cv2.setNumThreads`) instead.  PyTorch has one number for
    the whole process: it is set when a model is opened and restored at the end of the context,
    since setting it for each run has made runs up to 65 times slower.
    """
    with ExitStack() as leaving:
        leaving.callback(_threads.reset, _threads.set(count))
        leaving.callback(_leaving.reset, _leaving.set(leaving))
        yield


def use_threads_for_good(count: int) -> None:
    """As `use_threads`, until the end of the process: for child processes."""
    _threads.set(count)
    _leaving.set(ExitStack())  # never closed


def when_threads_are_left(undo: Callable[[], object]) -> bool:
    """Register a function to call at the end of the innermost `use_threads`; false without one."""
    leaving = _leaving.get()
    if leaving is not None:
        leaving.callback(undo)
    return leaving is not None


def wanted_threads() -> int | None:
    """Return the number set by `use_threads`; None outside of it."""
    return _threads.get()


def watched_models() -> list[WatchedModel] | None:
    """Return the list yielded by `watch_models`; None outside of it."""
    return _watched.get()


@contextmanager
def watch_models() -> Iterator[list[WatchedModel]]:
    """Yield a list of the models opened within the context, with the shapes of their inputs.

    It takes a little time per run, so it must not be used for timing.
    """
    models: list[WatchedModel] = []
    token = _watched.set(models)
    try:
        yield models
    finally:
        _watched.reset(token)


def text_names(source: ModelSource, names: Callable[[], Iterable[str]]) -> list[str]:
    """Return names from a model's files.

    Raises:
        ModelError: one is not valid UTF-8, which libraries only notice when they are read.
    """
    try:
        return list(names())
    except UnicodeDecodeError as error:
        raise ModelError(f"{source.path} is damaged: a name in it is not text") from error


MAX_MESSAGE_LETTERS = 2000
"""Length of a library's message that is shown; the rest may be a whole dump."""


def library_message(error: BaseException) -> str:
    r"""Return a library's message as one line, made safe because it may contain names from a file.

    >>> library_message(RuntimeError("Got invalid dimensions\n index: 2 Got: 224 Expected: 64\n"))
    'Got invalid dimensions; index: 2 Got: 224 Expected: 64'
    """
    text = str(getattr(error, "err", "") or error).strip() or type(error).__name__
    lines = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    more = len(lines) - MAX_MESSAGE_LETTERS
    return inert(
        lines if more <= 0 else f"{lines[:MAX_MESSAGE_LETTERS]} ... ({more:,} more characters)"
    )


def refuse_device(runtime: str, device: str, reason: str) -> DeviceError:
    """Return the error for a device that is not available, with the reason."""
    return DeviceError(f"{runtime} can't use {device!r} here: {reason}; ask for '@{runtime}:cpu'")
