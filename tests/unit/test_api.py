"""The package's functions for what has a command: each does its work, and fails in a sentence."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agebench
from agebench import (
    AgebenchError,
    BoxToFrame,
    CompareSettings,
    DatasetSpec,
    DetectorSpec,
    ExportSettings,
    PrepareSettings,
    RuntimeInfo,
    Sample,
    SampleList,
    UsageError,
    compare,
    examine_dataset,
    export_onnx,
    load_dataset,
    no_progress,
    prepare_dataset,
    split_dataset,
    write_report,
)
from agebench.testing import generated_picture
from agebench.vision.images import encode_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small chips in folders by age; two are the same picture with different ages."""
    root = tmp_path_factory.mktemp("set")
    for number in range(12):
        picture = generated_picture(40, 40, 0 if number == 11 else number)
        file = root / f"{5 * number:03d}" / f"p{number}.png"
        file.parent.mkdir()
        file.write_bytes(encode_png(picture))
    (root / "070").mkdir()
    (root / "070" / "broken.png").write_bytes(b"words")
    return root


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a result of two contenders."""
    out = tmp_path_factory.mktemp("result")
    compare(
        ["constant years=20", "constant years=40"],
        "folders",
        root=folder,
        detector="aligned",
        out=out,
        settings=CompareSettings(latency_pictures=0),
        progress=no_progress,
        fresh_detections=True,
    )
    return out


Cli = Callable[..., tuple[int, str, str]]


def printed(cli: Cli, *arguments: object) -> Any:
    code, out, err = cli(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_examine_dataset_finds_what_the_command_finds(
    folder: Path, tmp_path: Path, cli: Cli
) -> None:
    found = examine_dataset("folders", folder, out=tmp_path / "report", progress=no_progress)
    assert (found.diagnosis.pictures, found.diagnosis.decoded) == (13, 12)
    assert [item.name for item in found.diagnosis.broken] == ["070/broken.png"]
    assert [group.members for group in found.diagnosis.conflicting] == [
        ("000/p0.png", "055/p11.png")
    ]
    assert [file.name for file in found.files] == [
        "doctor.json",
        "ages.png",
        "different_ages_1.png",
    ]
    assert (
        json.loads(found.files[0].read_text()) == found.to_json() == printed(cli, "doctor", folder)
    )
    listed = load_dataset("folders", folder)
    as_object = examine_dataset(listed, against=listed, near=False, progress=no_progress)
    assert as_object.other is not None
    assert len(as_object.shared) == 11
    assert {item.kind for item in as_object.shared} == {"identical"}


def test_split_dataset_gives_what_the_command_gives(folder: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "split.csv"
    made = split_dataset(
        "folders", "holdout seed=3", root=folder, out=out, check=True, progress=no_progress
    )
    assert sum(made.total.values()) == 13
    assert made.leaks == ()
    again = split_dataset("folders", out, root=folder, progress=no_progress)
    assert again.split.parts == made.split.parts
    same = ("split", "--dataset", "folders", "--root", folder, "--protocol", "holdout seed=3")
    assert printed(cli, *same, "--check") == made.to_json()


def test_prepare_dataset_makes_a_data_set(folder: Path, tmp_path: Path) -> None:
    settings = PrepareSettings(views=("face",), groups="0-29,30-", height=32)
    out = tmp_path / "crops"
    done = prepare_dataset(
        "folders", out, root=folder, detector="aligned", settings=settings, progress=no_progress
    )
    assert (done.counts["pictures"], done.counts["faces"]) == (13, 12)
    assert done.counts["left_out"] == {"unreadable": 1}
    assert len(load_dataset("prepared", out).samples) == 12


def test_write_report_writes_page_and_tables(result: Path, tmp_path: Path, cli: Cli) -> None:
    report = write_report(
        result / "result.json", tmp_path, formats=("html", "csv"), progress=no_progress
    )
    assert [file.name for file in report.files] == ["report.html", "report.csv"]
    assert all(file.is_file() for file in report.files)
    assert report.figures == ()
    assert report.to_json() == printed(cli, "report", result / "result.json", "-o", tmp_path)


@pytest.mark.usefixtures("short_proof")
def test_write_report_says_what_it_takes(tmp_path: Path) -> None:
    settings = CompareSettings(limit=2, latency_pictures=0)
    measured: Any = compare(["constant"], "sample", detector="aligned", settings=settings)
    for given in (measured, [measured]):
        with pytest.raises(UsageError, match=r"got a CompareResult: use result\.report\(path\)"):
            write_report(given, tmp_path)
    with pytest.raises(UsageError, match="no result was given"):
        write_report([], tmp_path)


@pytest.mark.usefixtures("short_proof")
def test_export_onnx_writes_a_proven_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    done = export_onnx(
        "caffe-age-net-utkface",
        out,
        settings=ExportSettings(name="mine"),
        dataset="folders",
        root=folder,
        detector="aligned",
        pictures=CompareSettings(limit=2),
        progress=no_progress,
    )
    assert done.path == out
    assert done.size_bytes == out.stat().st_size
    assert done.parity is not None
    assert done.parity.crops == "2 faces of folders, found by aligned"
    assert max(row.max_years for row in done.parity.rows) < 0.01
    assert done.parity_path == tmp_path / "net.parity.json"
    assert done.price is None


WRONG: dict[str, Callable[[Path], object]] = {
    "no data set": lambda _: examine_dataset(),
    "no such set": lambda _: examine_dataset("nonesuch"),
    "no such folder": lambda tmp: examine_dataset(None, tmp / "none"),
    "itself": lambda tmp: examine_dataset("folders", tmp, against=tmp),
    "no threads": lambda _: examine_dataset("sample", decode_threads=0),
    "too many threads": lambda _: examine_dataset("sample", decode_threads=65),
    "threads in words": lambda _: examine_dataset("sample", decode_threads="2"),  # type: ignore[arg-type]  # wrong
    "threads above a limit": lambda _: CompareSettings(threads=1025),
    "no such place": lambda tmp: examine_dataset("sample", against=tmp / "none"),
    "no such protocol": lambda _: split_dataset("sample", "nonesuch"),
    "no such list": lambda tmp: split_dataset("sample", tmp / "holdout"),
    "no split file": lambda tmp: split_dataset("sample", "holdout", out=tmp / "split.txt"),
    "no such detector": lambda tmp: prepare_dataset("sample", tmp / "o", detector="nonesuch"),
    "nothing to prepare": lambda tmp: prepare_dataset("folders", tmp / "o", root=tmp / "none"),
    "no view": lambda _: PrepareSettings(views=("ear",)),
    "no result": lambda tmp: write_report(tmp / "none.json"),
    "no results": lambda _: write_report([]),
    "no path": lambda tmp: write_report(3, tmp),  # type: ignore[arg-type]  # wrong on purpose
    "no such format": lambda tmp: write_report(tmp, formats=["pdf"]),
    "no such column": lambda tmp: write_report(tmp, formats=["md"], columns=["luck"]),
    "no such model": lambda tmp: export_onnx("nonesuch", tmp / "n.onnx"),
    "no ONNX name": lambda tmp: export_onnx("caffe-age-net-utkface", tmp / "n.txt"),
    "no faces": lambda tmp: export_onnx(
        "caffe-age-net-utkface", tmp / "n.onnx", settings=ExportSettings(precision="int8")
    ),
    "no precision": lambda _: ExportSettings(precision="float8"),  # type: ignore[arg-type]  # wrong
    "no tolerance": lambda _: ExportSettings(tolerance_years=-1.0),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_an_error_in_a_sentence_and_ends_no_program(
    what: str, tmp_path: Path
) -> None:
    with pytest.raises(AgebenchError) as caught:  # SystemExit is none, and would pass
        WRONG[what](tmp_path)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_messages_about_folders_and_data_sets_name_the_argument(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    one = CompareSettings(limit=1, latency_pictures=0)
    calls: tuple[Callable[[], object], ...] = (
        lambda: compare(["constant"], "sample", out=file, settings=one),
        lambda: prepare_dataset("sample", out=file),
        lambda: prepare_dataset("folders", root=folder, out=folder / "crops"),
        lambda: examine_dataset("folders", root=folder, against=folder),
        lambda: examine_dataset("sample", against=""),
    )
    for call in calls:
        with pytest.raises(AgebenchError) as caught:
            call()
        assert " --" not in f" {caught.value}"  # an option beside its argument is in brackets


def test_every_public_name_is_listed_once_and_is_there() -> None:
    stub = Path(agebench.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imported = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imported for alias in node.names]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(dir(agebench))
    assert sorted([*names, "__version__"]) == sorted(vars(agebench)["__all__"])
    for node in imported:
        for alias in node.names:
            assert alias.asname == alias.name, "else a type checker takes it for private"
            value = getattr(agebench, alias.name)
            assert value.__module__ == f"agebench.{node.module}"
            assert value.__doc__
    with pytest.raises(AttributeError, match="nothing"):
        agebench.nothing  # type: ignore[attr-defined]  # noqa: B018 - there is none


def test_values_that_a_caller_makes_are_public(folder: Path) -> None:
    listed = load_dataset("folders", folder)
    some = SampleList(DatasetSpec("mine", "birth-age"), tuple(listed.samples[:3]))
    measured = compare(
        ["constant years=20"],
        some,
        detector="aligned",
        settings=CompareSettings(latency_pictures=0),
        progress=no_progress,
        fresh_detections=True,
    )
    assert measured.content()["dataset"]["name"] == "mine"
    assert [item["picture"] for item in measured.pictures] == [item.name for item in some.samples]
    with pytest.raises(ValueError, match="sorted by unique names"):
        replace(some, samples=(Sample(folder, "b", 1.0), Sample(folder, "a", 1.0)))
    spec = DetectorSpec("mine", box_to_frame=BoxToFrame(0.0, 0.1, 1.2))
    assert spec.box_to_frame.height == 1.2
    assert RuntimeInfo("onnxruntime", version="1.31").device == "cpu"
    assert issubclass(UsageError, AgebenchError)
    assert np.isfinite(spec.box_to_frame.dy)


def test_documented_modules_need_no_import_of_their_own() -> None:
    program = (
        "import agebench; agebench.errors.UsageError, agebench.types.Problem, agebench.testing;"
        "from agebench import *; assert 'types' not in globals()"
    )
    done = subprocess.run(  # noqa: S603 - its own text
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
