"""The `agebench` command: loads verbs lazily and reports errors in one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from agebench import __version__
from agebench.cli.native_stderr import caught_messages
from agebench.cli.process_limits import address_space, require_room, with_limit
from agebench.cli.signals import Ended, Interrupts, Terminated, held_interrupts, orderly_ends
from agebench.errors import AgebenchError, UsageError, error_text, inert, interruption, suggestion
from agebench.util.call_limit import limited_by_default
from agebench.util.child_processes import silence_pillow

VERBS = {
    "augment-preview": "Preview the augmentation used in training.",
    "bench": "Measure latency by batch size, memory and operations.",
    "card": "Write a model card from results.",
    "check-spec": "Check a model described by a spec file.",
    "compare": "Compare error in years and latency on the same faces.",
    "convert-caffe": "Convert the age network between Caffe and safetensors.",
    "doctor": "Find problems in a data set: copies, leaks, wrong ages.",
    "export-onnx": "Export a model as one ONNX file and verify it.",
    "fetch": "Download model files and check their size and hash.",
    "fit-frame": "Measure how a detector places its boxes on faces.",
    "fit-years": "Fit the years of an estimator's age classes.",
    "info": "Show versions, machine and files for a bug report.",
    "ls": "List estimators, detectors and data sets.",
    "predict": "Estimate the ages of all faces in pictures and videos.",
    "prepare": "Cut the faces of a data set into crops by age group.",
    "report": "Write a page, tables and CSV from results.",
    "split": "Split a data set without leaks.",
    "suite": "Measure many models on many sets; make a leaderboard.",
    "train": "Train the multi-crop network, or resume training.",
}

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class _ReaderGoneError(Exception):
    """Standard output is a pipe whose reader has gone, such as `head`."""


@contextlib.contextmanager
def _heard_reader() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


def _require_current_folder() -> None:
    """Refuse to work in a folder that was removed: oneMKL would end the process without a word."""
    try:
        Path.cwd()
    except OSError as error:
        raise AgebenchError("the current folder no longer exists: change to another one") from error


class _LazyGroup(click.Group):
    """A group that imports a verb's module only when the verb is used."""

    # ruff: noqa: ARG002 - the signatures are click's

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        _require_current_folder()
        require_room(cmd_name)
        module = import_module(f"agebench.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.short_help = VERBS[cmd_name]  # shells show it next to what they complete
        if _COMPLETION in os.environ:
            import_module("agebench.cli.completing").offer_names(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb.

        Raises:
            _ReaderGoneError: what reads the output was closed; click would exit without saying so.
        """
        with _heard_reader():
            return super().invoke(ctx)

    def make_context(
        self, info_name: str | None, args: list[str], *rest: Any, **extra: Any
    ) -> click.Context:
        """Read the words of the command line; `--help` prints here.

        Raises:
            _ReaderGoneError: as in `invoke`.
        """
        with _heard_reader():
            return super().make_context(info_name, args, *rest, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        wrong = name and not name.startswith("-") and name not in VERBS
        if wrong and not ctx.resilient_parsing:  # no message while a shell completes a line
            raise UsageError(f"unknown verb {name!r}: {suggestion(name, VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without empty lines at its ends, so that it fits a screen."""
        self.format_usage(ctx, formatter)
        with formatter.indentation():
            formatter.write_text(self.help or "")
        self.format_options(ctx, formatter)
        formatter.write_text(self.epilog or "")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Leave the two options to the last line, so that the help fits a screen."""
        self.format_commands(ctx, formatter)


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: agebench compare; more: 'agebench VERB --help'; -h, --version.",
)
@click.version_option(__version__, prog_name="agebench")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Measure how accurate facial age estimators are, and how fast."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


_COMPLETION = "_AGEBENCH_COMPLETE"
_UNFINISHED = "the work is not finished"


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    _prepare_streams()
    if sys.stdout is None:
        _fail(
            "standard output is closed: leave it open, or redirect it to a file or the null device"
        )
        sys.exit(1)
    with (
        held_interrupts(to_the_end=arguments is None) as interrupts,
        caught_messages(),
        orderly_ends() as ended,
    ):
        code = _run(arguments, interrupts, ended)
    sys.exit(code if ended.code is None else ended.code)


def _run(arguments: list[str] | None, interrupts: Interrupts, ended: Ended) -> int:
    """Run a verb and return the exit code, after reporting any error."""
    try:
        with interrupts.heard(), ended.heard(), limited_by_default():
            code = cli.main(args=arguments, prog_name="agebench", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # a plug-in may raise anything
        if isinstance(error, SystemExit) and _COMPLETION in os.environ:
            raise  # click ends in this way after a shell completion
        # OpenBLAS raises SIGINT if it can't start a thread, as if someone had pressed Ctrl-C.
        ends = (click.exceptions.Abort, KeyboardInterrupt, RuntimeError)
        if isinstance(error, ends) and not _threads_can_start():
            limit = address_space()
            _fail(
                "no more threads can be started: raise the limits of this shell (ulimit -u, "
                f"-v), or close other programs; {f'{limit}; ' if limit else ''}{_UNFINISHED}"
            )
            return 1
        return _failed(error, arguments)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException, arguments: list[str] | None) -> int:
    """Report in a sentence what ended the run, and return the exit code."""
    if isinstance(error, click.exceptions.Abort) or interruption(error):
        _fail(_why_interrupted(error))
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        wrong_usage = isinstance(error, click.UsageError)
        _fail(error.format_message(), _usage_hint(arguments) if wrong_usage else "")
        return 2 if wrong_usage else 1
    if isinstance(error, AgebenchError):
        hint = _usage_hint(arguments) if isinstance(error, UsageError) else ""
        _fail(with_limit(error, str(error)), hint)
        return error.exit_code
    if isinstance(error, MemoryError):
        full = (
            "there is not enough memory: use fewer or smaller pictures at once, or a smaller model"
        )
        _fail(with_limit(error, full))
    elif isinstance(error, (_ReaderGoneError, BrokenPipeError)):
        _drop_stdout()  # it has seen enough: nothing to report
    elif isinstance(error, OSError):
        _drop_stdout()
        _fail(with_limit(error, f"can't continue: {error}"))
    elif isinstance(error, SystemExit):
        _fail_exit(error)
    else:
        _fail_unforeseen(error)
    return 1


def _fail_exit(error: SystemExit) -> None:
    """Handle SystemExit, raised by Rich when the reader has gone, or by third-party code."""
    if isinstance(error.__context__, BrokenPipeError):
        _drop_stdout()
    else:
        _fail(f"third-party code called sys.exit({error.code}); {_UNFINISHED}")


def _why_interrupted(error: BaseException) -> str:
    if isinstance(error, click.exceptions.Abort) and str(error):
        return str(error)
    signalled = interruption(error)
    reason = signalled.reason if isinstance(signalled, Terminated) else ""
    return reason or "interrupted: no incomplete file was left"


def _prepare_streams() -> None:
    """Keep names from breaking the output, and library warnings out of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    silence_pillow()


def _threads_can_start() -> bool:
    thread = threading.Thread(target=int, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def _fail_unforeseen(error: BaseException) -> None:
    """Report an unexpected error in a sentence, with its location."""
    if os.environ.get("AGEBENCH_TRACEBACK"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    sentence = (
        f"{error_text(error)}{place}: a bug in agebench or in a plug-in; {_UNFINISHED}; "
        "AGEBENCH_TRACEBACK=1 shows the traceback"
    )
    _fail(with_limit(error, sentence, unforeseen=True))


def _drop_stdout() -> None:
    """Discard remaining output after a failed write, so that it does not fail again at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_hint(arguments: list[str] | None) -> str:
    """Return where the usage is shown: by the help of the verb, or of the command without one."""
    arguments = sys.argv[1:] if arguments is None else arguments
    page = f"agebench {arguments[0]}" if arguments and arguments[0] in VERBS else "agebench"
    return f"'{page} --help' shows the usage"


def _fail(sentence: str, hint: str = "") -> None:
    if hint:
        sentence += f"; {hint}" if sentence.endswith(")") else f" ({hint})"
    click.echo(f"agebench: {inert(sentence, lines=True)}", err=True)
