"""What a comparison loads before it begins, and what it takes a process of its own for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agebench.bench import loading
from agebench.errors import AgebenchError


@pytest.mark.parametrize("reference", ["onnx:{}/none.onnx", "spec:{}/none.toml"])
def test_a_path_to_nothing_is_said_without_a_process(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started for a file that is not there")

    monkeypatch.setattr(loading, "ask_child", never)
    with pytest.raises(AgebenchError, match="none"):
        loading.load_contenders([reference.format(tmp_path)], skip_unavailable=False)
