"""Removes local paths from shared files: results, checkpoints, their commands."""

from __future__ import annotations

import re
from pathlib import Path

# Possible prefixes of a path in a word of a command: --option=, NAME:, key=, key=NAME:.
_WORD = re.compile(r"(?s)((?:--?[\w-]+=)?(?:[\w.-]{2,}[:=]){0,2})((?:/|~|[A-Za-z]:[\\/]|\\\\).*)")
_NEXT_OPTION = re.compile(r"( (?=[\w-]+=))")


def without_folders(text: str) -> str:
    r"""Return a word of a command with each absolute path in it reduced to its last part.

    The folders reveal who made it and where, and are meaningless on another machine.

    >>> without_folders("/home/me/pictures/"), without_folders("--root=~/sets/mine")
    ('pictures', '--root=mine')
    >>> without_folders("onnx:/home/me/a b.onnx@cv2dnn:cpu table=/home/me/t.json")
    'onnx:a b.onnx@cv2dnn:cpu table=t.json'
    >>> without_folders("others of mine=csv:/home/me/list.csv")
    'others of mine=csv:list.csv'
    >>> without_folders("sets/mine"), without_folders("C:\\Users\\me\\x.csv")
    ('sets/mine', 'x.csv')
    """
    return "".join(map(_cut, _NEXT_OPTION.split(text)))


def _cut(piece: str) -> str:
    found = _WORD.fullmatch(piece)
    if found is None:
        return piece
    prefix, path = found.groups()
    return prefix + re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def without_home(text: str) -> str:
    """Return a text with the user's home folder written as ``~``.

    >>> without_home(f"{Path.home()}/a.jpg: the file is empty")
    '~/a.jpg: the file is empty'
    """
    try:
        home = str(Path.home())
    except RuntimeError:  # there is none
        return text
    return text if len(home) < 2 else re.sub(re.escape(home) + r"(?=[\\/]|\W|$)", "~", text)
