"""The only place that imports OpenCV, so that a missing or unsuitable one gives a clear message.

Use ``from agebench.vision.opencv import cv2``.
"""

from __future__ import annotations

import re

from agebench.errors import MissingDependencyError

try:
    import cv2
except ImportError as error:
    missing = re.search("lib(GL|gthread|glib)", str(error))
    packages = "install the packages libgl1 and libglib2.0-0"
    system = f" (on slim Linux systems: {packages})" if missing else ""
    raise MissingDependencyError(
        f"OpenCV can't be imported: {error}{system}. "
        "Install it with: pip install 'opencv-contrib-python>=4.10.0.84,<5'"
    ) from error

# A broken installation may leave a folder cv2 without the library, which can be imported.
_VERSION = str(getattr(cv2, "__version__", "without a version"))
_NUMBERS = re.match(r"([0-9]+)\.([0-9]+)", _VERSION)
_MAJOR, _MINOR = (int(number) for number in _NUMBERS.groups()) if _NUMBERS else (0, 0)
if not (_MAJOR == 4 and _MINOR >= 10):
    # 5.0 dropped the Caffe and Darknet importers and the Haar cascades.
    raise MissingDependencyError(
        f"OpenCV {_VERSION} is installed, agebench needs 4.10 or a later 4.x. "
        "Install it with: pip install --force-reinstall 'opencv-contrib-python>=4.10.0.84,<5'"
    )

# Its log messages repeat our own errors without the file's name (0: silent; moved in 4.13).
getattr(cv2.utils, "logging", cv2).setLogLevel(0)

__all__ = ["cv2"]
