"""What MkDocs needs to show this project's pages as they are.

Four things: pages outside docs/ (model cards, results, CONTRIBUTING.md) are part of the site at
the same relative place; Markdown is read as GitHub and CommonMark read it, where a list may follow
a paragraph without an empty line, and its paragraphs and code are indented by its marker; a
notebook becomes a page with what its cells showed when they were run; and search works where the
pages are read from the disk.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "benchmarks/leaderboard/leaderboard.md",
    "benchmarks/leaderboard/leaderboard.toml",
    "benchmarks/results/*.md",
    "benchmarks/results/zoo_crops.json",
    "pretrained/*.md",
    "pretrained/*.bin",
    "pretrained/*.parity.json",
    "pretrained/*.prototxt",
    "pretrained/*.toml",
    "pretrained/sample/README.md",
)
"""What is shown or linked to, from the root; models and pictures are left out."""

_MARKER = re.compile(r"^(?:[-*+]|\d{1,9}[.)]) +(?=\S)")
_FENCE = re.compile(r"^ *(```|~~~)")
_INTO_DOCS = re.compile(r"(\]\((?:\.\./)+)docs/")
"""A link into docs/, which is the root of the site."""


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages and files outside docs/; called by MkDocs."""
    from mkdocs.structure.files import File

    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        page = notebook_page(path.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"{path.stem}.md", content=page))
    return files


def on_post_build(config: Any, **_: Any) -> None:
    """Write the search index as a script too, for pages read from the disk; called by MkDocs."""
    folder = Path(config["site_dir"]) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    text = f"const agebenchSearchIndex = {index};\n"
    (folder / "search_index.js").write_text(text, encoding="utf-8")


def notebook_page(source: str) -> str:
    """Return a notebook as Markdown: its text, its code, and what each cell showed."""
    parts: list[str] = []
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{text}\n```")
            parts += map(_shown, cell["outputs"])
        else:
            parts.append(text)
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    """The richest form of a cell's output that a page can have."""
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    if "text/html" in data:
        # An empty line would end what Markdown takes for HTML.
        lines = filter(str.strip, data["text/html"].splitlines())
        return '<div class="shown">\n' + "\n".join(lines) + "\n</div>"
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        return f'<img class="shown" alt="the figure" src="data:image/png;base64,{picture}">'
    text = html.escape(data.get("text/plain", "".join(output.get("text", ""))))
    return f'<pre class="shown">{text}</pre>'


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn a page's source into what MkDocs reads alike; called by MkDocs."""
    outside = any(page.file.src_uri == path for path in _outside_names())
    linked = _INTO_DOCS.sub(r"\1", markdown) if outside else markdown.replace("](../", "](")
    return as_mkdocs_reads_it(linked)


def _outside_names() -> Iterator[str]:
    return (path.relative_to(ROOT).as_posix() for name in OUTSIDE for path in ROOT.glob(name))


def as_mkdocs_reads_it(markdown: str) -> str:
    r"""Return a page with lists set apart and their inner paragraphs indented by four.

    >>> print(as_mkdocs_reads_it("Traps:\n- one\n\n  more\n- two"))
    Traps:
    <BLANKLINE>
    - one
    <BLANKLINE>
        more
    - two
    """
    lines: list[str] = []
    indent = 0  # of a list item's content; 0 outside of lists
    fenced = False
    for line in markdown.split("\n"):
        marker = None if fenced else _MARKER.match(line)
        before = lines[-1] if lines else ""
        if marker:
            if before.strip() and not indent:
                lines.append("")
            indent = len(marker.group())
        elif not fenced and line.strip() and not line.startswith(" ") and not before.strip():
            indent = 0  # an empty line and a line at the margin: the list is over
        if _FENCE.match(line):
            fenced = not fenced
        inner = indent and not marker and line.startswith(" " * indent)
        lines.append(" " * (4 - indent) + line if inner else line)
    return "\n".join(lines)
