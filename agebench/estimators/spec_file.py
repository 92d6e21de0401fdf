"""`spec:PATH.toml`: anybody's ONNX, Caffe, TensorFlow or Darknet model, without code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import softmax

from agebench.errors import ModelError, UsageError, WeightsError
from agebench.estimators.common import (
    BATCH,
    DECODERS,
    Network,
    are_shares,
    blank,
    checked_shares,
    in_batches,
    predictions,
    view_pixels,
)
from agebench.estimators.spec_schema import Input, SpecFile, file_beside, read_spec
from agebench.protocols import EstimatorSpec
from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.opening import open_model
from agebench.types import (
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Floats,
    Image,
    Setting,
    WeightsFile,
)
from agebench.weights import sha256_of

MAX_CONFIG_BYTES = 1024 * 1024
BATCH_TOLERANCE = 1e-3
"""Largest difference, relative to the largest output, between a batch and its members alone."""


class SpecFileEstimator:
    """A model described by a spec file (docs/spec-file.md).

    Args:
        path: the TOML file.
        runtime: wins over the file's.
        device: wins over the file's.

    Raises:
        UsageError: no path, or a spec file that does not fit; names the key.
        WeightsError: the model is missing or its sha256 is not the one that the spec file states.
        ModelError: the model can't be loaded or does not answer as the spec file says.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        if path is None:
            raise UsageError("'spec' needs a file: write spec:my_model.toml")
        written = self._written = read_spec(path)
        source, weights = _source(path, written)
        self._view = written.crop.view()
        self._format = written.input.format()
        self._bins: AgeBins | None = written.bins.bins() if written.bins else None
        self._rule = _rule(written)
        model = open_model(
            source,
            runtime=runtime or written.runtime.runtime,
            device=device or (written.runtime.device if runtime is None else None),
        )
        _check_inputs(model, written.input, weights.file)
        self._network = Network(
            model,
            f"{written.name} ({weights.file})",
            1 if self._bins is None else len(self._bins),
            written.input.name,
            written.output.name,
        )
        self._batch = self._try_out()
        self._spec = self._make_spec(weights)

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age, and a distribution where the model gives one, for each face.

        Raises:
            ModelError: the view of a face is missing, or the model fails.
        """
        pixels = view_pixels(crops, self._written.crop.region, self._view)
        if not len(pixels):
            return []
        rows = in_batches(pixels, self._rows, self._batch)
        output, label = self._written.output, self._network.label
        if self._bins is None:
            return predictions(rows[:, 0] * output.scale + output.offset, label=label)
        shares = softmax(rows, axis=1) if output.kind == "logits" else rows
        shares = checked_shares(np.asarray(shares, np.float64), label)
        return predictions(DECODERS[self._rule](shares, self._bins), shares, label)

    def _rows(self, pixels_bgr: Image) -> Floats:
        return self._network.rows(self._format.blob(pixels_bgr))

    def _try_out(self) -> int:
        """Run it, so that a wrong model stops the run before it begins; return the batch to use.

        Many models are exported for one picture at a time: some refuse two, some answer wrongly.
        """
        two = blank(self._view, 2)
        two[1] = np.random.default_rng(0).integers(0, 256, two[1].shape, np.uint8)
        alone = np.concatenate([self._rows(two[:1]), self._rows(two[1:])])
        self._check_kind(alone)
        try:
            together = self._rows(two)
        except ModelError:
            return 1
        largest = max(float(np.abs(alone).max()), 1e-9)
        same = bool(np.abs(together - alone).max() <= BATCH_TOLERANCE * largest)
        return BATCH if same else 1

    def _check_kind(self, rows: Floats) -> None:
        kind, label = self._written.output.kind, self._network.label
        if kind == "probabilities":
            checked_shares(rows, label)
        if kind == "logits" and rows.shape[1] > 1 and are_shares(rows):
            # A second softmax would make nearly the same age of every face.
            raise ModelError(
                f"{label}: expected logits, got numbers that sum to 1 and none negative for each "
                'trial: they are probabilities; write kind = "probabilities"'
            )

    def _make_spec(self, weights: WeightsFile) -> EstimatorSpec:
        written, about = self._written, self._written.about
        return EstimatorSpec(
            name=written.name,
            crop=CropSpec({written.crop.region: self._view}),
            decode=self._rule,
            channel_order=self._format.channel_order,
            mean=self._format.mean,
            scale=self._format.scale,
            bins=self._bins,
            classes=None if written.bins is None or not written.bins.ranges else self._bins,
            weights=(weights,),
            trained_on=about.trained_on,
            trained_sets=about.trained_sets,
            label_kind=about.label_kind,
            runtime=self._network.model.info,
            settings=self._settings(),
            licence=about.licence,
            source=about.source,
            citation=about.citation,
            notes=about.notes,
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
        return settings


def _rule(written: SpecFile) -> str:
    if written.output.kind == "years":
        return "years"
    return written.decode.rule if written.decode else "expectation"


def _source(path: Path, written: SpecFile) -> tuple[ModelSource, WeightsFile]:
    """Find the model's files, check the hash and tell the format."""
    files = written.files
    model = file_beside(path, files.model, "files.model")
    kind = ModelSource.kind_of(model)
    config = None
    if files.config is not None:
        config = _read_config(file_beside(path, files.config, "files.config"))
    if (config is not None) != (kind in ("caffe", "darknet")):
        needs = "needs files.config, its layout" if config is None else "takes no files.config"
        raise UsageError(f"{path}: a {kind} model {needs}")
    sha256 = sha256_of(model)
    if files.sha256 not in (None, sha256):
        raise WeightsError(f"{model}: expected sha256 {files.sha256} as {path} says, got {sha256}")
    outputs = (written.output.name,) if written.output.name else ()
    about = written.about
    info = WeightsFile(model.name, sha256, about.licence, about.source)
    return ModelSource(kind, model, config=config, outputs=outputs), info


def _read_config(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(f"{path}: expected a layout of at most {MAX_CONFIG_BYTES} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a layout as UTF-8 text: {error}") from error


def _check_inputs(model: Model, wanted: Input, file: str) -> None:
    known = tuple(model.input_names)
    if wanted.name and known and wanted.name not in known:
        raise ModelError(f"{file} has no input {wanted.name!r}, it has {', '.join(known)}")
    if len(known) > 1:
        raise ModelError(f"{file} has {len(known)} inputs ({', '.join(known)}): expected one")
