"""`agebench compare`: arguments only; the work is in `agebench.harness`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from agebench.cli.options import (
    FilePath,
    advanced_option,
    check_options,
    former_name,
    help_all,
    max_pixels_option,
    print_note,
)
from agebench.cli.run_file import RUN_FILE, config_option, write_run_file
from agebench.errors import AgebenchError, UsageError, inert
from agebench.references import called, join_options
from agebench.util.progress import progress_bars

if TYPE_CHECKING:
    from agebench.harness.fail_if import Checks
    from agebench.harness.results import CompareResult

EPILOG = """\b
Examples:
  agebench compare
  agebench compare hse-mobilenet constant --dataset fgnet --root FGNET
  agebench compare hse-mobilenet --dataset csv --root my.csv --fail-if 'mae>5'
"""


@click.command("compare", epilog=EPILOG)
@click.argument("estimators", nargs=-1, metavar="[ESTIMATOR [key=value]]...")
@click.option("--dataset", help="Name of a data set, with options; default: 'sample'.")
@click.option("--root", type=FilePath(), help="Its folder or file.")
@click.option("--detector", help="Face detector; default: 'aligned' or 'yolov8-face'.")
@click.option("-o", "--out", type=FilePath(), help="Folder for the result files.")
@click.option("--protocol", help="Score a test part: 'holdout seed=3', or a split file.")
@advanced_option("--part", help="Which part: test (default), val, train+val, not-fold-0.")
@advanced_option("--limit", type=int, help="Only the first N pictures by name.")
@advanced_option("--sample", type=int, help="Only N pictures, chosen at random.")
@advanced_option(
    "--seed", type=int, default=0, show_default=True, help="Seed of all random choices."
)
@advanced_option("--batch-size", type=int, default=32, show_default=True, help="Faces per call.")
@advanced_option(
    "--decode-threads",
    "decode_threads",
    type=int,
    default=2,
    show_default=True,
    help="Threads that decode pictures.",
)
@former_name("--workers", "--decode-threads")
@advanced_option("--threads", type=int, help="Threads of the models; default: one per processor.")
@advanced_option(
    "--latency-pictures",
    type=int,
    default=100,
    show_default=True,
    help="Pictures used for timing; 0: none.",
)
@former_name("--latency-images", "--latency-pictures")
@max_pixels_option
@advanced_option("--variant", help="Alter pictures once faces are found: face-px=32, gray, ...")
@advanced_option("--fresh-detections", is_flag=True, help="Detect all faces again and store none.")
@advanced_option(
    "--skip-unavailable", is_flag=True, help="Skip models whose files or libraries are missing."
)
@advanced_option(
    "--report/--no-report",
    default=None,
    help="Write report.html with the results; default with --out.",
)
@config_option()
@advanced_option("--full", is_flag=True, help="Print all tables, not only the ranking.")
@check_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no tables.")
@help_all
def command(
    estimators: tuple[str, ...],
    dataset: str | None,
    root: Path | None,
    detector: str | None,
    out: Path | None,
    as_json: bool,
    fresh_detections: bool,
    checks: Checks,
    **settings: Any,
) -> None:
    """Compare estimators on the same faces: error in years and latency.

    An ESTIMATOR is NAME[:PATH][@RUNTIME[:DEVICE]] with options as key=value ('agebench ls').
    Without arguments, three bundled models and a constant are compared on a sample, into
    agebench-demo.
    """
    from agebench.harness.compare import compare
    from agebench.harness.kept_detections import usually_kept
    from agebench.harness.results import RESULT_FILE
    from agebench.harness.settings import CompareSettings
    from agebench.harness.trial import try_models
    from agebench.registry import defaults
    from agebench.util.files import refuse_input

    if not (estimators or dataset or out or as_json):
        out = Path(defaults.DEMO_FOLDER)
    full, asked = settings.pop("full"), settings.pop("report")
    report = out is not None if asked is None else asked
    if report:
        _check_report(out)
    if dataset is None and root is not None:
        raise UsageError("--root needs --dataset: say what kind of data set it is")
    dataset = defaults.DATASET if dataset is None else dataset
    references = join_options(estimators) or list(defaults.ESTIMATORS)
    checks.require_names([called(reference) for reference in references])
    if out is not None and checks.baseline is not None:
        refuse_input(out / RESULT_FILE, [checks.baseline_path])
    try_models(detectors=[detector])
    with ExitStack() as stack:
        detections = None if fresh_detections else stack.enter_context(usually_kept(print_note))
        progress = stack.enter_context(progress_bars())
        result = compare(
            references,
            dataset,
            root=root,
            detector=detector,
            out=out,
            settings=CompareSettings(**settings),
            progress=progress,
            detections=detections,
        )
    written = [] if out is None else _write_beside(result, out, references, dataset, report=report)
    if as_json:
        _print_json(result)
    else:
        _print(result, out, written, full=full)
    _require_all(result, allowed=bool(settings["skip_unavailable"]))
    _require_ages(result)
    if checks.wanted:
        from agebench.harness.reading import measured

        checks.require(measured(result).content)


def _write_beside(
    result: CompareResult, out: Path, references: list[str], dataset: str, *, report: bool
) -> list[str]:
    """Write the other files of a result; return the names of all its files."""
    from agebench.harness.reading import measured
    from agebench.harness.results import PREDICTIONS_FILE, RESULT_FILE
    from agebench.report.writing import report_on

    context = click.get_current_context()
    write_run_file(context, out, estimators=references, dataset=dataset)
    names = [RESULT_FILE, PREDICTIONS_FILE, RUN_FILE]
    if report:
        names.append(report_on(measured(result, out / RESULT_FILE)).name)
    return names


def _print(result: CompareResult, out: Path | None, written: list[str], *, full: bool) -> None:
    from agebench.report.terminal_tables import print_result

    console = Console()
    print_result(result, console, full=full)
    if written:
        message = f"Written to {out}: {', '.join(written)}"
        console.print(inert(message), soft_wrap=True, markup=False, highlight=False)


def _print_json(result: CompareResult) -> None:
    # ASCII only, so that it is valid JSON whatever the encoding of stdout.
    for piece in result.json_pieces():
        click.echo(piece, nl=False)
    click.echo()


def _require_all(result: CompareResult, *, allowed: bool) -> None:
    """Exit with code 1 if an estimator was not available and --skip-unavailable was not given."""
    unavailable = [item.contender for item in result.estimators if item.contender.estimator is None]
    if unavailable and not allowed:
        raise AgebenchError(
            f"{unavailable[0].name} was not measured: {unavailable[0].reason}; the others were"
        )


def _require_ages(result: CompareResult) -> None:
    """Exit with code 1 if no estimator gave an age for any picture."""
    measured = [item.score for item in result.estimators if item.score is not None]
    if measured and not any(score.scored for score in measured):
        raise AgebenchError(
            "no picture has an age from any estimator: the reasons are listed above, and under "
            "'pictures' in the result"
        )


def _check_report(out: Path | None) -> None:
    """Check before anything slow starts that the report can be written."""
    from agebench.util.files import check_target

    if out is None:
        raise UsageError("--report needs --out: the report is written next to the result files")
    try:
        exists = out.is_dir()
    except (OSError, ValueError):  # reported when the folder is created
        exists = False
    if exists:
        check_target(out / "report.html")
