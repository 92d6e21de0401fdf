"""Draw the terminal output of a comparison as the picture in README.md.

python docs/draw_compare.py docs/images/compare.svg
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from agebench import compare
from agebench.registry import defaults
from agebench.report.terminal_tables import print_result

COLUMNS = 104
# The template loads its fonts from a third party's server: the reader's own will do.
FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    result = compare(list(defaults.ESTIMATORS), defaults.DATASET)
    text = io.StringIO()
    print_result(result, Console(width=COLUMNS, file=text, force_terminal=True))
    # Long lines run over the edge of a terminal, which wraps them; a picture cuts them.
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.getvalue().rstrip()))
    template = FONTS.sub("", CONSOLE_SVG_FORMAT)
    console.save_svg(str(arguments.out), title="agebench compare", code_format=template)
    return 0


if __name__ == "__main__":
    sys.exit(main())
