"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agebench.references import user_path


class FilePath(click.Path):
    """A path; an empty one, as of a variable that is not set, is not taken for this folder.

    A ``~`` is resolved here too: shells leave it where it is in ``--out=~/results``.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if value == "":
            self.fail("the path is empty: is a variable not set?", param, ctx)
        return super().convert(user_path(value), param, ctx)
