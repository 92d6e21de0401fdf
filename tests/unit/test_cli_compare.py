"""`agebench compare` with hostile input: an exit code, one sentence, never a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import VERBS

PLUGIN = """
import time
from agebench.protocols import DetectorSpec, EstimatorSpec
from agebench.types import AgePrediction, CropSpec, Face, ViewSpec

class Whole:
    spec = DetectorSpec("whole")
    def detect(self, image_bgr, /):
        height, width = image_bgr.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]

class Slow:
    spec = EstimatorSpec("slow", CropSpec({"face": ViewSpec("face", (1, 1))}), "none")
    def predict(self, crops, /):
        print("busy", flush=True)
        time.sleep(0.2 * len(crops))
        return [AgePrediction(1.0)] * len(crops)

class Needs:
    def __init__(self, path, level: int):
        raise AssertionError("never reached")

class Crashes:
    def __init__(self, path):
        import os, sys
        assert '"task": "trial"' in sys.argv[1], "loaded where a crash ends everything"
        os.abort()

class Explodes:
    def __init__(self, how: str = "quietly"):
        raise KeyError("no such thing")
"""

ENTRY_POINTS = """
[agebench.detectors]
whole = hostile_plugin:Whole
[agebench.estimators]
slow = hostile_plugin:Slow
needs = hostile_plugin:Needs
explodes = hostile_plugin:Explodes
crashes = hostile_plugin:Crashes
gone = no_such_module_anywhere:Gone
"""


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What the user is told, on one line."""
        return " ".join(self.err.split())


Cli = Callable[..., Run]


@pytest.fixture(scope="module")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "hostile_plugin.py").write_text(PLUGIN)
    info = folder / "hostile_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture
