"""`agebench fetch` and `agebench ls`, run as a user runs them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agebench.cli import fetch, ls
from agebench.cli.main import main
from agebench.modelfiles import manifest, weights
from agebench.modelfiles.manifest import ManifestEntry, Need
from agebench.registry.plugins import DATASETS, DETECTORS, ESTIMATORS, Plugin, list_plugins

OTHER = Plugin(ESTIMATORS, "theirs", "their.mod:Net", "their-package", "2.1")
PLUGINS = {
    ESTIMATORS: [
        Plugin(ESTIMATORS, "alpha", "nowhere.at.all:Alpha", "agebench", "0"),
        Plugin(ESTIMATORS, "constant", "nowhere.at.all:C", "agebench", "0"),
        OTHER,
    ],
    DETECTORS: [Plugin(DETECTORS, "beta", "nowhere.at.all:Beta", "agebench", "0")],
    DATASETS: [Plugin(DATASETS, "fgnet", "nowhere.at.all:f", "agebench", "0")],
}


def _file(name: str, content: bytes, *needs: Need) -> ManifestEntry:
    digest = hashlib.sha256(content).hexdigest()
    source = f"https://raw.githubusercontent.com/me/nets/0ab1/{name}"
    return ManifestEntry(name, len(content), digest, "MIT", f"what {name} is", needs, (source,))


CONTENT = {"alpha.net": b"alpha!", "alpha.mean": b"mean", "beta.onnx": b"the second"}
MANIFEST = {
    "alpha.net": _file("alpha.net", CONTENT["alpha.net"], Need("estimator:alpha")),
    "alpha.mean": _file("alpha.mean", CONTENT["alpha.mean"], Need("estimator:alpha", "crops=10")),
    "beta.onnx": _file("beta.onnx", CONTENT["beta.onnx"], Need("detector:beta")),
}


@pytest.fixture(autouse=True)
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files, of which the mirror holds two, and no network."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in ("alpha.net", "beta.onnx"):
        (folder / name).write_bytes(CONTENT[name])
    monkeypatch.setenv("AGEBENCH_MIRROR", str(folder))
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(manifest, "load_manifest", lambda: MANIFEST)
    monkeypatch.setattr(fetch, "load_manifest", lambda: MANIFEST)
    monkeypatch.setattr(weights, "_fetch", lambda *_: None)
    for module in (fetch, ls):
        monkeypatch.setattr(module, "list_plugins", PLUGINS.__getitem__)
    return folder


Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    output = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, output.out, output.err


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ((), ["alpha.net", "alpha.mean", "beta.onnx"]),
        (("alpha",), ["alpha.net", "alpha.mean"]),
        (("estimator:alpha",), ["alpha.net", "alpha.mean"]),
        (("beta", "alpha.mean", "beta.onnx"), ["beta.onnx", "alpha.mean"]),
        (("constant",), []),
    ],
)
def test_names_stand_for_files(names: tuple[str, ...], files: list[str]) -> None:
    assert [entry.file for entry in fetch.select(names)] == files


def test_fetch_tells_what_is_here(capsys: Capture) -> None:
    code, out, err = run(capsys, "fetch", "beta")
    assert (code, err) == (0, "")
    assert "beta.onnx  0.00  here" in out


def test_fetch_goes_on_after_a_failure(capsys: Capture) -> None:
    code, out, err = run(capsys, "fetch", "--json")
    outcomes = json.loads(out)
    assert [(o["file"], o["status"]) for o in outcomes] == [
        ("alpha.net", "here"),
        ("alpha.mean", "failed"),
        ("beta.onnx", "here"),
    ]
    assert Path(outcomes[0]["path"]).read_bytes() == CONTENT["alpha.net"]
    assert outcomes[1]["path"] == ""
    assert "alpha.mean is not available" in outcomes[1]["error"]
    assert code == 1
    assert "1 of 3 files could not be fetched" in err
    assert "where there is a network or set AGEBENCH_MIRROR to a folder" in err
    assert "Nor" not in err
    # Its plug-in takes the path of the network, not of the mean.
    assert ":PATH" not in err


def test_what_only_an_option_needs_is_left_out_with_a_word(capsys: Capture) -> None:
    code, out, err = run(capsys, "fetch", "alpha")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[1:3]] == ["here", "failed"]
    assert err.startswith("only needed with crops=10, skipped: alpha.mean is not available")
    # Asked for as such it is no option any more.
    assert run(capsys, "fetch", "alpha", "alpha.mean")[0] == 1


def test_fetch_names_a_file_that_was_downloaded(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = MANIFEST["alpha.mean"]
    got = weights.ResolvedWeights(tmp_path / "x", entry.published, entry.sources[0])
    monkeypatch.setattr(weights, "_fetch", lambda *_: got)
    code, out, _ = run(capsys, "fetch", "alpha")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[1:3]] == ["here", "fetched"]
    assert f"alpha.mean from {entry.sources[0]}\n  sha256 {entry.sha256}\n" in out


def test_fetch_of_a_plugin_without_files(capsys: Capture) -> None:
    assert run(capsys, "fetch", "constant")[:2] == (
        0,
        "nothing to fetch: constant needs no model file\n",
    )


def test_fetch_of_an_unknown_name_is_wrong_usage(capsys: Capture) -> None:
    code, out, err = run(capsys, "fetch", "alpha", "beta.onx")
    assert (code, out) == (2, "")
    assert "did you mean 'beta.onnx' or 'beta'?" in err


def test_ls_json_says_what_is_here(capsys: Capture) -> None:
    code, out, _ = run(capsys, "ls", "--json")
    listed: dict[str, list[dict[str, Any]]] = json.loads(out)
    assert code == 0
    assert list(listed) == ["estimators", "detectors", "datasets"]
    alpha, constant, theirs = listed["estimators"]
    assert [(f["file"], f["here"], f["option"]) for f in alpha["files"]] == [
        ("alpha.net", True, ""),
        ("alpha.mean", False, "crops=10"),
    ]
    assert alpha["files"][0]["size_bytes"] == 6
    assert (alpha["licence"], alpha["source"]) == ("MIT", "github.com/me/nets")
    assert constant["files"] == []
    assert (theirs["package"], theirs["version"]) == ("their-package", "2.1")
    assert "research only" in listed["datasets"][0]["licence"]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_ls_fits_the_terminal(
    columns: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = run(capsys, "ls")
    assert code == 0
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "alpha.net here, 0.00 MB" in out
    assert "alpha.mean to fetch, 0.00 MB, for crops=10" in out
    assert "package: their-package 2.1" in out


def test_ls_of_one_kind(capsys: Capture) -> None:
    _, out, _ = run(capsys, "ls", "detectors")
    assert "beta.onnx" in out
    assert "alpha" not in out
    assert run(capsys, "ls", "detector")[0] == 2


def test_another_packages_plugin_does_not_take_our_files(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = Plugin(DETECTORS, "beta", "x:y", "their-package", "1")
    monkeypatch.setattr(ls, "list_plugins", lambda _: [impostor])
    _, out, _ = run(capsys, "ls", "detectors", "--json")
    assert json.loads(out)["detectors"][0]["files"] == []


def test_ls_imports_no_plugin_and_no_heavy_library() -> None:
    script = (
        "import sys\n"
        "from agebench.cli.main import main\n"
        "try: main(['ls'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'cv2', 'torch', 'onnxruntime', 'onnx', 'skimage', 'scipy'}\n"
        "loaded = [n for n in sys.modules if n.partition('.')[0] in heavy\n"
        "          or n.startswith(('agebench.estimators.', 'agebench.detectors.'))]\n"
        "assert not loaded, loaded\n"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  (ours)
    assert done.returncode == 0, done.stderr
    assert "caffe-age-net" in done.stdout


def test_the_licences_listed_are_those_of_the_data_sets() -> None:
    """`ls` imports no plug-in and so repeats them: they must not drift apart."""
    listed = {key.removeprefix("datasets:"): row for key, row in ls._ABOUT.items()}
    for plugin in list_plugins(DATASETS):
        if plugin.package != "agebench":
            continue
        assert plugin.name in listed, f"agebench ls says nothing of {plugin.name}"
        spec = getattr(import_module(plugin.target.split(":")[0]), "SPEC", None)
        if spec is not None and spec.licence:
            assert listed[plugin.name][1] == spec.licence


def test_of_many_failures_the_first_is_told_and_the_others_are_named() -> None:
    outcomes = [
        fetch.FetchOutcome(
            f"{name}.net", 1, "failed", error=f"{name}.net is not available:\n  no answer"
        )
        for name in ("a", "b", "c")
    ]
    reasons = fetch._reasons(outcomes)
    assert reasons.startswith("a.net is not available:\n  no answer\n")
    assert reasons.endswith(": b.net, c.net")
    assert reasons.count("is not available") == 1
