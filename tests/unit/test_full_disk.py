"""Disks that fill up in the middle and caches that are read-only: real ones, small and in memory.

The commands run in a process of their own.  On a full disk each ends with one sentence; what has
its final name then is whole; and once there is room the same command leaves what an undisturbed
run left.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agebench.duplicates.groups import fingerprints
from agebench.errors import AgebenchError
from agebench.modelfiles.manifest import bundled_dir
from agebench.registry.plugins import load_estimator
from agebench.testing import generated_picture
from agebench.types import Sample
from agebench.vision.images import decode_image
from agebench.vision.opencv import cv2
from agebench.vision.video import VideoSink
from tests.unit.forking import run_python
from tests.unit.trees import tree

AMPLE_BYTES = 64 << 20
PAGE_BYTES = 4096
SHARES = (0.3, 0.75)
"""How much of what an undisturbed run needs there is room for, one after the other."""

PICTURES = 96


class Disk:
    """A disk in memory."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        path.mkdir()
        mounted = _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path))
        if mounted.returncode:
            pytest.skip(
                f"needs to mount a small disk, which is not possible here: {mounted.stderr}"
            )

    def grow(self, size_bytes: int) -> None:
        """Make room."""
        _remount(self.path, f"size={size_bytes}")

    def protect(self) -> None:
        """Let nothing be written any more."""
        _remount(self.path, "ro")

    def used_bytes(self) -> int:
        state = os.statvfs(self.path)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)  # noqa: S603, S607 - made here


def _mount(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 - of this test
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 1, "", "there is no 'mount'")


def _remount(path: Path, option: str) -> None:
    done = _mount("-o", f"remount,{option}", str(path))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Make disks of so many bytes; they go away after the test."""
    made: list[Disk] = []

    def make(size_bytes: int) -> Disk:
        made.append(Disk(tmp_path / f"disk{len(made)}", size_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for `--dataset folders`: small pictures of eight ages."""
    root = tmp_path_factory.mktemp("pictures")
    for index in range(PICTURES):
        place = root / f"{index % 8 * 10 + 3:03d}" / f"p{index}.png"
        place.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place), generated_picture(40, 40, index))
    return root


# --- commands, and what they leave


Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Case:
    """A command that writes to a disk.

    Attributes:
        words: the command, to write into the folder given.
        check: asserts that what lies in the folder is whole, or not under its final name.
        left: what a whole run leaves in the folder, to be compared.
        program: what runs the words; the words follow.
        environment: for it; the folder is put in the place of "{out}".
    """

    words: Callable[[Path], list[str]]
    check: Callable[[Path], None]
    left: Callable[[Path], Files]
    program: tuple[str, ...] = ("-m", "agebench")
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, out: Path) -> subprocess.CompletedProcess[str]:
        """Run it in a process of its own."""
        own = {name: value.format(out=out) for name, value in self.environment.items()}
        environment = {**os.environ, "NO_PROXY": "*", **own}
        return run_python(*self.program, *self.words(out), environment=environment)


def assert_one_sentence(ended: subprocess.CompletedProcess[str], said: str) -> None:
    """Exit code 1 and a line of `agebench: ...` with the reason; no traceback."""
    assert ended.returncode == 1, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("agebench: ")]
    assert len(lines) == 1, ended.stderr
    assert said in lines[0]
    assert "Traceback" not in ended.stderr


def fill_up_and_mend(case: Case, disk: Callable[[int], Disk]) -> None:
    """Run the command undisturbed, on a disk that is too small, on a larger one, on a large one."""
    whole = disk(AMPLE_BYTES)
    ended = case.run(whole.path)
    assert ended.returncode == 0, ended.stderr
    needed, expected = whole.used_bytes(), case.left(whole.path)
    assert expected
    assert needed >= 8 * PAGE_BYTES, "too little for the disk to fill up in the middle"

    small = disk(int(SHARES[0] * needed))
    for share in SHARES:
        small.grow(int(share * needed))
        assert_one_sentence(case.run(small.path), "No space left on device")
        case.check(small.path)
    assert tree(small.path), "nothing was written before the disk was full"
    small.grow(AMPLE_BYTES)
    ended = case.run(small.path)
    assert ended.returncode == 0, ended.stderr
    case.check(small.path)
    assert case.left(small.path) == expected


# --- fetch


FETCH = """
import os
from agebench.modelfiles import manifest
known = manifest.parse_manifest(os.environ["TABLE"])
manifest.load_manifest = lambda: known
from agebench.cli import main
main()
"""

