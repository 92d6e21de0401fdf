"""`hse-mobilenet`: the age and gender MobileNet of HSE_FaceRec_tf, a published reference."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from agebench.estimators.common import (
    DECODERS,
    InputFormat,
    OneViewEstimator,
    SingleOutputNetwork,
    require_known_option,
)
from agebench.modelfiles.weights import resolve
from agebench.protocols import EstimatorSpec
from agebench.runtimes.base import ModelSource
from agebench.runtimes.opening import open_model
from agebench.types import AgeBins, CropSpec, Floats, ViewSpec

FILE = "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
SOURCE = "https://github.com/HSE-asavchenko/HSE_FaceRec_tf"
OUTPUT = "age_pred/Softmax"
BINS = AgeBins.single_years(1, 100)

# The means of VGGFace, as in upstream's facial_analysis.py.
INPUT = InputFormat("bgr", mean=(103.939, 116.779, 123.68))
VIEW = ViewSpec("face", (224, 224), margin=0.1)

YearsRule: TypeAlias = Literal["top2-expectation", "expectation", "median"]
RULES: tuple[YearsRule, ...] = ("top2-expectation", "expectation", "median")


class HseMobileNet(OneViewEstimator):
    """MobileNet 1.0 with a softmax over the ages 1 to 100, trained on IMDB-WIKI.

    Args:
        path: the frozen TensorFlow graph; None takes the published file from the usual places.
        runtime: None for cv2.dnn.
        device: None for the CPU.
        years: "top2-expectation" as upstream (the mean over the two most probable ages),
            "expectation" over all, or "median".

    Raises:
        UsageError: an unknown rule, or a runtime that can't read TensorFlow files.
        WeightsUnavailableError: the published file is not available.
        WeightsError: there is no file at `path`, or it is not a model.
        ModelError: `path` is not such a network.
    """

    def __init__(
        self,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        years: YearsRule = "top2-expectation",
    ) -> None:
        require_known_option("years rule of hse-mobilenet", years, RULES)
        weights = resolve(FILE, explicit=path)
        source = ModelSource(
            "tensorflow", weights.path, outputs=(OUTPUT,), sha256=weights.info.sha256
        )
        model = open_model(source, runtime=runtime, device=device)
        label = f"hse-mobilenet ({weights.path.name})"
        self._network = SingleOutputNetwork(model, label, len(BINS), output_name=OUTPUT)
        self._decode = DECODERS[years]
        self._input, self._view = INPUT, VIEW
        self._try_out(
            lambda error: (
                f"{weights.path} is not a network of hse-mobilenet's layout (224x224 in, "
                f"{OUTPUT!r} over 100 ages out): {error}"
            )
        )
        published = weights.info.published
        note = (
            "IMDB-WIKI's ages come from dates of birth, with many wrong faces among them"
            if published
            else f"not the published weights: {weights.path.name} has another hash"
        )
        self._spec = EstimatorSpec(
            name="hse-mobilenet",
            crop=CropSpec({"face": VIEW}),
            decode=years,
            channel_order=INPUT.channel_order,
            mean=INPUT.mean,
            scale=INPUT.scale,
            bins=BINS,
            weights=(weights.info,),
            trained_on="IMDB-WIKI" if published else "",
            trained_sets=("imdb-wiki",) if published else (),
            label_kind="birth-age" if published else "unknown",
            runtime=model.info,
            settings={"years": years},
            licence=weights.info.licence,
            source=SOURCE if published else weights.info.source,
            citation=(
                "A. V. Savchenko, Efficient facial representations for age, gender and identity "
                "recognition in organizing photo albums using multi-output ConvNet, "
                "PeerJ Computer Science 5:e197, 2019"
            ),
            notes=(note,),
        )

    def _years(self, probabilities: Floats) -> Floats:
        return self._decode(probabilities, BINS)
