"""`caffe-age-net-utkface`: Levi and Hassner's network, trained by this project and bundled.

The baseline of `multicrop-resnet`: the same pictures of UTKFace, kind of loss, ages and decoding;
its card lists the other differences besides the architecture.  It uses the same code as the
published network, cv2.dnn's Caffe importer, but has a class for every age instead of eight.
"""

from __future__ import annotations

from pathlib import Path

from agebench.duplicates.training_hashes import TrainingHashes, find_hashes
from agebench.estimators.caffe_age_net import age_net_source, wrong_layout
from agebench.estimators.common import (
    InputFormat,
    OneViewEstimator,
    SingleOutputNetwork,
)
from agebench.metrics.age_classes import median
from agebench.modelfiles.weights import resolve
from agebench.protocols import EstimatorSpec
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, INPUT_SHAPE, OUTPUT_NAME
from agebench.runtimes.opening import open_model
from agebench.types import AgeBins, CropSpec, Floats, ViewSpec

FILE = "caffe-age-net-utkface.caffemodel"
BINS = AgeBins.single_years(0, 116)
VIEW = ViewSpec("chip", INPUT_SHAPE[1:])
SOURCE = "agebench: pretrained/caffe-age-net-utkface.md"
CITATION = (
    "architecture: G. Levi and T. Hassner, Age and Gender Classification using Convolutional "
    "Neural Networks, CVPR Workshops 2015"
)


class CaffeAgeNetUtkface(OneViewEstimator):
    """Ages 0 to 116 from one 227x227 chip of the face.

    Args:
        path: another caffemodel of this layout and these ages in its place.
        runtime: "cv2dnn", the default; "onnxruntime" or "torch", for which the file is converted.
        device: None for the CPU.

    Raises:
        WeightsUnavailableError: the bundled file is missing from the installation.
        WeightsError: a file given by its path is missing, or not a model.
        ModelError: the file is not a caffemodel of this layout.
        DeviceError: the runtime is available but not with that device.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        weights = resolve(FILE, explicit=path)
        self._path = weights.path
        source = age_net_source(weights, runtime, len(BINS))
        model = open_model(source, runtime=runtime, device=device)
        label = f"caffe-age-net-utkface ({weights.path.name})"
        self._network = SingleOutputNetwork(model, label, len(BINS), output_name=OUTPUT_NAME)
        self._input = InputFormat("bgr", mean=CHANNEL_MEAN)
        self._view = VIEW
        self._try_out(lambda error: wrong_layout(weights.path, error, len(BINS), "ages"))
        published = weights.info.published
        self._spec = EstimatorSpec(
            name="caffe-age-net-utkface",
            crop=CropSpec({"face": VIEW}),
            decode="median",
            channel_order=self._input.channel_order,
            mean=self._input.mean,
            scale=self._input.scale,
            bins=BINS,
            weights=(weights.info,),
            trained_on="UTKFace (utkface-full/train)" if published else "",
            trained_sets=("utkface",) if published else (),
            label_kind="dex-estimated" if published else "unknown",
            runtime=model.info,
            licence=weights.info.licence,
            source=SOURCE if published else weights.info.source,
            citation=CITATION,
        )

    def training_hashes(self) -> TrainingHashes | None:
        """Return its training pictures, if they are listed next to the file."""
        return find_hashes(self._path)

    def _years(self, probabilities: Floats) -> Floats:
        return median(probabilities, BINS)
