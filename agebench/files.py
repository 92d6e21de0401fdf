"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from agebench.errors import AgebenchError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside `path`, and only then give it its name.

    Args:
        path: the file; its folder must be there.  What it held before is replaced.
        content: text, written as UTF-8 with its line ends as they are, or bytes.

    Raises:
        AgebenchError: the folder can't be written to, or the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise AgebenchError(f"{path} can't be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
