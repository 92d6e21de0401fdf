"""The house as its code has it: the picture of the rooms, and the walks through them.

python docs/house.py

draws docs/images/rooms.svg and writes the walks into docs/architecture.md.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import io
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "agebench"
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- walks: python docs/house.py -->\n", "<!-- end of the walks -->\n"

# What every room uses says nothing of a walk.
EVERYWHERE = ("errors.py", "types.py", "protocols.py", "util/")


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return which modules each module imports, on loading or later: paths below the package.

    Args:
        package: the folder of agebench.
    """
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    return {file: set(_imported(package / file, files)) - {file} for file in sorted(files)}


def _imported(path: Path, files: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{item.name}" for item in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "agebench":
                continue
            below = "/".join(parts[1:])
            above = "/".join(parts[1:-1])
            for file in (f"{below}.py", f"{below}/__init__.py", f"{above}.py"):
                if file in files:
                    yield file
                    break


def room_of(file: str) -> str:
    """Return the room of a module: a folder or, at the top, the module.

    >>> room_of("metrics/intervals.py"), room_of("types.py")
    ('metrics', 'types')
    """
    return file.partition("/")[0].removesuffix(".py")


def uses(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return which rooms each room imports from; `__init__` and `__main__` are no rooms."""
    found: dict[str, set[str]] = {}
    for file, others in graph.items():
        room = room_of(file)
        if room.startswith("__"):
            continue
        there = {room_of(other) for other in others} - {room, "__init__"}
        found.setdefault(room, set()).update(there)
    return found


def layers(path: Path = ROOT / ".importlinter") -> list[list[str]]:
    """Return the layers that import-linter holds, the highest first.

    Args:
        path: its settings.
    """
    settings = configparser.ConfigParser()
    settings.read(path, encoding="utf-8")
    lines = settings["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip().removeprefix("agebench.") for name in line.split("|")] for line in lines]


def nearest(used: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph without what follows from it: of a → b → c and a → c the last is left out.

    Args:
        used: a graph without cycles.

    >>> nearest({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """

    def reached(room: str) -> set[str]:
        return {far for near in used[room] for far in {near, *reached(near)}}

    return {
        room: {near for near in others if not any(near in reached(o) for o in others - {near})}
        for room, others in used.items()
    }


BOX_PX, HIGH_PX, GAP_PX, STEP_PX = 112, 26, 16, 48


def draw(rows: Sequence[Sequence[str]], edges: Mapping[str, set[str]]) -> str:
    """Return the picture as SVG: a row of boxes for each layer, a line to each room that is used.

    Args:
        rows: rooms, the highest first.
        edges: which rooms each uses, without what follows.
    """
    width = max(len(row) for row in rows) * (BOX_PX + GAP_PX) + 2 * BOX_PX
    places: dict[str, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        # Rows of one lean to the left and right in turn, so that lines don't run through boxes.
        lean = (index % 3 - 1) * (BOX_PX + GAP_PX) * 0.75 if len(row) == 1 else 0
        left = (width - len(row) * (BOX_PX + GAP_PX) + GAP_PX) / 2 + lean
        for column, room in enumerate(row):
            places[room] = (left + column * (BOX_PX + GAP_PX), 8 + index * STEP_PX)
    height = 8 + (len(rows) - 1) * STEP_PX + HIGH_PX + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="13">',
        "<title>The rooms of agebench and what each uses, from above to below</title>",
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
    ]
    for room, (x0, y0) in places.items():
        for used in sorted(edges.get(room, ())):
            x1, y1 = places[used]
            parts.append(
                f'<line x1="{x0 + BOX_PX / 2:g}" y1="{y0 + HIGH_PX:g}" '
                f'x2="{x1 + BOX_PX / 2:g}" y2="{y1:g}" stroke="#8a94a6"/>'
            )
    for room, (x, y) in places.items():
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{BOX_PX}" height="{HIGH_PX}" rx="4" '
            'fill="#eef3fa" stroke="#48618a"/>'
            f'<text x="{x + BOX_PX / 2:g}" y="{y + 18:g}" text-anchor="middle" '
            f'fill="#1c2b44">{escape(room)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def picture() -> str:
    """Return the picture of the rooms as they are."""
    return draw(layers(), nearest(uses(imports())))


def walk(call: Callable[[], object]) -> list[str]:
    """Return the files of agebench of which a function ran, in the order of their first call.

    Args:
        call: what is watched, in all its threads; what it prints is caught.
    """
    ran: dict[str, None] = {}
    # The package that runs, which may be an installed copy of the one beside this file.
    import agebench

    package = str(Path(agebench.__file__).parent)

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package) and not loads(frame):
            ran.setdefault(Path(frame.f_code.co_filename).relative_to(package).as_posix())

    def loads(frame: FrameType | None) -> bool:
        """Tell whether a module or a class is being made: what runs then belongs to no walk."""
        while frame is not None and frame is not here:
            code = frame.f_code
            if code.co_filename.startswith(package) and not code.co_flags & CO_OPTIMIZED:
                return True
            frame = frame.f_back
        return False

    here = sys._getframe()
    said = io.StringIO()
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return [file for file in ran if not file.startswith(EVERYWHERE)]


def name_to_network() -> list[str]:
    """Return the walk from an estimator's name to its network, loaded."""
    from agebench import load_estimator

    return walk(lambda: load_estimator("multicrop-resnet-small"))


def picture_to_age() -> list[str]:
    """Return the walk from a picture's file to an age, by loaded models."""
    from agebench import AgePredictor, load_dataset

    predictor = AgePredictor("multicrop-resnet-small", detector="aligned")
    first = load_dataset("sample").samples[0]
    return walk(lambda: predictor.predict([first.path]))


def result_to_page() -> list[str]:
    """Return the walk from the file of a result to its page."""
    from agebench import CompareSettings, compare
    from agebench.harness.reading import read_result
    from agebench.report.joining import join
    from agebench.report.writing import write_report

    settings = CompareSettings(limit=12, latency_pictures=2)
    with tempfile.TemporaryDirectory() as folder:
        compare(["constant", "constant years=40"], "sample", settings=settings, out=folder)
        file = Path(folder) / "result.json"
        return walk(lambda: write_report(join([read_result(file)]), Path(folder) / "page"))


def settings_to_weights() -> list[str]:
    """Return the walk from a file of settings to trained weights; needs PyTorch."""
    from agebench.train.settings import read_settings
    from agebench.trainer.run import train

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.toml"
        file.write_text(_TINY, encoding="utf-8")
        return walk(lambda: train(read_settings(file), Path(folder) / "run"))


_TINY = """
epochs = 1
batch = 8
[data]
dataset = "sample"
detector = "aligned"
protocol = "holdout"
decode_threads = 0
[model]
dense = 16
[model.views.face]
region = "chip"
size_hw = [32, 32]
backbone = { depth = 10, width = 4 }
"""

WALKS: Mapping[str, Callable[[], list[str]]] = {
    "From a name to its loaded network": name_to_network,
    "From a picture to its age": picture_to_age,
    "From a result to its page": result_to_page,
    "From a settings file to trained weights": settings_to_weights,
}
"""The walks that the page shows."""


def described(title: str, files: Sequence[str]) -> str:
    """Return a walk as the page has it."""
    rooms: list[tuple[str, list[str]]] = []
    for file in files:
        room, slash, name = file.rpartition("/")
        if not rooms or rooms[-1][0] != room + slash:
            rooms.append((room + slash, []))
        rooms[-1][1].append(f"`{name}`")
    steps = [f"`{room}` {', '.join(names)}" if room else ", ".join(names) for room, names in rooms]
    return f"**{title}: {len(files)} files.** " + " → ".join(steps) + "\n"


def read_walk(text: str) -> list[str]:
    """Return the files of a walk, from a line of the page.

    >>> read_walk(described("A walk", ["a/b.py", "a/c.py", "d.py"]))
    ['a/b.py', 'a/c.py', 'd.py']
    """
    files = []
    for step in text.partition(".** ")[2].strip().split(" → "):
        room = ""
        for name in re.findall(r"`([^`]+)`", step):
            if name.endswith("/"):
                room = name
            else:
                files.append(room + name)
    return files


def main() -> int:
    """Run from the command line."""
    PICTURE.write_text(picture(), encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    shown = "\n".join(described(title, found()) for title, found in WALKS.items())
    PAGE.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}", encoding="utf-8")
    print(re.sub(r"\*\*|`", "", shown))  # noqa: T201 - what was found
    return 0


if __name__ == "__main__":
    sys.exit(main())
