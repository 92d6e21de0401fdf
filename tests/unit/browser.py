"""Pages opened in Chromium without a window, and what a script sees in them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTHS = (390, 820, 1400)

_OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--allow-file-access-from-files --virtual-time-budget=20000"""

_PROBE = """<!DOCTYPE html><meta charset="utf-8"><body>%s<pre id="out"></pre><script>
%s
window.onload = async () => {
  const seen = [];
  for (const frame of document.querySelectorAll("iframe")) {
    seen.push({page: frame.title, width: Number(frame.width),
      ...await look(frame.contentDocument, frame.contentWindow)});
  }
  document.getElementById("out").textContent = JSON.stringify(seen);
};
</script>"""


def look_at(
    pages: Iterable[str | Path],
    script: str,
    folder: Path,
    *,
    dark: bool = False,
    widths: Iterable[int] = WIDTHS,
) -> list[dict[str, Any]]:
    """Open pages at each width and return what `script` saw in each.

    Args:
        pages: HTML as text, or files.
        script: defines ``look(document, window)``, which returns an object that JSON can hold.
        folder: for the browser's own files.
        dark: as a reader who prefers dark pages.
        widths: of the window, CSS pixels.

    Skips the test where there is no Chromium.
    """
    frames = "".join(
        f'<iframe width="{width}" height="900" title="{at}" {_source(page)}></iframe>'
        for at, page in enumerate(pages)
        for width in widths
    )
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "probe.html"
    probe.write_text(_PROBE % (frames, script), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = _run(folder, scheme, "--dump-dom", probe.as_uri())
    found = re.search(r'<pre id="out">(.+?)</pre>', done.stdout.decode("utf-8", "replace"))
    assert found, done.stderr.decode("utf-8", "replace")[-1000:]
    seen: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return seen


_SERVED = """<!DOCTYPE html><meta charset="utf-8"><body><script>
%s
window.onload = async () => fetch("/seen", {method: "POST", body: JSON.stringify(await look())});
</script>"""


def look_in_real_time(site: Path, script: str, folder: Path, seconds: float = 1800.0) -> Any:
    """Serve a folder on this machine alone, open a page beside its files and return what it saw.

    For what plays: `look_at` lets the browser's clock run ahead of its decoders.

    Args:
        site: the folder; the page is added to it.
        script: defines ``look()``, which returns an object that JSON can hold.
        folder: for the browser's own files.
        seconds: the test fails if nothing was seen by then.

    Skips the test where there is no Chromium.
    """
    seen: Queue[bytes] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    (site / "page.html").write_text(_SERVED % script, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
        words = (*options, f"http://127.0.0.1:{server.server_port}/page.html")
        browser = subprocess.Popen(  # noqa: S603 - the browser that was found
            _command(folder, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return json.loads(seen.get(timeout=seconds))
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()


def printed(page: Path, folder: Path) -> list[str]:
    """Print a page to PDF and return the words of each sheet, one line below the other.

    Skips the test where there is no Chromium, or no pdftotext (poppler) to read the PDF.
    """
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("needs pdftotext, which is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    pdf = folder / "page.pdf"
    done = _run(folder, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())
    assert pdf.is_file(), done.stderr.decode("utf-8", "replace")[-1000:]
    words = subprocess.run(  # noqa: S603 - the program that was found
        [reader, "-layout", pdf, "-"], capture_output=True, timeout=1800, check=True
    )
    return words.stdout.decode().removesuffix("\f").split("\f")


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - the browser that was found
        _command(folder, *_OPTIONS.split(), *words), capture_output=True, timeout=18000, check=False
    )


def _command(folder: Path, *words: str) -> list[str]:
    if BROWSER is None:
        pytest.skip("needs Chromium, which is not installed")
    return [BROWSER, f"--user-data-dir={folder / 'profile'}", *words]


def _source(page: str | Path) -> str:
    if isinstance(page, Path):
        return f'src="{html.escape(page.as_uri(), quote=True)}"'
    return f'srcdoc="{html.escape(page, quote=True)}"'


LOOKS = Path(__file__).with_name("browser_looks.js").read_text(encoding="utf-8")
"""Functions that a script of `look_at` can call."""
