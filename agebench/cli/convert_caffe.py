"""`agebench convert-caffe`: arguments and what is printed; see `agebench.export.caffe_weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from agebench.cli.options import FilePath
from agebench.errors import inert

EPILOG = """\b
Examples:
  agebench convert-caffe my_age_net.safetensors -o my_age_net.caffemodel
  agebench convert-caffe age_net.caffemodel -o age_net.safetensors
Used with:
  agebench compare caffe-age-net-utkface:my_age_net.caffemodel ...
"""


@click.command("convert-caffe", epilog=EPILOG)
@click.argument("source", type=FilePath())
@click.option("-o", "--out", type=FilePath(), required=True, help="File to write.")
@click.option("--half", is_flag=True, help="Store half-precision numbers in the .caffemodel.")
@click.option(
    "--encoding",
    type=click.Choice(["v1", "v2"]),
    help="Encoding of layers in the .caffemodel; default: v1.",
)
def command(source: Path, out: Path, half: bool, encoding: Literal["v1", "v2"] | None) -> None:
    """Convert weights of the age network between PyTorch (safetensors) and Caffe.

    A .caffemodel is written together with its .prototxt and verified: unless cv2.dnn and
    onnxruntime give the same probabilities, nothing is written.
    """
    from agebench.export.caffe_weights import convert

    done = convert(source, out, encoding=encoding, half=half)
    names = " and ".join(inert(str(path)) for path in done.paths)
    click.echo(
        f"wrote {names}: {done.classes} classes; probabilities under cv2.dnn and onnxruntime "
        f"differ by at most {done.largest:.2g}"
    )
