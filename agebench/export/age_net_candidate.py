"""Caffe files of the age_net layout, prepared for export with decoding and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agebench.conversion.age_net_onnx import add_age_net
from agebench.conversion.graph import Graph
from agebench.duplicates.training_hashes import KnowsItsTraining
from agebench.errors import UsageError
from agebench.export.candidate import Candidate, years_of
from agebench.export.decoding import add_age, decode_rule
from agebench.protocols import Estimator
from agebench.runtimes.caffe_model import read_caffemodel
from agebench.runtimes.onnx_metadata import PROBABILITIES, FileSpec, sources_of, views_of


def age_net_candidate(
    estimator: Estimator, caffemodel: Path, class_years: Sequence[float] | None = None
) -> Candidate:
    """Prepare `caffe-age-net` or `caffe-age-net-utkface` for export.

    Args:
        estimator: loaded from `caffemodel`, with one crop and the channel mean.
        caffemodel: the file.
        class_years: the estimator's table of years, if it has one.

    Raises:
        UsageError: the estimator's options can't be put into a graph.
        ModelError: the file is of another layout.
    """
    spec = estimator.spec
    # caffe-age-net-utkface has neither option, and always meets this.
    if spec.settings.get("crops", 1) != 1 or spec.settings.get("mean", "channel") != "channel":
        raise UsageError(
            "caffe-age-net is exported with one crop and the channel mean: omit crops=10 and "
            "mean=image"
        )
    decode = decode_rule(spec.decode)
    bins = spec.bins
    if bins is None:
        raise UsageError("an age network without bins can't be exported")
    years = list(bins.midpoints if class_years is None else class_years)
    graph = Graph()
    (view,) = spec.crop.views
    graph.reserve(view, PROBABILITIES)
    mean = np.array(spec.mean)[:, None, None]
    centred = graph.node("Sub", [view, graph.weight(mean[None], "mean")], "centred")
    add_age_net(graph, read_caffemodel(caffemodel), centred, PROBABILITIES)
    add_age(graph, PROBABILITIES, years, decode)
    written = FileSpec(
        name=spec.name,
        views=views_of(spec.crop),
        bins=tuple(zip(bins.lows, bins.highs, strict=True)),
        bin_years=tuple(float(value) for value in years),
        decode=decode,
        licence=spec.licence,
        trained_on=spec.trained_on,
        trained_sets=spec.trained_sets,
        label_kind=spec.label_kind,
        sources=sources_of(spec.weights),
        classes=spec.classes is not None,
        normalisation="less " + ", ".join(f"{value:g}" for value in spec.mean) + " (B, G, R)",
        source=spec.source,
        citation=spec.citation,
        notes=spec.notes,
    )
    model = graph.model("age_net", written.input_shapes, written.output_shapes)
    trained = estimator.training_hashes() if isinstance(estimator, KnowsItsTraining) else None
    label = f"{spec.name} ({caffemodel.name})"
    return Candidate(model, written, years_of(estimator), label, trained)
