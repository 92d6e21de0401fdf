"""The `agebench` command: verbs found lazily, errors turned into one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from agebench import __version__
from agebench.errors import AgebenchError, UsageError, inert, suggestion

VERBS = {
    "augment-preview": "Draw what the augmentation of training does.",
    "bench": "Latency by batch size, memory, operations, the floor.",
    "compare": "Error in years and latency on the same faces.",
    "convert-caffe": "The age network between Caffe and safetensors.",
    "doctor": "What is wrong with a data set: copies, leaks, ages.",
    "export-onnx": "A model as one ONNX file, proven equal.",
    "fetch": "Download model files, checked by size and hash.",
    "fit-years": "Fit the years of an estimator's age classes.",
    "info": "Versions, machine, files: what a bug report needs.",
    "ls": "Estimators, detectors, data sets; what is here.",
    "predict": "Ages of all faces of pictures and videos.",
    "prepare": "Cut a data set's faces into crops by age group.",
    "report": "A page, tables and CSV from results; what changed.",
    "split": "Split a data set without leaks.",
    "train": "Train the multi-crop network, or go on with it.",
}

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class _LazyGroup(click.Group):
    """A group that imports a verb's module only when the verb is used."""

    # ruff: noqa: ARG002 - the signatures are click's

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"agebench.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        wrong = name and not name.startswith("-") and name not in VERBS
        if wrong and not ctx.resilient_parsing:  # a shell that completes a line wants no sentence
            raise UsageError(f"unknown verb {name!r}: {suggestion(name, VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Leave the two options to the last line, so that the page fits a screen."""
        self.format_commands(ctx, formatter)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: agebench compare; 'agebench VERB --help' tells more; -h, --version.",
)
@click.version_option(__version__, prog_name="agebench")
def cli() -> None:
    """How good a facial age estimator really is, and how fast."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    _prepare_streams()
    if sys.stdout is None:
        _fail("standard output is closed: leave it open, or send it to a file or the null device")
        sys.exit(1)
    try:
        code = cli.main(args=arguments, prog_name="agebench", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort as error:
        usual = "interrupted: nothing was written that could be taken for a whole result"
        _fail(str(error) or usual)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        wrong_usage = isinstance(error, click.UsageError)
        _fail(error.format_message(), _usage_hint(arguments) if wrong_usage else "")
        sys.exit(2 if wrong_usage else 1)
    except AgebenchError as error:
        _fail(str(error), _usage_hint(arguments) if isinstance(error, UsageError) else "")
        sys.exit(error.exit_code)
    except MemoryError:
        _fail("there is not enough memory: take fewer or smaller pictures at once")
        sys.exit(1)
    except BrokenPipeError:
        _drop_stdout()
        sys.exit(1)
    except OSError as error:
        _drop_stdout()
        _fail(f"can't go on: {error}")
        sys.exit(1)


def _prepare_streams() -> None:
    """Let no name break the output, and no library's warning stand between the lines."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pillow warns of odd metadata; a picture that matters is listed with the reason.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _drop_stdout() -> None:
    """Nobody reads on, or the disk is full: what is left must not fail again at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_hint(arguments: list[str] | None) -> str:
    """Name the help page of the verb that was called, or of all where none was."""
    given = sys.argv[1:] if arguments is None else arguments
    page = f"agebench {given[0]}" if given and given[0] in VERBS else "agebench"
    return f" ('{page} --help' shows the usage)"


def _fail(sentence: str, hint: str = "") -> None:
    click.echo(f"agebench: {inert(sentence, lines=True)}{hint}", err=True)
