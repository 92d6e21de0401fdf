"""A live window of OpenCV, if there is a display."""

from __future__ import annotations

import os
import subprocess
import sys

from agebench.errors import AgebenchError
from agebench.types import Image
from agebench.util.child_processes import safe_path
from agebench.vision.opencv import cv2

_ENDS = (ord("q"), ord("Q"), 27)
"""Keys that end it: q, and Escape."""

_TRIAL_S = 60.0


def has_display() -> bool:
    """Return whether a window can probably be opened: X11 or Wayland, or a desktop system."""
    if sys.platform in ("win32", "darwin"):
        return True
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(named) and _opens()


def _opens() -> bool:
    """Try a window in a child process: Qt aborts if the named display does not exist."""
    command = [sys.executable, "-P", "-c", "import cv2; cv2.namedWindow('agebench')"]
    try:
        with safe_path():
            tried = subprocess.run(  # noqa: S603 - our own interpreter, our own words
                command, capture_output=True, timeout=_TRIAL_S, check=False
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode == 0


class Window:
    """Shows pictures one after the other.

    Args:
        title: above the window.
    """

    def __init__(self, title: str) -> None:
        self._title = title

    def __enter__(self) -> Window:
        """Open it.

        Raises:
            AgebenchError: this OpenCV has no windows, or the display can't be reached.
        """
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise AgebenchError(
                f"no window can be opened ({error.err}): give --frames and --no-window"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        cv2.destroyAllWindows()

    def show(self, image_bgr: Image) -> bool:
        """Show a picture; return whether to go on: false once q was pressed or it was closed."""
        cv2.imshow(self._title, image_bgr)
        pressed = cv2.waitKey(1) & 0xFF
        open_still = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        return open_still and pressed not in _ENDS
