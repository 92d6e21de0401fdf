"""A model described by a spec file: loaded, tried once, and run."""

from __future__ import annotations

import numpy as np

from agebench.errors import ModelError
from agebench.estimators.common import (
    BATCH,
    SingleOutputNetwork,
    blank,
    in_batches,
    predictions,
    view_pixels,
)
from agebench.estimators.spec_checks import check_graph, stretch_note, test_card
from agebench.estimators.spec_output import AgeScale, OutputReader, Rule
from agebench.estimators.spec_schema import SpecFile
from agebench.protocols import EstimatorSpec
from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.opening import open_model
from agebench.types import AgePrediction, Crops, CropSpec, Floats, Image, Setting, WeightsFile

BATCH_TOLERANCE = 1e-3
"""Largest difference, relative to the largest output, between a batch and single pictures."""


class SpecModel:
    """An estimator that is completely described by a spec file.

    Args:
        written: the spec file's content.
        source: the model's files.
        weights: name, hash, licence and source of each.
        runtime: overrides the file's.
        device: overrides the file's.

    Raises:
        ModelError: the model can't be loaded or does not behave as the spec file says.
    """

    def __init__(
        self,
        written: SpecFile,
        source: ModelSource,
        weights: tuple[WeightsFile, ...],
        runtime: str | None = None,
        device: str | None = None,
    ) -> None:
        self._written = written
        self._view = written.crop.view()
        self._format = written.input
        label = f"{written.name} ({weights[0].file})"
        check_graph(source, written, label)
        model = open_model(
            source,
            runtime=runtime or written.runtime.runtime,
            device=device or (written.runtime.device if runtime is None else None),
        )
        self._ages = written.bins.ages() if written.bins else None
        self._output = _reader(written, self._ages, label)
        self._network = SingleOutputNetwork(
            model, label, None, self._input_name(model), written.output.name
        )
        self._batch = self._try_out()
        self._spec = self._make_spec(weights)
        self._check_golden()

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age, and a distribution if the model gives one, for each face.

        Raises:
            ModelError: the view of a face is missing, or the model fails.
        """
        pixels = view_pixels(crops, self._view.region, self._view)
        if not len(pixels):
            return []
        years, probabilities = self._output.answer(in_batches(pixels, self._rows, self._batch))
        return predictions(years, probabilities, self._network.label)

    def _input_name(self, model: Model) -> str:
        # TensorFlow's importer calls the input "", whatever its name in the graph.
        return self._written.input.name if model.info.runtime == "onnxruntime" else ""

    def _rows(self, pixels_bgr: Image) -> Floats:
        blob = self._format.blob(pixels_bgr)
        if self._network.model.info.runtime != "cv2dnn":  # which always takes float32
            blob = blob.astype(self._written.input.type, copy=False)
        return self._output.take(self._network.rows(blob))

    def _try_out(self) -> int:
        """Run it, so that an unsuitable model is refused at the start; return the batch size.

        Many models are exported for one picture at a time: some fail for two, some give wrong
        answers.
        """
        two = blank(self._view, 2)
        two[1] = np.random.default_rng(0).integers(0, 256, two[1].shape, np.uint8)
        alone = np.concatenate([self._rows(two[:1]), self._rows(two[1:])])
        self._output.check_trial(alone)
        try:
            together = self._rows(two)
        except ModelError:
            return 1
        largest = max(float(np.abs(alone).max()), 1e-9)
        same = bool(np.abs(together - alone).max() <= BATCH_TOLERANCE * largest)
        return BATCH if same else 1

    def card_years(self) -> float:
        """Return the age of agebench's test card, to which [golden] in a spec file refers."""
        card = test_card(self._view.size_hw)
        return float(self._output.answer(self._rows(card[None]))[0][0])

    def _check_golden(self) -> None:
        golden, info = self._written.golden, self._network.model.info
        if golden is None:
            return
        got = self.card_years()
        if not abs(got - golden.years) <= golden.tolerance_years:
            raise ModelError(
                f"{self._network.label}: expected {golden.years:g} years for the test card, as "
                f"[golden] says, got {got:.3f} under {info.runtime} {info.version}: this runtime "
                "computes it wrongly, or the spec file belongs to another model"
            )

    def _make_spec(self, weights: tuple[WeightsFile, ...]) -> EstimatorSpec:
        written, about = self._written, self._written.about
        # Only a distribution has bins: an ordinal output or a class only gives years.
        distribution = written.output.kind in ("probabilities", "logits")
        bins = self._ages.bins if self._ages is not None and distribution else None
        return EstimatorSpec(
            name=written.name,
            crop=CropSpec({self._view.region: self._view}),
            decode="regression" if written.output.kind == "years" else self._output.rule,
            channel_order=self._format.channel_order,
            mean=self._format.mean,
            scale=self._format.scale,
            bins=bins,
            classes=bins if written.bins is not None and written.bins.ranges else None,
            weights=weights,
            trained_on=about.trained_on,
            trained_sets=about.trained_sets,
            label_kind=about.label_kind,
            runtime=self._network.model.info,
            settings=self._settings(),
            licence=about.licence,
            source=about.source,
            citation=about.citation,
            notes=(*about.notes, *filter(None, [stretch_note(written)])),
        )

    def _settings(self) -> dict[str, Setting]:
        output = self._written.output
        settings: dict[str, Setting] = {
            "layout": self._format.layout,
            "output": output.name,
            "kind": output.kind,
            "batch": self._batch,
        }
        if self._format.std:
            settings["std"] = ", ".join(f"{value:g}" for value in self._format.std)
        if output.kind == "years":
            settings |= {"output_scale": output.scale, "output_offset": output.offset}
        if output.part is not None:
            settings["part"] = f"{output.part[0]} to before {output.part[1]}"
        if output.ordinal is not None:
            settings["ordinal"] = output.ordinal
        if self._ages is not None and self._ages.years != tuple(self._ages.bins.midpoints):
            settings["bin_years"] = ", ".join(f"{value:g}" for value in self._ages.years)
        if self._written.golden is not None:
            settings["golden_years"] = self._written.golden.years
        return settings


def _reader(written: SpecFile, ages: AgeScale | None, label: str) -> OutputReader:
    output = written.output
    rule: Rule = "midpoint" if output.kind == "class" else "expectation"
    if written.decode is not None:
        rule = written.decode.rule
    return OutputReader(
        output.kind,
        output.part,
        output.scale,
        output.offset,
        ages,
        rule,
        output.ordinal or "probabilities",
        label,
    )