MODELS = {f"net{index}.onnx": random.Random(index).randbytes(60_000) for index in range(4)}


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder inside; gives its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[Case]:
    """Fetching four files from a server on this machine into a cache on the disk."""
    shop = tmp_path / "shop"
    shop.mkdir()
    tables = []
    for name, content in MODELS.items():
        (shop / name).write_bytes(content)
        tables.append(
            f'[files."{name}"]\nbytes = {len(content)}\n'
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
            f'licence = "MIT"\nwhat = "x"\nfor = ["estimator:e"]\nsources = ["https://a.test/x"]\n'
        )
    with served(shop) as url:
        yield Case(
            words=lambda _out: ["fetch"],
            check=no_other_model,
            left=tree,
            program=("-c", FETCH),
            environment={
                "TABLE": "\n".join(tables),
                "AGEBENCH_CACHE": "{out}",
                "AGEBENCH_MIRROR": url,
            },
        )


def no_other_model(folder: Path) -> None:
    """Files of the cache are whole, and no piece of another lies there."""
    for name, content in tree(folder).items():
        assert content == MODELS[name], name


def test_fetch_on_a_full_disk(fetch: Case, disk: Callable[[int], Disk]) -> None:
    fill_up_and_mend(fetch, disk)


def test_fetch_into_a_read_only_cache(fetch: Case, disk: Callable[[int], Disk]) -> None:
    cache = disk(AMPLE_BYTES)
    cache.protect()
    ended = fetch.run(cache.path)
    assert_one_sentence(ended, "can't write to the cache folder")
    assert "AGEBENCH_CACHE" in ended.stderr
    _remount(cache.path, "rw")
    assert fetch.run(cache.path).returncode == 0
    assert tree(cache.path) == MODELS


def test_a_read_only_cache_that_has_the_files_is_used(
    fetch: Case, disk: Callable[[int], Disk]
) -> None:
    cache = disk(AMPLE_BYTES)
    for name, content in MODELS.items():
        (cache.path / name).write_bytes(content)
    cache.protect()
    ended = fetch.run(cache.path)
    assert ended.returncode == 0, ended.stderr
    assert "fetched" not in ended.stdout


CONVERTED = "caffe-age-net-utkface@onnxruntime"


