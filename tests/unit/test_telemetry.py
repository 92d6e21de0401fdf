"""ONNX Runtime reports nothing to its maker: no files of its own, no connections."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

# A file that fails to load is among it: the texts of errors are what would be sent.
CODE = """
import json, os, sys, time
from pathlib import Path
import agebench
from agebench.errors import ModelError
from agebench.runtimes import ModelSource, open_model

good, bad = map(Path, sys.argv[1:])
model = open_model(ModelSource("onnx", good), runtime="onnxruntime")
model.run({"": __import__("numpy").zeros(1, "float32")})
try:
    open_model(ModelSource("onnx", bad), runtime="onnxruntime")
except ModelError:
    pass
time.sleep(0.3)  # what sends would do so from a thread of its own
fds = Path("/proc/self/fd")
links = [os.readlink(item) for item in fds.iterdir() if item.is_symlink()] if fds.is_dir() else []
print(json.dumps([link for link in links if link.startswith("socket:")]))
"""


@pytest.fixture
def one_node(tmp_path: Path) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_nothing_is_written_or_sent(tmp_path: Path, one_node: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    folders = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        folder.mkdir()
    left_out = {"ORT_DISABLE_TELEMETRY"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {name: str(folder) for name, folder in folders.items()}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-P", "-c", CODE, str(one_node), str(bad)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    for folder in folders.values():
        assert not list(folder.rglob("*"))


def test_whoever_has_decided_is_left_alone() -> None:
    code = "import agebench, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"
