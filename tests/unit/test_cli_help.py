"""What the verbs' help pages and the documents show can be typed as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agebench.cli.main import VERBS, cli
from agebench.cli.options import AdvancedOption

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 80, 24


def _command(verb: str) -> click.Command:
    found = import_module(f"agebench.cli.{verb.replace('-', '_')}").command
    assert isinstance(found, click.Command)
    return found


def _parameters(verb: str) -> list[click.Parameter]:
    """Those of a verb, and of the verbs below it."""
    command = _command(verb)
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [option for one in (command, *below) for option in one.params]


def _help(verb: str, option: str = "--help") -> str:
    arguments = [verb, option] if verb else [option]
    done = CliRunner().invoke(cli, arguments, prog_name="agebench", terminal_width=WIDTH)
    assert done.exit_code == 0, done.output
    return done.output


def _shown(text: str) -> Iterator[tuple[str, str]]:
    """Verb and rest of each command line in a text; lines that end in a backslash are joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    for line in re.findall(r"^\s*agebench ([a-z].*)$", joined, re.MULTILINE):
        verb, _, rest = line.partition("#")[0].partition(" ")
        if verb in VERBS:
            yield verb, rest


@pytest.mark.parametrize("verb", ["", *sorted(VERBS)])
def test_help_fits_a_terminal(verb: str) -> None:
    lines = _help(verb).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    assert len(lines) <= HEIGHT


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_option_is_on_one_of_the_help_pages(verb: str) -> None:
    options = [option for option in _command(verb).params if isinstance(option, click.Option)]
    options = [option for option in options if not option.hidden]
    rare = [option for option in options if isinstance(option, AdvancedOption)]
    page = _help(verb, "--help-all") if rare else _help(verb)
    for option in options:
        assert re.search(rf"{option.opts[-1]}\b", page), option.name
    short = _help(verb)
    assert [option.name for option in rare if f" {option.opts[-1]} " in short] == []
    assert ("--help-all" in short) == bool(rare)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_shows_an_example(verb: str) -> None:
    assert any(shown == verb for shown, _ in _shown(_help(verb)))


def test_every_option_that_is_shown_exists() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages}
    texts.update({verb: _help(verb) for verb in VERBS})
    seen = 0
    for where, text in texts.items():
        for verb, rest in _shown(text):
            known = {name for option in _parameters(verb) for name in option.opts}
            known |= {name for option in _parameters(verb) for name in option.secondary_opts}
            for option in re.findall(r"(?:^|\s)(-[a-z]|--[a-z][a-z-]*)(?=[\s=]|$)", rest):
                seen += 1
                assert option in known | {"-h", "--help"}, f"{where}: agebench {verb} {option}"
    assert seen > 40
