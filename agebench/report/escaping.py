"""Escaping of text for Markdown, LaTeX and spreadsheets, since names may contain anything."""

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
    # At the start of a row these would be taken for options of the row before.
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
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width =+-@


def markdown(text: str) -> str:
    r"""Return `text` for a cell of a Markdown table.

    URLs are escaped too, so that viewers don't turn them into links.

    >>> markdown("a|b_<i>")
    'a\\|b\\_&lt;i&gt;'
    """
    escaped = "".join(
        f"\\{letter}" if letter in _MARKDOWN else _MARKDOWN_ENTITIES.get(letter, letter)
        for letter in inert(text)
    )
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def latex(text: str) -> str:
    r"""Return `text` for LaTeX, inside or outside of tables.

    >>> latex("50 % of a_b--c")
    '50 \\% of a\\_b{-}-c'
    """
    # Two hyphens would become a dash.
    apart = re.sub("-(?=-)", _HYPHEN, inert(text))
    return "".join(_LATEX.get(letter, letter) for letter in apart)


def spreadsheet(text: str) -> str:
    """Return `text` for a CSV cell; what a spreadsheet would take for a formula gets a quote.

    >>> spreadsheet("=1+1"), spreadsheet("age-net")
    ("'=1+1", 'age-net')
    """
    shown = inert(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