def cli(
    cli: Callable[..., tuple[int, str, str]], plugin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Cli:
    """Run the command line where the plug-in is installed."""
    monkeypatch.syspath_prepend(plugin_folder)
    return lambda *arguments: Run(*cli(*arguments))


def _save(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 50), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PillowImage.effect_noise(size, 60).convert(mode)
    picture.save(path, **options)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three good pictures of people of 7, 20 to 29 and 40."""
    root = tmp_path / "ages"
    _save(root / "7" / "a.jpg")
    _save(root / "20-29" / "b.png")
    _save(root / "40" / "c.jpg")
    return root


BASE = ("compare", "constant", "--detector", "whole", "--latency-pictures", "0")


def _folders(root: Path) -> tuple[str | Path, ...]:
    return (*BASE, "--dataset", "folders", "--root", root)


def _result(folder: Path) -> dict[str, Any]:
    text = (folder / "result.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _truncated(kind: str) -> bytes:
    whole = io.BytesIO()
    PillowImage.effect_noise((200, 200), 60).convert("RGB").save(whole, kind)
    return whole.getvalue()[: len(whole.getvalue()) // 2]


def test_a_good_run_exits_0_and_says_where(cli: Cli, folders: Path, tmp_path: Path) -> None:
    run = cli(*_folders(folders), "--out", tmp_path / "out")
    assert run.code == 0
    assert run.err == ""
    assert "MAE" in run.out
    assert "result.json" in run.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.csv",
        "report.html",
        "result.json",
        "run.toml",
    ]
    # |7-30| and |40-30|
    assert _result(tmp_path / "out")["estimators"][0]["mae_years"] == pytest.approx(16.5)


def test_a_detector_that_finds_little_is_told_and_so_are_figures_on_a_handful(
    cli: Cli, folders: Path
) -> None:
    few = cli(*_folders(folders))
    assert "Pictures scored: ONLY 3." in few.out
    assert "NO FACE" not in few.out
    blind = cli(*("haar" if word == "whole" else word for word in _folders(folders)))
    assert "NO FACE in 3 of 3 pictures by haar: another detector" in " ".join(blind.out.split())
    chips = cli(*("aligned" if word == "whole" else word for word in _folders(folders)))
    assert "or 'aligned' if" not in " ".join(chips.out.split())
    for number in range(40):
        _save(folders / "50" / f"d{number}.png")
    enough = cli(*_folders(folders))
    assert "ONLY" not in enough.out
    assert "o face" not in enough.out


def test_every_missed_face_is_told(cli: Cli, tmp_path: Path) -> None:
    told = cli(
        "compare", "constant", "--detector", "haar", "--latency-pictures", "0", "-o", tmp_path
    )
    missed = [one for one in _result(tmp_path)["pictures"] if one["status"] == "no_face"]
    assert 0 < len(missed) < 15
    assert f"No face in {len(missed)} of 71 pictures by haar" in " ".join(told.out.split())


def test_what_the_listing_left_out_is_counted(cli: Cli, folders: Path) -> None:
    for number in range(7):
        (folders / "40" / f"{number}.jpg").symlink_to(folders / "nowhere.jpg")
    run = cli(*_folders(folders))
    assert "Left out while listing the data set: 7." in run.out
    assert "and 2 more, all in result.json" in run.out


def test_a_list_is_not_written_over_by_the_result(cli: Cli, folders: Path, tmp_path: Path) -> None:
    picture = next(folders.rglob("*.png"))
    listed = tmp_path / "predictions.csv"
    listed.write_text(f"path,age\n{picture},7\n")
    refused = cli(*BASE, "--dataset", "csv", "--root", listed, "--out", tmp_path)
    assert refused.code == 2
    assert "would be overwritten" in refused.err
    assert listed.read_text().startswith("path,age")


def test_answers_and_a_baseline_are_not_written_over(
    cli: Cli, folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli(*_folders(folders), "--out", out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    answers = f"answers:{out / 'predictions.csv'}"
    words = ("--dataset", "folders", "--root", folders, "--out", out)
    for given in (
        ("compare", answers, *words),
        (*_folders(folders), "--out", out, "--baseline", out / "result.json"),
    ):
        refused = cli(*given)
        assert refused.code == 2
        assert "is an input and would be overwritten" in refused.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli("compare", answers, *words[:-1], tmp_path / "other").code == 0


def test_a_missing_file_can_be_left_out(cli: Cli, folders: Path, tmp_path: Path) -> None:
    words = (*_folders(folders), f"onnx:{tmp_path / 'none.onnx'}")
    refused = cli(*words)
    assert refused.code == 1
    assert "or leave it out with --skip-unavailable" in refused.err
    assert cli(*words, "--skip-unavailable").code == 0


def test_json_on_stdout_is_ascii_and_nothing_else(cli: Cli, folders: Path) -> None:
    _save(folders / "30" / "\u00e9\u2603.jpg")
    run = cli(*_folders(folders), "--json")
    assert run.code == 0
    assert run.out.isascii()
    names = [image["picture"] for image in json.loads(run.out)["pictures"]]
    assert "30/\u00e9\u2603.jpg" in names


BAD_PICTURES: Mapping[str, tuple[bytes, str]] = {
    "text": (b"this is not a picture", "expected a picture, got a file of unknown format"),
    "html": (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "empty": (b"", "the file is empty"),
    "cut": (_truncated("JPEG"), "truncated or damaged"),
    "cut png": (_truncated("PNG"), "truncated or damaged"),
    "cut webp": (_truncated("WEBP"), "damaged"),
    "huge": (_png_that_declares(20_000, 20_000), "more than the limit of 100,000,000"),
    "large": (_png_that_declares(11_000, 10_000), "11000x10000 pixels, more than the limit of"),
    "nothing behind the header": (_png_that_declares(100, 100), "truncated or damaged"),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_bad_picture_among_good_ones_is_counted_and_listed(
    cli: Cli, folders: Path, tmp_path: Path, kind: str
) -> None:
    content, reason = BAD_PICTURES[kind]
    (folders / "40" / "bad.jpg").write_bytes(content)
    run = cli(*_folders(folders), "--out", tmp_path / "out")
    assert run.code == 0
    assert "bad.jpg" in run.out
    assert reason in " ".join(run.out.split())
    result = _result(tmp_path / "out")
    assert (result["estimators"][0]["scored"], result["estimators"][0]["failed"]) == (3, 1)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["picture"]: row for row in csv.DictReader(file)}
    assert rows["40/bad.jpg"]["status"] == "unreadable"
    assert reason in rows["40/bad.jpg"]["reason"]
    assert rows["40/c.jpg"]["status"] == "ok"


@pytest.mark.skipif(os.name == "nt", reason="such names can't be")
def test_names_do_not_command_the_terminal(cli: Cli, folders: Path, tmp_path: Path) -> None:
    (folders / "7" / "\x1b]0;title\x07\nLEAK\u202e\r.jpg").write_bytes(b"no picture")
    _save(folders / "\x1b[31mred" / "d.jpg")
    run = cli(*_folders(folders), "--out", tmp_path / "o\x1b[32mut")
    assert run.code == 0
    assert "7/\\x1b]0;title\\x07\\nLEAK\\u202e\\r.jpg" in run.out
    assert "\\x1b[31mred: 1 pictures left out" in run.out
    assert "o\\x1b[32mut" in run.out
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(run.out + run.err)
    assert "\nLEAK" not in run.out


def test_all_pictures_bad_is_a_result_without_figures(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "ages"
    for number, (content, _) in enumerate(BAD_PICTURES.values()):
        (root / "7").mkdir(parents=True, exist_ok=True)
        (root / "7" / f"{number}.jpg").write_bytes(content)
    run = cli(*_folders(root), "--out", tmp_path / "out")
    assert run.code == 1
    assert "no picture has an age from any estimator" in run.sentence
    assert f"Failed: {len(BAD_PICTURES)}" in run.out
    assert _result(tmp_path / "out")["estimators"][0]["mae_years"] is None


@pytest.mark.parametrize(
    ("name", "mode", "size", "options"),
    [
        ("row.png", "RGB", (300, 2), {}),
        ("column.png", "L", (1, 300), {}),
        ("endless row.png", "RGB", (40_000, 2), {}),
        ("endless column.png", "RGB", (3, 33_000), {}),
        ("cmyk.jpg", "CMYK", (40, 50), {}),
        ("alpha.png", "RGBA", (40, 50), {}),
        ("gray alpha.png", "LA", (40, 50), {}),
        ("palette.png", "P", (40, 50), {"transparency": 0}),
        ("sixteen.png", "I;16", (40, 50), {}),
        ("sixteen.tif", "I;16", (40, 50), {}),
        ("bits.png", "1", (40, 50), {}),
        ("\u00e9\u4e16 \u2603'\".jpg", "RGB", (40, 50), {}),
        ("gray.pgm", "L", (40, 50), {}),
        ("colour.ppm", "RGB", (40, 50), {}),
        ("modern.webp", "RGB", (40, 50), {}),
    ],
)
def test_odd_but_whole_pictures_are_scored(
    cli: Cli,
    folders: Path,
    tmp_path: Path,
    name: str,
    mode: str,
    size: tuple[int, int],
    options: dict[str, Any],
) -> None:
    _save(folders / "40" / name, mode, size, **options)
    run = cli(*_folders(folders), "--out", tmp_path / "out")
    assert run.code == 0
    result = _result(tmp_path / "out")
    statuses = {image["picture"]: image["status"] for image in result["pictures"]}
    assert statuses[f"40/{name}"] == "ok"
    assert result["estimators"][0]["scored"] == 4


@pytest.mark.parametrize("width", [1, 300, 40_000])
def test_a_face_below_a_pixel_is_a_missing_view(cli: Cli, folders: Path, width: int) -> None:
    _save(folders / "40" / "thin.png", "RGB", (width, 1))
    run = cli(*_folders(folders), "--json")
    result = json.loads(run.out)
    assert run.code == 0
    assert (result["estimators"][0]["scored"], result["estimators"][0]["failed"]) == (3, 1)
    image = next(image for image in result["pictures"] if image["picture"] == "40/thin.png")
    assert image["predictions"]["constant"]["status"] == "missing_view"


def test_pictures_are_turned_upright(cli: Cli, tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    _save(tmp_path / "ages" / "7" / "a.jpg", size=(40, 50), exif=exif)
    run = cli(*_folders(tmp_path / "ages"), "--json")
    assert json.loads(run.out)["pictures"][0]["box_xyxy"] == [0, 0, 50, 40]


def test_data_sets_that_are_not_there(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    file = _save(tmp_path / "picture.jpg")
    for dataset in ("folders", "utkface", "fgnet", "csv"):
        for root in (empty, tmp_path / "missing", file, file / "below"):
            run = cli(*BASE, "--dataset", dataset, "--root", root)
            assert run.code == 1, (dataset, root)
            assert run.err.startswith("agebench: ")
            assert str(root) in run.err
            assert len(run.err.splitlines()) == 1


def test_ages_that_are_none_are_listed(cli: Cli, tmp_path: Path) -> None:
    _save(tmp_path / "a.jpg")
    _save(tmp_path / "b.jpg")
    table = tmp_path / "list.csv"
    table.write_text(
        "path,age\na.jpg,30\nb.jpg,nan\nb.jpg,\nb.jpg,-3\nb.jpg,inf\nb.jpg,1e9\nnone.jpg,3\n"
    )
    run = cli(*BASE, "--dataset", "csv", "--root", table, "--json")
    assert run.code == 0
    result = json.loads(run.out)
    assert [image["picture"] for image in result["pictures"]] == ["a.jpg"]
    assert len(result["dataset"]["problems"]) == 6


def test_a_list_without_any_age_is_an_error(cli: Cli, tmp_path: Path) -> None:
    _save(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("path,age\na.jpg,nan\n")
    run = cli(*BASE, "--dataset", "csv", "--root", tmp_path / "list.csv")
    assert run.code == 1
    assert "nan" in run.err


DEMO = ("--dataset", "demo", "--latency-pictures", "0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "constnt", *DEMO), "unknown estimator 'constnt': did you mean 'constant'?"),
        (("compare", "zzzz", *DEMO), "unknown estimator 'zzzz': known: "),
        (("compare", "my.csv", *DEMO), "'my.csv': a list of pictures is given as '--dataset csv"),
        (("compare", "a.onnx", *DEMO), "is written as 'onnx:a.onnx'; describe another in a spec"),
        (("compare", "a.pth", *DEMO), "'a.pth': a model's file is described in a spec file"),
        (("compare", "my.toml", *DEMO), "'spec:my.toml'"),
        (("compare", "constant", "--dataset", "fgnt"), "did you mean 'fgnet'?"),
        (("compare", "constant", "--detector", "wole", *DEMO), "did you mean 'whole'?"),
        (("compare", "constant", "yeras=3", *DEMO), "no option 'yeras': did you mean 'years'?"),
        (("compare", "constant", "years=old", *DEMO), "expected a number"),
        (("compare", "constant", "years=nan", *DEMO), "years must be 0..120"),
        (("compare", "constant", "years=3", "years=4", *DEMO), "given twice"),
        (("compare", "years=3", *DEMO), "before any name"),
        (("compare", "constant@onnxruntim", *DEMO), "did you mean 'onnxruntime'?"),
        (("compare", "constant@onnxruntime:cudda", *DEMO), "did you mean 'cuda'?"),
        (("compare", "constant@onnxruntime:gpu", *DEMO), "a GPU is called 'cuda', 'tensorrt' or"),
        (("compare", "constant@onnxruntime", *DEMO), "takes no runtime"),
        (("compare", "constant:some.file", *DEMO), "takes no path"),
        (("compare", "", *DEMO), "has no name"),
        (("compare", "constant", "constant", *DEMO), "given twice"),
        (("compare", "needs", *DEMO), "'needs' needs a file: needs:FILE"),
        (("compare", "needs:f", *DEMO), "'needs' needs level=..."),
        (("compare", "spec", *DEMO), "spec"),
        (("compare", "constant", "--dataset", "demo", "--limit", "0"), "limit must be at least 1"),
        (("compare", "constant", *DEMO, "--limit", "1", "--sample", "1"), "exclude each other"),
        (("compare", "constant", *DEMO, "--seed", "-1"), "seed must be at least 0"),
        (("compare", "constant", *DEMO, "--decode-threads", "65"), "must be at most 64, got 65"),
        (("compare", "constant", *DEMO, "--limit", "many"), "not a valid integer"),
        (("compare", "constant", *DEMO, "--no-such-option"), "No such option"),
        (("compare", "constant", "--dataset", ""), "has no name"),
        (("compare", "constant", "--root", "somewhere"), "--root needs --dataset"),
        (("compare", "constant", *DEMO, "--root", "somewhere"), "leave the root out"),
        (("compare", "constant", "--dataset", "fgnet"), "needs its folder or file"),
        (("compare", "constant", "--dataset", "fgnet", "--root", "~no-such-user-/x"), "home"),
        (("compare", "spec:~no-such-user-/x", *DEMO), "home"),
        (("comapre", "constant"), "unknown verb 'comapre': did you mean 'compare'?"),
    ],
)
def test_wrong_calls_exit_2_with_a_hint(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    run = cli(*arguments)
    assert run.code == 2
    assert said in run.sentence
    assert run.out == ""
    page = f"agebench {arguments[0]}" if arguments[0] in VERBS else "agebench"
    assert f"'{page} --help'" in run.sentence
    assert ") (" not in run.sentence


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone", "'gone' of package 'hostile-plugin' can't be imported"),
        ("explodes", "'explodes' can't be created: KeyError"),
    ],
)
def test_broken_plugins_exit_1_and_are_named(cli: Cli, name: str, said: str) -> None:
    run = cli("compare", name, *DEMO)
    assert run.code == 1
    assert said in run.sentence


MODEL_FILES: Mapping[str, tuple[bytes | None, str]] = {
    "missing": (None, "no model file"),
    "folder": (b"folder", "folder"),
    "empty": (b"", "empty"),
    "html": (b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "LFS"),
    "noise": (bytes(range(256)) * 40, ""),
}


@pytest.mark.parametrize("estimator", ["hse-mobilenet", "caffe-age-net"])
@pytest.mark.parametrize("kind", MODEL_FILES)
def test_files_that_are_no_models(cli: Cli, tmp_path: Path, kind: str, estimator: str) -> None:
    content, said = MODEL_FILES[kind]
    model = tmp_path / "model.file"
    if content == b"folder":
        model.mkdir()
    elif content is not None:
        model.write_bytes(content)
    run = cli("compare", f"{estimator}:{model}", "--detector", "whole", *DEMO)
    assert run.code == 1
    assert "model.file" in run.err
    assert said.lower() in run.err.lower()


def test_a_file_of_the_published_name_with_other_bytes_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
    (tmp_path / name).write_bytes(b"\x0a\x02hi" * 894_191)  # the very size of the published file
    monkeypatch.setenv("AGEBENCH_MIRROR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    run = cli("compare", "hse-mobilenet", "--detector", "whole", *DEMO)
    assert run.code == 1
    assert name in run.err
    assert "--skip-unavailable" in run.err or "sha256" in run.err


def test_a_file_that_crashes_its_parser_ends_a_child_alone(
    cli: Cli, folders: Path, plugin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plugin_folder))
    model = tmp_path / "model.bin"
    model.write_bytes(b"hostile")
    names = ("compare", f"crashes:{model}", *_folders(folders)[1:], "--out", tmp_path / "out")
    run = cli(*names)
    assert run.code == 1
    assert "crashes:" in run.sentence
    assert "was not measured: trial of crashes:" in run.sentence
    assert "exit code -6" in run.sentence
    assert "the others were" in run.sentence
    listed = _result(tmp_path / "out")["estimators"]
    assert [(item["name"].partition(":")[0], item["available"]) for item in listed] == [
        ("constant", True),
        ("crashes", False),
    ]
    assert listed[0]["scored"] == 3
    assert cli(*names, "--skip-unavailable").code == 0
    run = cli("compare", f"crashes:{model}", *_folders(folders)[2:])
    assert run.code == 1
    assert "no estimator is available" in run.sentence


def test_nothing_available_is_an_error_even_if_skipped(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    name = ("compare", "hse-mobilenet", "--detector", "whole", *DEMO, "--skip-unavailable")
    run = cli(*name)
    assert run.code == 1
    assert "no estimator is available" in run.err
    run = cli(*name[:2], "constant", *name[2:], "--out", tmp_path / "out")
    assert run.code == 0
    assert "not available" in run.out
    listed = _result(tmp_path / "out")["estimators"]
    assert [(item["name"], item["available"]) for item in listed] == [
        ("constant", True),
        ("hse-mobilenet", False),
    ]


@pytest.mark.parametrize(("below", "code"), [("", 2), ("below", 1), ("below/further", 1)])
def test_an_output_folder_that_cannot_be_stops_before_the_run(
    cli: Cli, folders: Path, tmp_path: Path, below: str, code: int
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    run = cli(*_folders(folders), "--out", file / below)
    assert run.code == code
    assert "can't be written to" in run.err
    assert ("expected a folder, got a file" in run.err) == (code == 2)
    assert "--out" in run.err
    assert file.read_text() == "mine"


def _environment(plugin_folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(plugin_folder), "PYTHONUNBUFFERED": "1"}


# A job in the background ignores Ctrl-C, and so would its children.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from agebench.cli import main; main()"
)
COMMAND = (sys.executable, "-c", MAIN)


def _many(root: Path, count: int = 60) -> Path:
    first = _save(root / "7" / "000.jpg")
    for number in range(1, count):
        (root / "7" / f"{number:03d}.jpg").write_bytes(first.read_bytes())
    return root


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_in_the_middle_leaves_no_result(tmp_path: Path, plugin_folder: Path) -> None:
    out = tmp_path / "out"
    command = (*COMMAND, "compare", "slow", "--detector", "whole", "--batch-size", "1")
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--dataset", "folders", "--root", _many(tmp_path / "ages"), "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(plugin_folder),
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "busy\n"  # stdout belongs to results
    process.send_signal(signal.SIGINT)
    out_text, err = process.communicate(timeout=1800)
    assert (process.returncode, out_text) == (130, "")
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line not in {"", "busy"}]
    assert said == ["agebench: interrupted: no incomplete file was left"]
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path, plugin_folder: Path) -> None:
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, *BASE, "--dataset", "folders", "--root", _many(tmp_path / "ages"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(plugin_folder),
    )
    assert process.stdout is not None
    process.stdout.close()  # as head does once it has seen enough
    assert process.stderr is not None
    err = process.stderr.read().decode()
    assert process.wait(timeout=1800) == 1
    assert [line for line in err.splitlines() if line not in {"", "busy"}] == []


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
@pytest.mark.parametrize("words", [["--help"], ["ls"], ["ls", "--json"]])
def test_a_reader_that_has_gone_is_nothing_to_report(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *words], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_behind_stdout_is_a_sentence(
    folders: Path, plugin_folder: Path, options: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, *_folders(folders), *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(plugin_folder),
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes descriptors")
def test_names_that_the_terminal_cannot_show_and_no_stdout_at_all(
    folders: Path, plugin_folder: Path, tmp_path: Path
) -> None:
    (folders / "40" / "b\u00e4d.jpg").write_text("no picture")
    ascii_only = {**_environment(plugin_folder), "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, *_folders(folders), "--out", os.fsencode(tmp_path) + b"/\xff"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, env=ascii_only, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"b\\xe4d.jpg" in done.stdout
    result = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), "result.json")
    assert json.loads(result.read_text(encoding="utf-8"))["command"][-1] == "\udcff"
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *_folders(folders)]
    done = subprocess.run(  # noqa: S603 - our own command
        closed, stderr=subprocess.PIPE, env=ascii_only, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"agebench: standard output is closed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_pipe_in_the_folder_does_not_block(cli: Cli, folders: Path) -> None:
    os.mkfifo(folders / "40" / "pipe.jpg")
    run = cli(*_folders(folders), "--json")
    assert run.code == 0
    assert "pipe.jpg" in run.out


def test_pictures_with_much_of_nothing_agree_with_themselves(cli: Cli, tmp_path: Path) -> None:
    """Equal pictures get equal answers whatever the workers and batches."""
    root = _many(tmp_path / "ages", 9)
    answers = [
        json.loads(cli(*_folders(root), "--json", "--decode-threads", w, "--batch-size", b).out)[
            "pictures"
        ]
        for w, b in (("0", "1"), ("3", "4"))
    ]
    assert answers[0] == answers[1]
    assert np.ptp([image["predictions"]["constant"]["years"] for image in answers[0]]) == 0


def test_pictures_that_changed_after_they_were_split_are_told(
    cli: Cli, folders: Path, tmp_path: Path
) -> None:
    split, moved = tmp_path / "split.csv", tmp_path / "moved"
    shutil.copytree(folders, moved)
    made = cli(
        "split", "--dataset", "folders", "--root", folders, "--protocol", "holdout", "--out", split
    )
    assert made.code == 0, made
    picture = sorted(path for path in moved.rglob("*") if path.is_file())[0]
    picture.write_bytes(picture.read_bytes() + b"\0")
    scored = ("--protocol", split, "--part", "train", "--out", tmp_path / "out")
    assert "have changed since" not in cli(*_folders(folders), *scored).out
    run = cli(*_folders(moved), *scored)
    assert run.code == 0
    assert "1 of 3 pictures have changed since they were split" in " ".join(run.out.split())
    assert "have changed since" in json.dumps(_result(tmp_path / "out")["dataset"]["notes"])