def test_a_model_is_converted_into_a_cache_with_room(
    disk: Callable[[int], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (bundled_dir() / "caffe-age-net-utkface.caffemodel").is_file():
        pytest.skip("needs the weights that come with the package")
    cache = disk(4 << 20)
    monkeypatch.setenv("AGEBENCH_CACHE", str(cache.path))
    with pytest.raises(AgebenchError, match=r"No space left.*AGEBENCH_CACHE.*converted model"):
        load_estimator(CONVERTED)
    assert tree(cache.path) == {}
    cache.protect()
    with pytest.raises(AgebenchError, match=r"Read-only.*AGEBENCH_CACHE.*converted model"):
        load_estimator(CONVERTED)
    _remount(cache.path, f"rw,size={AMPLE_BYTES}")
    load_estimator(CONVERTED)
    kept = tree(cache.path)
    cache.protect()
    load_estimator(CONVERTED)  # what is there already is used
    assert tree(cache.path) == kept != {}


def test_fingerprints_need_no_cache(
    pictures: Path, disk: Callable[[int], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = disk(2 * PAGE_BYTES)
    monkeypatch.setenv("AGEBENCH_CACHE", str(cache.path))
    samples = [Sample(path, path.name, 30.0) for path in sorted(pictures.rglob("*.png"))]
    for sample in samples:
        os.utime(sample.path, (0, 0))  # old enough to be remembered
    expected = fingerprints(samples, use_cache=False)
    assert fingerprints(samples) == expected
    assert tree(cache.path) == {}, "the disk was meant to be too small"
    cache.protect()
    assert fingerprints(samples) == expected
    _remount(cache.path, f"rw,size={AMPLE_BYTES}")
    assert fingerprints(samples) == expected
    assert tree(cache.path)
    assert fingerprints(samples) == expected


# --- prepare


def sound_crops(out: Path) -> None:
    """Each picture can be decoded to its end, each JSON file read, each table has whole rows."""
    for name, content in tree(out).items():
        if ".agebench" in name or Path(name).name.startswith("."):
            continue  # the run's own, not yet anybody's
        assert isinstance(content, bytes)
        if name.endswith(".jpg"):
            assert content.endswith(b"\xff\xd9"), name
            decode_image(content, name)
        elif name.endswith(".json"):
            json.loads(content)
        elif name.endswith(".csv"):
            rows = list(csv.reader(content.decode().splitlines()))
            assert len({len(row) for row in rows}) == 1, name
            assert content.endswith(b"\n"), name


@pytest.mark.parametrize("processes", [1, 2])
def test_prepare_on_a_full_disk(
    processes: int, pictures: Path, disk: Callable[[int], Disk]
) -> None:
    words = ["prepare", "--dataset", "folders", "--root", str(pictures), "--detector", "aligned"]
    words += ["--processes", str(processes), "--out"]
    fill_up_and_mend(Case(lambda out: [*words, str(out / "p")], sound_crops, tree), disk)


# --- train


def weights_of(out: Path) -> Files:
    """Return the tensors' hash of each checkpoint, since its header holds times; other files."""
    from agebench.train.checkpoint import read_checkpoint

    left: dict[str, str | bytes] = {}
    for path in sorted(out.rglob("*.safetensors")):
        saved = read_checkpoint(path)
        parts = [*sorted(saved.model.items()), *sorted(saved.averaged.items())]
        parts += sorted(saved.optimiser.items())
        left[path.name] = b"".join(value.numpy().tobytes() for _, value in parts)
    return left


def whole_run_folder(out: Path) -> None:
    """Checkpoints can be read, so can what was measured; no line of a log is cut off."""
    weights_of(out)
    for path in out.rglob("*.csv"):
        assert path.read_bytes().endswith(b"\n"), path
    for path in out.rglob("*.json"):
        json.loads(path.read_text())


def steps_of(out: Path) -> list[str]:
    with (out / "run" / "steps.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_train_on_a_full_disk(age_list: Path, disk: Callable[[int], Disk]) -> None:
    pytest.importorskip("torch", reason="needs the extra 'train'")
    words = ["train", str(age_list / "settings.toml"), "--set", "checkpoint_minutes=0", "--out"]

    def left(out: Path) -> Files:
        return {**weights_of(out), "steps": "\n".join(steps_of(out))}

    fill_up_and_mend(Case(lambda out: [*words, str(out / "run")], whole_run_folder, left), disk)


# --- compare


def whole_result(out: Path) -> None:
    """What is called a result is one; a table of predictions has whole rows."""
    for path in out.rglob("result.json"):
        json.loads(path.read_text())
    for path in out.rglob("predictions.csv"):
        with path.open(newline="") as file:
            assert len({len(row) for row in csv.reader(file)}) == 1
    assert not list(out.rglob(".*.*")), "a temporary file was left"


def test_compare_on_a_full_disk(pictures: Path, disk: Callable[[int], Disk]) -> None:
    words = ["compare", "constant", "--dataset", "folders", "--root", str(pictures)]
    words += ["--detector", "aligned", "--latency-pictures", "4", "--out"]

    def left(out: Path) -> Files:
        return {"predictions.csv": (out / "predictions.csv").read_bytes()}

    fill_up_and_mend(Case(lambda out: [*words, str(out)], whole_result, left), disk)


# --- predict


def whole_lines(out: Path) -> None:
    """Every line is a record to its end."""
    content = (out / "ages.jsonl").read_bytes()
    assert not content or content.endswith(b"\n")
    for line in content.splitlines():
        assert json.loads(line)["status"] == "ok"


@pytest.mark.parametrize("processes", [1, 2])
def test_predict_on_a_full_disk(
    processes: int, pictures: Path, disk: Callable[[int], Disk]
) -> None:
    words = ["predict", str(pictures), "--detector", "aligned", "--estimator", "constant"]
    words += ["--json", "--processes", str(processes), "--out"]
    fill_up_and_mend(Case(lambda out: [*words, str(out / "ages.jsonl")], whole_lines, tree), disk)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_drawn_video_on_a_full_disk(suffix: str, disk: Callable[[int], Disk]) -> None:
    """OpenCV says nothing of it; what is too short is not given its name."""
    small = disk(64 << 10)
    path = small.path / f"drawn{suffix}"

    def write() -> None:
        with VideoSink(path, 25.0) as sink:
            for index in range(40):
                sink.write(generated_picture(120, 160, index))

    with pytest.raises(AgebenchError, match="can't be written"):
        write()
    assert tree(small.path) == {}
    small.grow(AMPLE_BYTES)
    write()
    assert list(tree(small.path)) == [path.name]
    assert path.stat().st_size > 64 << 10
