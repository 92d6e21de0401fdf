"""The package's HTML templates and how they are filled."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from functools import cache, partial
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from agebench import __version__
from agebench.errors import inert
from agebench.metrics.number_format import number, signed
from agebench.report.paper import sheets


def template_text(name: str) -> str:
    """Return the content of a file in the folder templates/."""
    return (resources.files("agebench.report") / "templates" / name).read_text("utf-8")


def template(name: str) -> Template:
    """Return a compiled template."""
    return _environment().get_template(name)


def whole_page(name: str, styles: Sequence[str], scripts: Sequence[str], **values: object) -> str:
    """Return a complete page, whose content security policy allows only its own style and script.

    Args:
        name: a template that extends whole.html.
        styles: files of its style.
        scripts: files of its script.
        values: the template's other variables.
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
    """Return the hash that identifies a style or script in the content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _environment() -> Environment:
    """Return the templates' environment: everything is escaped, undefined names are errors."""

    def sanitised(value: object) -> object:
        """Replace control characters, before the page's own escaping."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return inert(value, lines=True)
        return value

    def sort_key(value: float | str) -> float | str:
        return "Infinity" if isinstance(value, float) and math.isinf(value) else value

    def breakable(text: str) -> Markup:
        """Allow line breaks in a long name after separators."""
        return Markup("<wbr>").join(re.findall(r"[^/:_,=]*[/:_,=]*", inert(text)))

    environment = Environment(
        loader=FunctionLoader(template_text),
        autoescape=True,
        finalize=sanitised,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "sheets": sheets,
        "breakable": breakable,
        "sort_key": sort_key,
        "signed": partial(signed, digits=1),
        "years": partial(number, digits=1),
    }
    return environment
