"""Two runs into one `--out` at once: one does it, the other is refused, nothing is mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import main
from tests.unit.forking import ForkedPython

Left = Callable[[Path], object]


def _predicted(out: Path) -> object:
    return sorted((out / "ages.jsonl").read_text().splitlines())


def _prepared(out: Path) -> object:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return [(str(path.relative_to(out)), path.read_bytes()) for path in files]


def _compared(out: Path) -> object:
    names = sorted(path.name for path in out.iterdir())
    return names, (out / "predictions.csv").read_bytes()


FOLDERS = ("--dataset", "folders", "--root", "{root}", "--detector", "aligned")
VERBS: dict[str, tuple[tuple[str, ...], Left]] = {
    "predict": (
        (
            *("predict", "{root}", "--detector", "aligned", "--estimator", "constant", "--json"),
            *("--out", "{out}/ages.jsonl"),
        ),
        _predicted,
    ),
    "prepare": (("prepare", *FOLDERS, "--out", "{out}"), _prepared),
    "compare": (
        (
            *("compare", "constant", *FOLDERS, "--latency-pictures", "0"),
            *("--no-report", "--out", "{out}"),
        ),
        _compared,
    ),
}


def _words(verb: str, root: Path, out: Path) -> list[str]:
    return [word.format(root=root, out=out) for word in VERBS[verb][0]]


@pytest.mark.parametrize("verb", VERBS)
def test_two_at_once_leave_what_one_leaves(verb: str, tmp_path: Path) -> None:
    root, alone, shared = tmp_path / "root", tmp_path / "alone", tmp_path / "shared"
    rng = np.random.default_rng(0)
    for age in (20, 30):
        (root / str(age)).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
            PillowImage.fromarray(pixels).save(root / str(age) / f"{number}.png")
    alone.mkdir()
    shared.mkdir()
    runs = [ForkedPython("-m", "agebench", *_words(verb, root, shared)) for _ in range(2)]
    with pytest.raises(SystemExit) as ended:
        main(_words(verb, root, alone))
    assert ended.value.code == 0
    ends = [run.ended() for run in runs]
    said, codes = [end.stderr for end in ends], [end.returncode for end in ends]
    # Where one began when the other was through, it did the same once more.
    assert codes in ([0, 0], [0, 1], [1, 0]), said
    for code, text in zip(codes, said, strict=True):
        assert not code or "another run is" in text
    assert VERBS[verb][1](shared) == VERBS[verb][1](alone)
