"""The picture of the house, the walks and what an addition touches: as the code has them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.scripts import ROOT, load_script

house = load_script("docs.house")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return dict(house.imports())


@pytest.fixture(scope="module")
def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    return dict(house.uses(graph))


def test_the_picture_is_the_code(rooms: dict[str, set[str]]) -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "python docs/house.py"
    drawn = {room for row in house.layers() for room in row}
    assert drawn == set(rooms)


def test_no_rooms_import_each_other(rooms: dict[str, set[str]]) -> None:
    level = {room: at for at, row in enumerate(house.layers()) for room in row}
    for room, others in rooms.items():
        for other in others:
            assert level[other] > level[room], f"{room} imports {other}"


def test_a_graph_is_read_from_every_form_of_import(tmp_path: Path) -> None:
    for file, text in {
        "a/__init__.py": "",
        "a/b.py": "from agebench.a import c\nimport agebench.d\nimport numpy",
        "a/c.py": "def f():\n    from agebench.a.b import g",
        "d.py": "from agebench import a",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert house.imports(tmp_path) == {
        "a/__init__.py": set(),
        "a/b.py": {"a/c.py", "d.py"},
        "a/c.py": {"a/b.py"},
        "d.py": {"a/__init__.py"},
    }


def _walks() -> dict[str, str]:
    lines = PAGE.partition(house.BEGIN)[2].partition(house.END)[0].strip().splitlines()
    return {line[2:].partition(":")[0]: line for line in lines if line}


def test_walks_count_their_files_and_name_those_there_are(graph: dict[str, set[str]]) -> None:
    walks = _walks()
    assert list(walks) == list(house.WALKS)
    for title, line in walks.items():
        files = house.read_walk(line)
        assert line.startswith(f"**{title}: {len(files)} files.**")
        assert len(set(files)) == len(files)
        assert set(files) <= set(graph), f"{title}: python docs/house.py"


@pytest.mark.parametrize("title", list(house.WALKS)[:2])
def test_short_walks_are_as_the_page_says(title: str) -> None:
    assert house.read_walk(_walks()[title]) == house.WALKS[title](), "python docs/house.py"


def _rows() -> Iterator[tuple[str, int, list[str], str]]:
    table = PAGE.partition("## Where do I add")[2].partition("\n## ")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].isdigit():
            yield (
                cells[0],
                int(cells[1]),
                re.findall(r"`([^`]+/[^`]+|setup.cfg)`", cells[2]),
                cells[3],
            )


@pytest.mark.parametrize("row", [row for row in _rows() if row[3]], ids=lambda row: row[0])
def test_an_addition_touches_the_files_that_know_the_example(
    row: tuple[str, int, list[str], str],
) -> None:
    _, count, files, example = row
    name = example.strip("`")
    assert len(files) == count
    expected = set()
    for file in files:
        styles = (name.replace("-", "_"), name)
        found = [path for s in styles if (ROOT / (path := file.replace("NAME", s))).is_file()]
        assert found, f"there is no {file} of {name}"
        expected.add(found[0])
    assert _knowing(name) == expected


def _knowing(name: str) -> set[str]:
    """Return the files whose code says a name: identifiers and words, not sentences about it."""
    said = re.compile(rf"(?<![a-z0-9]){name.replace('-', '[-_]')}(?![a-z0-9-])")
    tables = [ROOT / "setup.cfg", ROOT / "pretrained" / "weights.toml"]
    tables += [*(ROOT / "agebench").rglob("*.json"), *(ROOT / "pretrained" / "zoo").glob("*.toml")]
    found = [path for path in tables if said.search(path.read_text(encoding="utf-8"))]
    found += [path for path, words in _words_of_all().items() if any(map(said.search, words))]
    return {path.relative_to(ROOT).as_posix() for path in found}


@cache
def _words_of_all() -> dict[Path, set[str]]:
    files = (ROOT / "agebench").rglob("*.py")
    return {path: set(_words(ast.parse(path.read_text(encoding="utf-8")))) for path in files}


def _words(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "" if re.search(r"\s", node.value) else node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
