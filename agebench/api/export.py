"""`agebench.export_onnx`: exports a model as one ONNX file, verified to predict the same ages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from agebench.conversion.darknet_onnx import NetworkVersion
from agebench.detectors.common import check_input_size
from agebench.detectors.yoloface_500k import OWN, SIZES, STEMS, darknet_files, own_size
from agebench.duplicates.training_hashes import refuse_list_of_another
from agebench.errors import MissingDependencyError, UsageError, suggestion
from agebench.estimators import caffe_age_net, caffe_age_net_utkface
from agebench.export.age_net_candidate import age_net_candidate
from agebench.export.candidate import Candidate
from agebench.export.detector_file import DarknetFiles
from agebench.export.parity import TOLERANCES, ParityReport, Tolerance
from agebench.export.precision import Price, price_of, to_float16, to_half_weights, to_int8
from agebench.export.writing import Written, export
from agebench.fitting.labelled_crops import LabelledCrops, labelled_crops
from agebench.harness.selection import refuse_lists
from agebench.harness.settings import CompareSettings
from agebench.harness.trial import try_models
from agebench.metrics.class_years import read_class_years
from agebench.modelfiles.weights import resolve
from agebench.protocols import Dataset, ProgressStep
from agebench.references import Reference, parse_reference, user_path
from agebench.registry.plugins import convert_option, load_estimator
from agebench.runtimes.age_file import generated
from agebench.runtimes.onnx_metadata import Precision, sources_of
from agebench.train.model_settings import Flip
from agebench.util.files import check_target
from agebench.util.progress import shown_progress

REAL_PICTURES = 128
"""Default number of pictures of a data set."""

_DARKNET = "yoloface-500k"
CAFFE_NETS = frozenset({"caffe-age-net", "caffe-age-net-utkface"})
_HALVED = {"float16-weights": to_half_weights, "float16": to_float16}


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What `export_onnx` writes, and the accepted differences.

    Attributes:
        name: of the model in the file; None for the model's own name.
        flip: average over the mirror image, for a checkpoint; takes longer. Names of views mirror
            these views only, which takes less time.
        precision: "float32"; "float16-weights", stored in half precision and computed in float32;
            "float16"; or "int8", which needs real faces.
        tolerance_years: largest accepted difference of an age; None for 0.01 in float32, and those
            of `agebench.export.parity.TOLERANCES` for the others.
        check: false skips the comparison.

    Raises:
        UsageError: there is no such precision, or the tolerance is out of range.
    """

    name: str | None = None
    flip: Flip = False
    precision: Precision = "float32"
    tolerance_years: float | None = None
    check: bool = True

    def __post_init__(self) -> None:
        known = get_args(Precision)
        if self.precision not in known:
            hint = suggestion(self.precision, known)
            raise UsageError(f"unknown precision {self.precision!r}: {hint}")
        self.tolerance()

    def tolerance(self) -> Tolerance | None:
        """Return the tolerance; None for the default."""
        years, usual = self.tolerance_years, TOLERANCES[self.precision]
        if years is None:
            return None
        lower = self.precision != "float32"
        try:
            return Tolerance(years, min(years, usual.mean_years) if lower else years)
        except ValueError as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """The files written by `export_onnx`.

    Attributes:
        path: the model.
        size_bytes: its size.
        parity: how much its ages differ from the source's; None without a comparison.
        parity_path: the file with this comparison, next to the model; None without one.
        price: the effects of lower precision; None in float32.
        list_path: the list of its training pictures, next to it; None if they are not known.
    """

    path: Path
    size_bytes: int
    parity: ParityReport | None
    parity_path: Path | None
    price: Price | None = None
    list_path: Path | None = None


