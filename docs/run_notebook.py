"""Run a notebook of the documents and keep what its cells show.

python docs/run_notebook.py docs/notebook.ipynb
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient


def run(path: Path) -> Any:
    """Return the notebook with the outputs of a fresh kernel, run in a folder of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran: of no use to a reader
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    # Which Python ran it says nothing to another machine.
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return notebook


def _is_progress(output: Any) -> bool:
    """Where the bars were: they are gone when the work is done."""
    return output.output_type == "display_data" and not output.data.get("text/html", "x")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    arguments = parser.parse_args()
    nbformat.write(run(arguments.notebook), arguments.notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main())
