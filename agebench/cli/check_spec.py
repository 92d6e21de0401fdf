"""`agebench check-spec`: arguments and what is printed; see `agebench.harness.spec_check`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agebench.cli.options import FilePath
from agebench.errors import AgebenchError, UsageError, inert
from agebench.protocols import Estimator, EstimatorSpec

if TYPE_CHECKING:
    from agebench.estimators.spec_model import SpecModel
    from agebench.harness.spec_check import SpecCheck

EPILOG = """\b
Examples:
  agebench check-spec my_model.toml
  agebench check-spec my_model.toml a.jpg b.jpg --crops seen.png
  agebench check-spec spec:my_model.toml@onnxruntime --json
  agebench check-spec my_model.toml --card card.png
"""


@click.command("check-spec", epilog=EPILOG)
@click.argument("spec")
@click.argument("pictures", nargs=-1, type=FilePath())
@click.option("--detector", help="Face detector; default: yolov8-face, aligned for composites.")
@click.option("--crops", type=FilePath(), help="PNG to write: the crops that the network gets.")
@click.option("--card", type=FilePath(), help="PNG to write: the test card of [golden].")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    spec: str,
    pictures: tuple[Path, ...],
    detector: str | None,
    crops: Path | None,
    card: Path | None,
    as_json: bool,
) -> None:
    """Load the model described by a spec file, let it predict ages, and report what looks wrong.

    Without PICTURES, bundled composites are used, whose ages are roughly known. Exits with 1 if
    something looks wrong.
    """
    from agebench.estimators.spec_checks import test_card
    from agebench.estimators.spec_model import SpecModel
    from agebench.harness.spec_check import check_described, sheet
    from agebench.harness.trial import try_models
    from agebench.registry.plugins import load_detector, load_estimator
    from agebench.util.files import write_whole
    from agebench.vision.images import encode_png

    reference = spec if spec.startswith("spec:") or ".toml" not in spec else f"spec:{spec}"
    _require_known(reference)
    _require_estimator(reference)
    _check_targets({"--crops": crops, "--card": card}, reference, pictures)
    if card is not None:  # before the model is loaded, which may need its [golden] answer
        write_whole(card, encode_png(test_card(_size_of(reference))))
    try_models([reference], [detector])
    estimator = load_estimator(reference)
    if not isinstance(estimator, SpecModel):
        raise UsageError(f"{reference!r} is not described by a spec file: name a TOML file")
    if detector is None:
        detector = "yolov8-face" if pictures else "aligned"
    other, why_not = _other_runtime(reference, estimator.spec)
    check = check_described(estimator, pictures, load_detector(detector), other)
    if crops is not None:
        write_whole(crops, encode_png(sheet(check)))
    about = _about(estimator, check, other, why_not)
    if as_json:
        click.echo(json.dumps(about, indent=2))
    else:
        _show(about)
    if check.wrong:
        raise click.exceptions.Exit(1)


def _require_known(reference: str) -> None:
    """Refuse a folder or a model's own file, which are no estimator's name."""
    from agebench.references import user_path
    from agebench.registry.plugins import ESTIMATORS, require_registered

    try:
        require_registered(ESTIMATORS, reference)
    except UsageError as error:
        path = user_path(reference)
        if not path.exists():
            raise
        raise UsageError(
            f"expected the TOML file that describes a model, got the "
            f"{'folder' if path.is_dir() else 'file'} {path}: docs/spec-file.md shows such a file"
        ) from error


def _require_estimator(reference: str) -> None:
    """Refuse a face detector's spec file; whatever else is wrong is left to the estimator's."""
    from agebench.detectors.spec_schema import read_detector_spec
    from agebench.references import parse_reference

    path = parse_reference(reference).path
    if path is None:
        return
    try:
        kind = read_detector_spec(path).output.kind
    except UsageError:
        return
    raise UsageError(
        f"{path} describes a face detector (output.kind = {kind!r}), and check-spec is for age "
        f"estimators: 'agebench predict PICTURE --detector spec:{path} --draw OUT.jpg' shows what "
        "it finds"
    )


def _check_targets(
    targets: Mapping[str, Path | None], reference: str, pictures: Iterable[Path]
) -> None:
    """Check by option that each file can be written, and is not one that is read."""
    from agebench.util.files import check_output

    given = {option: path for option, path in targets.items() if path is not None}
    inputs = [*_model_files(reference), *pictures] if given else []
    for option, path in given.items():
        check_output(path, ".png", inputs, option)


def _model_files(reference: str) -> Iterator[Path]:
    """Yield the file that a reference names, and those that a spec file names."""
    from agebench.estimators.spec_schema import read_spec
    from agebench.references import parse_reference

    parsed = parse_reference(reference)
    if parsed.path is None:
        return
    yield parsed.path
    if parsed.name == "spec":
        files = read_spec(parsed.path).files
        names = (files.model, files.config, *files.data_sha256)
        yield from (parsed.path.parent / name for name in names if name)


def _other_runtime(reference: str, spec: EstimatorSpec) -> tuple[Estimator | None, str]:
    """Return an ONNX model under its other runtime, or why there is none."""
    from agebench.harness.trial import try_models
    from agebench.references import parse_reference
    from agebench.registry.plugins import load_estimator

    if not spec.weights[0].file.lower().endswith(".onnx") or spec.runtime.device != "cpu":
        return None, ""
    name = "onnxruntime" if spec.runtime.runtime == "cv2dnn" else "cv2dnn"
    try:
        parsed = parse_reference(reference)
        same = f"{parsed.name}{'' if parsed.path is None else f':{parsed.path}'}@{name}"
        try_models([same])
        return load_estimator(same), ""
    except AgebenchError as error:
        return None, f"under {name}: {error}"


def _size_of(reference: str) -> tuple[int, int]:
    """Return height and width of the input in a spec file, or in that of a public model."""
    from agebench.estimators.spec_schema import read_spec
    from agebench.estimators.zoo import zoo_file
    from agebench.references import parse_reference

    parsed = parse_reference(reference)
    path = parsed.path if parsed.name == "spec" else zoo_file(parsed.name)
    if path is None or (parsed.name != "spec" and not path.is_file()):
        raise UsageError(f"{reference!r} is not described by a spec file: name a TOML file")
    return read_spec(path).crop.size


def _about(
    estimator: SpecModel, check: SpecCheck, other: Estimator | None, why_not: str
) -> dict[str, Any]:
    """Return the findings as JSON-compatible values."""
    from agebench.harness.spec_check import by_decade

    other_runtime = why_not
    if other is not None:
        apart = float(abs(check.years - check.other_years).max())
        other_runtime = (
            f"under {other.spec.runtime.runtime}: ages differ by up to {apart:.2g} years"
        )
    about: dict[str, Any] = {
        "name": estimator.spec.name,
        "files": {item.file: item.sha256 for item in estimator.spec.weights},
        "runtime": f"{estimator.spec.runtime.runtime} {estimator.spec.runtime.version}",
        "batch": estimator.spec.settings["batch"],
        "card_years": round(estimator.card_years(), 3),
        "ages": dict(zip(check.names, check.years.round(2).tolist(), strict=True)),
        "swapped_differ_by": round(float(abs(check.years - check.swapped_years).mean()), 2),
        "other_runtime": other_runtime,
        "without_face": list(check.without_face),
        "wrong": list(check.wrong),
    }
    if len(check.true_years):
        error = float(abs(check.years - check.true_years).mean())
        about["error_on_composites_years"] = round(error, 2)
        about["rank_correlation"] = None if check.following is None else round(check.following, 3)
        about["by_decade"] = by_decade(check)
    return about


def _show(about: dict[str, Any]) -> None:
    lines = [f"{about['name']} under {about['runtime']}, {about['batch']} faces at once"]
    lines += [f"  {file}: sha256 {sha256}" for file, sha256 in about["files"].items()]
    decades = about.get("by_decade", {})
    for decade, (count, mean) in decades.items():
        lines.append(f"  composites of {decade} years ({count}): {mean:.1f} years")
    if not decades:
        lines += [f"  {name}: {years:.1f} years" for name, years in about["ages"].items()]
    lines += [f"  {name}: no face" for name in about["without_face"]]
    if "error_on_composites_years" in about:
        follows = about["rank_correlation"]
        lines.append(
            f"  error on the composites: {about['error_on_composites_years']:.1f} years, rank "
            f"correlation {'none' if follows is None else format(follows, '.2f')}"
        )
    lines.append(f"  red and blue exchanged: ages differ by {about['swapped_differ_by']:.1f} years")
    if about["other_runtime"]:
        lines.append(f"  {about['other_runtime']}")
    lines.append(f"  the test card: {about['card_years']:g} years ([golden] in the spec file)")
    lines += [f"LOOKS WRONG: {sentence}" for sentence in about["wrong"]] or ["nothing looks wrong"]
    for line in lines:
        click.echo(inert(line))
