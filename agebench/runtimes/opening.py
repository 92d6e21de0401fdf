"""Opening a network's files under the runtime and device that were asked for."""

from __future__ import annotations

from dataclasses import replace

from agebench.errors import MissingDependencyError, UsageError
from agebench.runtimes.base import Model, ModelSource, WatchedModel, watched_models
from agebench.runtimes.model_bytes import read_model, require_unchanged


def open_model(
    source: ModelSource, *, runtime: str | None = None, device: str | None = None
) -> Model:
    """Load a network under the runtime and device asked for, or under cv2.dnn on the CPU.

    What was asked for is what runs, or it stops: nothing falls back silently.

    Raises:
        UsageError: the runtime can't read this format at all.
        DeviceError: the runtime is there but not with that device.
        WeightsError: a file of the model is missing or can't be read.
        ModelError: it is too large, cut off, a page in place of a model, or no network that the
            runtime can load.
    """
    model = _open(source, runtime or "cv2dnn", device or "cpu")
    models = watched_models()
    if models is None:
        return model
    models.append(WatchedModel(replace(source, data=None), model))
    return models[-1]


def _open(source: ModelSource, runtime: str, device: str) -> Model:
    if runtime == "cv2dnn":
        from agebench.runtimes.cv2dnn import OpenCvModel

        return OpenCvModel(_read(source), device)
    if runtime == "onnxruntime":
        if source.kind != "onnx":
            raise UsageError(
                f"onnxruntime reads ONNX files only, {source.path.name} is {source.kind}: "
                "leave '@onnxruntime' out"
            )
        from agebench.runtimes.onnx_runtime import OnnxRuntimeModel

        return OnnxRuntimeModel(_read(source), device)
    if runtime == "torch" and source.kind == "onnx":
        return _under_torch(_read(source), device)
    raise UsageError(f"{source.path.name} ({source.kind}) can't run under {runtime!r}")


def _read(source: ModelSource) -> ModelSource:
    if source.data is not None:
        return source
    read = read_model(source.path, source.kind)
    if source.sha256:
        require_unchanged(source.path, source.sha256, read.sha256[source.path.name])
    return replace(source, data=read.data)


def _under_torch(source: ModelSource, device: str) -> Model:
    try:
        from agebench.runtimes.torch_graph import TorchModel
    except ImportError as error:
        raise MissingDependencyError(
            f"the runtime 'torch' needs PyTorch ({error}): pip install 'agebench[train]', or use "
            "'@onnxruntime'"
        ) from error
    return TorchModel(source, device)