def export_onnx(
    model: str | Path,
    out: str | Path,
    *,
    settings: ExportSettings | None = None,
    dataset: str | Dataset | None = None,
    root: str | Path | None = None,
    detector: str | None = None,
    pictures: CompareSettings | None = None,
    progress: ProgressStep | None = None,
) -> ExportedModel:
    """Write a model as one ONNX file, and verify that it predicts the same ages.

    The file is run under onnxruntime and, unless it has 8-bit numbers, cv2.dnn; if an age differs
    by more than the tolerance, nothing is written.

    Args:
        model: a checkpoint of ``agebench train`` by its path, or "caffe-age-net[:FILE]" or
            "caffe-age-net-utkface[:FILE]" with options.
        out: file to write, which ends in .onnx.
        settings: name, precision and tolerance; see `ExportSettings`.
        dataset: compare on the faces of this data set, by name or as an object; None takes
            generated crops.
        root: folder or file of a data set given by name.
        detector: finds the faces, by name; None for what `compare` would take.
        pictures: protocol, part, limit, sample and seed choose the pictures; None draws
            `REAL_PICTURES` at random.
        progress: called with (stage, done, total).  None draws bars in a notebook and on a
            terminal; `agebench.no_progress` draws none.

    Raises:
        UsageError: the call is wrong, or the model can't be exported.
        WeightsUnavailableError: a model file is not available.
        MissingDependencyError: a checkpoint needs PyTorch.
        ModelError: an age differs by more than the tolerance.
        AgebenchError: `out` can't be written, or any other failure.

    >>> from agebench import export_onnx
    >>> export_onnx("hse-mobilenet", "model.onnx")
    Traceback (most recent call last):
        ...
    agebench.errors.UsageError: 'hse-mobilenet' can't be exported to ONNX: give a checkpoint ...
    """
    settings = settings or ExportSettings()
    target = onnx_target(out)
    refuse_lists(target, root, None if pictures is None else pictures.protocol)
    if settings.precision == "int8" and dataset is None:
        raise UsageError("int8 needs a data set of real faces, to find the range of each value")
    try_models(detectors=[detector])
    candidate = _named(candidate_of(str(model), flip=settings.flip), settings.name)
    with shown_progress(progress) as step:
        labelled = None
        if dataset is not None:
            labelled = labelled_crops(
                candidate.spec.crop,
                dataset,
                root=None if root is None else user_path(root),
                detector=detector,
                settings=pictures or CompareSettings(sample=REAL_PICTURES),
                progress=step,
            )
    candidate, compared, price = _reduced(candidate, labelled, settings.precision)
    written: Written[ParityReport] = export(
        candidate,
        target,
        crops=None if compared is None else compared.crops,
        described="" if compared is None else compared.description,
        tolerance=settings.tolerance(),
        check=settings.check,
    )
    return ExportedModel(
        written.path,
        written.size_bytes,
        written.report,
        written.report_path,
        price,
        written.list_path,
    )


def onnx_target(out: str | Path) -> Path:
    """Return the path of the output file.

    Raises:
        UsageError: it does not end in .onnx, or its list of training pictures is another model's.
        AgebenchError: it can't be written.
    """
    target = user_path(out)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"the output must be named *.onnx, got {target}")
    check_target(target)
    refuse_list_of_another(target)
    return target


def _named(candidate: Candidate, name: str | None) -> Candidate:
    if name is None:
        return candidate
    try:
        return replace(candidate, spec=replace(candidate.spec, name=name))
    except ValueError as error:
        raise UsageError(f"name (--name): {error}") from error


def candidate_of(name: str, *, flip: Flip) -> Candidate:
    """Return the source: a checkpoint by its path, or an estimator by its name."""
    path = user_path(name)
    named = name.startswith("torch:")  # torch:FILE ends as a path of a checkpoint does
    if path.is_file() or (path.suffix == ".safetensors" and not named):
        return _checkpoint(path, flip=flip)
    _refuse_beside(path, name)
    reference = parse_reference(name)
    if reference.name == "torch" and reference.path is not None:
        return _checkpoint(reference.path, flip=_flip_of(reference, flip=flip))
    if flip:
        raise UsageError("flip (--flip) is for checkpoints of 'agebench train'")
    if reference.name in CAFFE_NETS:
        return _caffe_age_net(reference)
    raise UsageError(
        f"{reference.name!r} can't be exported to ONNX: give a checkpoint of 'agebench train', or "
        "caffe-age-net[:FILE] or caffe-age-net-utkface[:FILE]"
    )


def _refuse_beside(path: Path, name: str) -> None:
    """Refuse the folder of a checkpoint, or one with options."""
    file, _, options = name.partition(" ")
    if options and user_path(file).is_file():
        raise UsageError(
            f"{file} has no options, got {options!r}: flip (--flip) averages mirror images"
        )
    if path.is_dir() and name not in CAFFE_NETS:
        raise UsageError(
            f"expected a checkpoint, got the folder {path}: name a file such as "
            f"{path / 'best.safetensors'}"
        )


