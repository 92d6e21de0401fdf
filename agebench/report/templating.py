"""The package's own templates: where they are, and how values are written into them."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from agebench import __version__
from agebench.errors import inert
from agebench.metrics.number_format import number, signed
from agebench.report.paper import sheets


def template_text(name: str) -> str:
    """Return a file of the folder templates/ as it is."""
    return (resources.files("agebench.report") / "templates" / name).read_text("utf-8")


def template(name: str) -> Template:
    """Return a template, ready to be filled."""
    return _environment().get_template(name)


def whole_page(name: str, styles: Sequence[str], scripts: Sequence[str], **values: object) -> str:
    """Return a page of its own, which lets no style or script but its own have a say.

    Args:
        name: a template that extends whole.html.
        styles: the files of its style.
        scripts: the files of its script.
        values: what else the template names.
    """
    style, script = ("".join(map(template_text, files)) for files in (styles, scripts))
    return template(name).render(
        version=__version__,
        style=Markup(style),  # noqa: S704 - the package's own file
        script=Markup(script),  # noqa: S704 - the package's own file
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        **values,
    )


def _policy_hash(text: str) -> str:
    """Return what a page's policy knows its own style or script by."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _environment() -> Environment:
    """Escaping is on for everything; a name that a template uses and nobody gave is an error."""

    def harmless(value: object) -> object:
        """Control characters are written as escapes before the page's own escaping."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return inert(value, lines=True)
        return value

    def sorting(value: float | str) -> float | str:
        return "Infinity" if isinstance(value, float) and math.isinf(value) else value

    def signed_years(value: float) -> str:
        return signed(value, 1)

    def years(value: float) -> str:
        return number(value, 1)

    found = Environment(
        loader=FunctionLoader(template_text),
        autoescape=True,
        finalize=harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def breakable(text: str) -> Markup:
        """Let a long name go on in the next line after a sign that divides it."""
        return Markup("<wbr>").join(re.findall(r"[^/:_,=]*[/:_,=]*", inert(text)))

    found.filters["sheets"] = sheets
    found.filters["breakable"] = breakable
    found.filters["sorting"] = sorting
    found.filters["signed"] = signed_years
    found.filters["years"] = years
    return found
