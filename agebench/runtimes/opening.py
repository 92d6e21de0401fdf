"""Opening a network's files under the runtime and device that were asked for."""

from __future__ import annotations

from pathlib import Path

from agebench.errors import MissingDependencyError, ModelError, UsageError
from agebench.runtimes.base import MAX_MODEL_BYTES, Model, ModelSource, WatchedModel, watched_models


def open_model(
    source: ModelSource, *, runtime: str | None = None, device: str | None = None
) -> Model:
    """Load a network under the runtime and device asked for, or under cv2.dnn on the CPU.

    What was asked for is what runs, or it stops: nothing falls back silently.

    Raises:
        UsageError: the runtime can't read this format at all.
        DeviceError: the runtime is there but not with that device.
        ModelError: the file is no network that the runtime can load.
    """
    model = _open(source, runtime or "cv2dnn", device or "cpu")
    models = watched_models()
    if models is None:
        return model
    models.append(WatchedModel(source, model))
    return models[-1]


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        return  # whoever reads it says why it can't be
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path} has {size:,} bytes, expected a model of at most {MAX_MODEL_BYTES:,}"
        )


def _open(source: ModelSource, runtime: str, device: str) -> Model:
    _check_size(source.path)
    if runtime == "cv2dnn":
        from agebench.runtimes.cv2dnn import OpenCvModel

        return OpenCvModel(source, device)
    if runtime == "onnxruntime":
        if source.kind != "onnx":
            raise UsageError(
                f"onnxruntime reads ONNX files only, {source.path.name} is {source.kind}: "
                "leave '@onnxruntime' out"
            )
        from agebench.runtimes.onnx_runtime import OnnxRuntimeModel

        return OnnxRuntimeModel(source, device)
    if runtime == "torch" and source.kind == "onnx":
        return _under_torch(source, device)
    raise UsageError(f"{source.path.name} ({source.kind}) can't run under {runtime!r}")


def _under_torch(source: ModelSource, device: str) -> Model:
    try:
        from agebench.runtimes.torch_graph import TorchModel
    except ImportError as error:
        raise MissingDependencyError(
            f"the runtime 'torch' needs PyTorch ({error}): pip install 'agebench[train]', or use "
            "'@onnxruntime'"
        ) from error
    return TorchModel(source, device)