def _flip_of(reference: Reference, *, flip: Flip) -> Flip:
    """Return whether ``torch:FILE [flip=...]`` averages over the mirror image.

    Raises:
        UsageError: it names a runtime, device or option that the exported file does not have, or
            contradicts --flip.
    """
    if reference.runtime not in {None, "torch"} or reference.device not in {None, "cpu"}:
        raise UsageError(
            f"{reference.text!r}: a checkpoint is exported from PyTorch on the CPU, and the file "
            "runs under any runtime: leave out what follows '@'"
        )
    for name in reference.options:
        if name != "flip":
            hint = suggestion(name, ["flip"])
            raise UsageError(f"option {name!r} is not part of an exported checkpoint: {hint}")
    text = reference.options.get("flip")
    try:
        asked = bool(flip) if text is None else convert_option(text, bool)
    except ValueError as error:
        raise UsageError(f"option flip={text!r} of 'torch': {error}") from error
    if flip and not asked:
        raise UsageError(f"flip=True (--flip) and flip={text} exclude each other: give one of them")
    return flip or bool(asked)


def _checkpoint(path: Path, *, flip: Flip) -> Candidate:
    try:
        from agebench.export.multi_crop import checkpoint_candidate
    except ImportError as error:
        raise MissingDependencyError(
            f"a checkpoint needs PyTorch to be exported: {error}. Install it with: "
            "pip install 'agebench[train]'"
        ) from error
    return checkpoint_candidate(path, flip=flip)


def _caffe_age_net(reference: Reference) -> Candidate:
    try_models([reference.text])
    estimator = load_estimator(reference)
    table = reference.options.get("table")
    years = None if table is None else read_class_years(user_path(table))[0].years
    published = caffe_age_net if reference.name == "caffe-age-net" else caffe_age_net_utkface
    file = resolve(published.FILE, explicit=reference.path).path
    return age_net_candidate(estimator, file, years)


def _reduced(
    candidate: Candidate, labelled: LabelledCrops | None, precision: Precision
) -> tuple[Candidate, LabelledCrops | None, Price | None]:
    """Return the candidate of that precision, the faces it is compared on, and its price."""
    if precision == "float32":
        return candidate, labelled, None
    compared = labelled
    if precision == "int8" and labelled is not None:
        calibration, compared = labelled.halves()
        reduced = to_int8(candidate, calibration.crops)
    else:
        reduced = _HALVED[precision](candidate)
    crops = generated(candidate.spec.crop, 16) if compared is None else compared.crops
    return (
        reduced,
        compared,
        price_of(candidate, reduced, crops, None if compared is None else compared.ages),
    )


def darknet_of(text: str) -> DarknetFiles:
    """Return the files of ``yoloface-500k[:FILE.weights] [version=v1] [size=WIDTHxHEIGHT]``.

    Raises:
        UsageError: another detector, or an option that does not decide what is exported.
        WeightsError: a file is not available.
    """
    reference = parse_reference(text)
    if reference.name != _DARKNET:
        raise UsageError(f"detector {reference.name!r} can't be exported: {_DARKNET} can")
    for option in reference.options:
        if option not in ("version", "size"):
            raise UsageError(
                f"option {option!r} is not part of an exported {_DARKNET}: "
                f"{suggestion(option, ('version', 'size'))}"
            )
    asked = reference.options.get("version", "v2")
    if asked not in STEMS:
        raise UsageError(f"unknown version {asked!r} of {_DARKNET}: {suggestion(asked, STEMS)}")
    version: NetworkVersion = "v1" if asked == "v1" else "v2"
    path, size = reference.path, reference.options.get("size", SIZES[version])
    # A wrong size is reported before a file is looked for.
    size_hw = check_input_size(_DARKNET, size, multiple=32 if path is None else 8)
    layout, file, cfg = darknet_files(version, path)
    if path is not None and not file.info.published:
        version = OWN
        if "size" not in reference.options:
            size_hw = own_size(layout.path, cfg)
    return DarknetFiles(
        version,
        cfg,
        file.path,
        sources_of((file.info, layout.info)),
        file.info.licence,
        size_hw,
    )
