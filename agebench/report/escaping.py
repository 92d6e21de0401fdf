"""Text that is nothing but text in Markdown, LaTeX and spreadsheets, whatever a file is called."""

from __future__ import annotations

import re

from agebench.errors import inert

_MARKDOWN = frozenset("\\`*_{}[]#|!~$^")
_MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    # After the end of a row these would be taken for options of it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\N{HYPHEN}": "{-}",
    "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{EN DASH}": "--",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}
_HYPHEN = "\N{HYPHEN}"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}")


def markdown(text: str) -> str:
    r"""Return `text` for a cell of a Markdown table.

    Addresses are broken, so that no reader makes links of them.

    >>> markdown("a|b_<i>")
    'a\\|b\\_&lt;i&gt;'
    """
    escaped = "".join(
        f"\\{letter}" if letter in _MARKDOWN else _MARKDOWN_ENTITIES.get(letter, letter)
        for letter in inert(text)
    )
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def latex(text: str) -> str:
    r"""Return `text` for LaTeX, in a table or outside.

    >>> latex("50 % of a_b--c")
    '50 \\% of a\\_b{-}-c'
    """
    # Two hyphens would be set as one dash.
    apart = re.sub("-(?=-)", _HYPHEN, inert(text))
    return "".join(_LATEX.get(letter, letter) for letter in apart)


def spreadsheet(text: str) -> str:
    """Return `text` for a cell of CSV: what a spreadsheet would compute gets a quote in front.

    >>> spreadsheet("=1+1"), spreadsheet("age-net")
    ("'=1+1", 'age-net')
    """
    shown = inert(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
