"""`agebench card`: arguments only; the work is in `agebench.report.card`."""

from __future__ import annotations

from pathlib import Path

import click

from agebench.cli.options import FilePath
from agebench.errors import UsageError, inert

EPILOG = """\b
Examples:
  agebench card out/result.json multicrop-resnet
  agebench card utkface/result.json fgnet/result.json tiny.onnx -o README.md
"""


@click.command("card", epilog=EPILOG)
@click.argument("results", nargs=-1, required=True, type=FilePath(), metavar="RESULT... MODEL")
@click.option("-o", "--out", type=FilePath(), help="File to write; default: standard output.")
def command(results: tuple[Path, ...], out: Path | None) -> None:
    """Write a model's card: terms, data, figures with intervals per group, limits.

    MODEL is its name in the results, or its file.  The card is Markdown with the front matter of
    model hubs; what the results don't say is marked for its authors to fill in.
    """
    from agebench.harness.reading import read_result
    from agebench.report.card import card
    from agebench.util.files import check_output, write_whole

    *files, model = results
    if not files:
        raise UsageError("expected one or more results and then a model, got one argument")
    if out is not None:
        check_output(out, ".md", [path for path in results if path.is_file()])
    text = card([read_result(path) for path in files], str(model))
    if out is None:
        click.echo(text, nl=False)
    else:
        write_whole(out, text)
        click.echo(inert(f"Written: {out}"))
