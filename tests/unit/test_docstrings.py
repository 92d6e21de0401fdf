"""The examples in docstrings are run, and give what stands below them."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import agebench

PACKAGE = Path(agebench.__file__).parent
EXTRAS = frozenset({"matplotlib", "pandas", "ray", "safetensors", "torch"})
"""What is not there without the extras `train` and `ray`."""

WITH_EXAMPLES = sorted(
    ".".join(["agebench", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"needs {error.name}")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0, "see the captured output"
