"""Draw the terminal output of a comparison as the picture in README.md.

python docs/draw_compare.py FGNET docs/images/compare.svg
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from agebench import compare
from agebench.bench.tables import print_result

COLUMNS = 104
# The template loads its fonts from a third party's server: the reader's own will do.
FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fgnet", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    estimators = ["hse-mobilenet", "constant"]
    result = compare(estimators, "fgnet", root=arguments.fgnet, detector="yolov8-face")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    print_result(result, console)
    command = f"agebench compare {' '.join(estimators)} --dataset fgnet --root FGNET"
    template = FONTS.sub("", CONSOLE_SVG_FORMAT)
    console.save_svg(str(arguments.out), title=command, code_format=template)
    return 0


if __name__ == "__main__":
    sys.exit(main())
