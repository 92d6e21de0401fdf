"""The installed package: complete, small, and honest about what it lacks."""

from __future__ import annotations

import ast
import configparser
import re
import runpy
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

import agebench
from agebench.modelfiles import manifest

WHEEL_LIMIT_BYTES = 51_000_000
"""45 MB of weights, 2.4 MB of lists and looks of training pictures, 0.4 MB of sample and the code,
unpacked."""

ROOT = Path(__file__).parents[2]
PRETRAINED = ROOT / "pretrained"
RUN = "import sys; from agebench.cli import main; main(sys.argv[1:])"


def _agebench(
    arguments: list[str], folder: Path, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command from `folder`; modules in `path` come before all others."""
    before = f"sys.path.insert(0, {str(path)!r}); " if path else ""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", f"import sys; {before}{RUN}", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def test_the_package_holds_all_that_is_not_code_and_stays_small() -> None:
    assert (manifest.bundled_dir() / "weights.toml").is_file()
    package = Path(agebench.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package / "harness" / "result.schema.json").is_file()
    folders = (package, manifest.bundled_dir())
    # Installed, the second lies in the first.
    files = {
        file.resolve()
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert sum(file.stat().st_size for file in files) < WHEEL_LIMIT_BYTES


@pytest.mark.parametrize("group", ["estimators", "detectors", "datasets"])
def test_every_entry_point_leads_somewhere(group: str) -> None:
    own = [
        entry
        for entry in entry_points(group=f"agebench.{group}")
        if entry.dist is not None and entry.dist.name == "agebench"
    ]
    assert own
    assert all(callable(entry.load()) for entry in own)


def test_measuring_does_not_need_torch() -> None:
    needs = distribution("agebench").requires or []
    assert [need for need in needs if need.startswith("torch")] == [
        need for need in needs if need.startswith("torch") and 'extra == "train"' in need
    ]


def test_terms_of_bundled_weights_and_pictures_go_with_the_code_s() -> None:
    written = configparser.ConfigParser()
    written.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = written["metadata"]["license_files"].split()
    kept = {path for pattern in patterns for path in ROOT.glob(pattern)}
    models = {*PRETRAINED.glob("*.onnx"), *PRETRAINED.glob("*.caffemodel")}
    assert kept >= {model.with_suffix(".md") for model in models}
    assert kept >= {ROOT / "LICENSE", PRETRAINED / "sample" / "README.md"}
    assert "LicenseRef-" in written["metadata"]["license"]


def test_extras_that_messages_name_exist_and_are_quoted() -> None:
    """As printed, so that it can be copied: a shell such as zsh takes brackets for a pattern."""
    written = configparser.ConfigParser()
    written.read(ROOT / "setup.cfg", encoding="utf-8")
    there = set(written["options.extras_require"])
    named = re.compile(r"pip install (.?)agebench\[([\w,-]+)\](.?)")
    found = [
        match
        for path in (ROOT / "agebench").rglob("*.py")
        for match in named.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found
    for match in found:
        assert match[1] == match[3] == "'", match[0]
        assert set(match[2].split(",")) <= there, match[0]


def test_the_main_job_runs_from_an_empty_folder(tmp_path: Path) -> None:
    done = _agebench(
        ["compare", "constant", "--dataset", "demo", "--detector", "haar", "--out", "results"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == [
        "predictions.csv",
        "report.html",
        "result.json",
        "run.toml",
    ]


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')", "libgl1"),
        ("cv2", "raise ImportError('libgthread-2.0.so.0: no such file')", "libglib2.0-0"),
        ("cv2", "__version__ = '5.0.0'", "OpenCV 5.0.0 is installed, agebench needs 4.10"),
        # The build before, 4.10.0.82, can't be imported beside numpy 2.
        (
            "cv2",
            "raise ImportError('no cv2 here')",
            "pip install 'opencv-contrib-python>=4.10.0.84,<5'",
        ),
        ("cv2", "", "OpenCV without a version is installed, agebench needs 4.10"),
    ],
)
def test_an_unfit_opencv_is_one_sentence(module: str, code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    done = _agebench(
        ["compare", "constant", "--dataset", "demo", "--detector", "haar"], tmp_path, tmp_path
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_opencv_before_4_13_is_silenced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    old = SimpleNamespace(__version__="4.10.0", utils=SimpleNamespace(), setLogLevel=levels.append)
    monkeypatch.setitem(sys.modules, "cv2", old)
    runpy.run_path(str(ROOT / "agebench/vision/opencv.py"))
    assert levels == [0]


def test_help_and_listing_need_no_opencv(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('none here')")
    for arguments in (["--help"], ["compare", "--help"], ["ls"]):
        assert _agebench(arguments, tmp_path, tmp_path).returncode == 0


def test_a_missing_onnxruntime_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart is not there')")
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(b"\x08\x08")  # a whole ONNX file of nothing
    spec = tmp_path / "net.toml"
    spec.write_text(
        'name = "n"\n[files]\nmodel = "net.onnx"\n[runtime]\nruntime = "onnxruntime"\n'
        '[crop]\nregion = "face"\nsize = [8, 8]\n'
        '[input]\nchannel_order = "bgr"\nmean = [0, 0, 0]\n[output]\nkind = "years"\n'
    )
    done = _agebench(
        ["compare", f"spec:{spec}", "--dataset", "demo", "--detector", "haar"], tmp_path, tmp_path
    )
    assert done.returncode == 1
    assert "onnxruntime can't be imported: libcudart is not there" in done.stderr
    assert "Traceback" not in done.stderr


EXTRAS_OF_OURS = re.compile(
    r"importorskip\('(av|h5py|ipykernel|markdown|mkdocs|nbclient|pandas|pillow_heif|ray|yaml)\b"
)
"""What comes with no extra that README's tests install."""


def test_tests_that_need_another_extra_are_marked_so_that_somebody_runs_them() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "\npytestmark = pytest.mark.extra\n" in text:
            continue
        for node in ast.parse(text).body:
            if not EXTRAS_OF_OURS.search(ast.unparse(node)):
                continue
            where = f"{path.name}, line {node.lineno}"
            assert isinstance(node, ast.FunctionDef), where
            marks = {ast.unparse(item) for item in node.decorator_list}
            helper = not node.name.startswith("test_")
            assert helper or marks & {"pytest.mark.extra", "pytest.mark.shared"}, where


def test_libraries_for_downloads_are_imported_only_to_download() -> None:
    code = "import sys, agebench.harness.compare; print('requests' in sys.modules)"
    found = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=True
    )
    assert found.stdout == "False\n"
