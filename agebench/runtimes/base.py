"""What a loaded network looks like to the rest of the code, whatever library runs it."""

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
"""A larger file is refused before it is read; protobuf, which most are in, ends there too."""

_SUFFIX_KINDS: Mapping[str, ModelKind] = {
    ".onnx": "onnx",
    ".caffemodel": "caffe",
    ".weights": "darknet",
    ".pb": "tensorflow",
    ".tflite": "tflite",
}

_KERAS = (
    'a Keras file needs Keras to be run: many .h5 files are taken with converter = "keras" in '
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
        config: the layout's own text (prototxt, cfg or pbtxt), where the format has one.
        outputs: names of the outputs wanted; empty for all.
        inputs: names of the inputs, in order, where the format does not hold them.
        data: the file's bytes where they were read before, so that what is parsed is what was
            hashed; None to read them from `path`.
        sha256: what those in `path` were when they were checked; "" where nobody did.
    """

    kind: ModelKind
    path: Path
    config: str | None = None
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)
    sha256: str = ""

    def read(self) -> bytes:
        """Return the bytes to parse: those that were read and hashed before, or the file's.

        Raises:
            OSError: the file can't be read.
        """
        return read_regular(self.path) if self.data is None else self.data

    @staticmethod
    def kind_of(path: Path) -> ModelKind:
        """Tell the format by the file's suffix.

        Raises:
            UsageError: the suffix is none of the known ones; says what to do about those of
                formats that are known and not read.
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
    """A loaded network.  `run` may be called from several threads; calls wait for each other."""

    @property
    def info(self) -> RuntimeInfo:
        """What really runs it, read back after loading."""
        ...

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs, in the model's order; cv2.dnn may know none."""
        ...

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once and return the outputs by name.

        With a single input the name "" stands for it.

        Raises:
            ModelError: the runtime refuses the input or fails.
        """
        ...


@dataclass(slots=True)
class WatchedModel:
    """A model that notes the shapes it is given; what `watch_models` puts around it.

    Attributes:
        source: its files.
        model: what really runs.
        runs: per call of `run` the shape of each input, in order.
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
    """Have models that are opened inside run on so many threads; None leaves the runtime's choice.

    cv2.dnn takes its number from OpenCV as a whole (`cv2.setNumThreads`), not from here.  PyTorch
    has one number for the whole process, too: it is set when a model is opened inside and put back
    on leaving, since setting it anew for each run has made runs up to 65 times slower.
    """
    with ExitStack() as leaving:
        leaving.callback(_threads.reset, _threads.set(count))
        leaving.callback(_leaving.reset, _leaving.set(leaving))
        yield


def use_threads_for_good(count: int) -> None:
    """As `use_threads`, to the end of the process: for children, whose models live as long."""
    _threads.set(count)
    _leaving.set(ExitStack())  # never closed


def when_threads_are_left(undo: Callable[[], object]) -> bool:
    """Have something called when the innermost `use_threads` is left; false outside of it."""
    leaving = _leaving.get()
    if leaving is not None:
        leaving.callback(undo)
    return leaving is not None


def wanted_threads() -> int | None:
    """Return what `use_threads` says here; None outside of it."""
    return _threads.get()


def watched_models() -> list[WatchedModel] | None:
    """Return the list that `watch_models` yielded here; None outside of it."""
    return _watched.get()


@contextmanager
def watch_models() -> Iterator[list[WatchedModel]]:
    """Yield a list that gets each model opened inside, with the shapes that it is given.

    It costs a little time per run: not for what is timed.
    """
    models: list[WatchedModel] = []
    token = _watched.set(models)
    try:
        yield models
    finally:
        _watched.reset(token)


def text_names(source: ModelSource, names: Callable[[], Iterable[str]]) -> list[str]:
    """Return names that a library reads in a model's files.

    Raises:
        ModelError: one is not valid UTF-8, which the libraries find out only when they are asked.
    """
    try:
        return list(names())
    except UnicodeDecodeError as error:
        raise ModelError(f"{source.path} is damaged: a name in it is not text") from error


MAX_SAID = 2000
"""Letters of a library's message that are passed on; its end may be a whole dump."""


def said(error: BaseException) -> str:
    r"""Return all lines of what a library says, as one line; it may name what is in a file.

    >>> said(RuntimeError("Got invalid dimensions\n index: 2 Got: 224 Expected: 64\n"))
    'Got invalid dimensions; index: 2 Got: 224 Expected: 64'
    """
    text = str(getattr(error, "err", "") or error).strip() or type(error).__name__
    lines = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    more = len(lines) - MAX_SAID
    return inert(lines if more <= 0 else f"{lines[:MAX_SAID]} ... ({more:,} letters more)")


def refuse_device(runtime: str, device: str, reason: str) -> DeviceError:
    """Return the error that says why a device is not available."""
    return DeviceError(f"{runtime} can't use {device!r} here: {reason}; ask for '@{runtime}:cpu'")
