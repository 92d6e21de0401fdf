"""The manifest, and every way in which a model file can be had or not."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agebench.errors import UsageError, WeightsError, WeightsUnavailableError
from agebench.modelfiles import downloads, manifest, transfers, weights
from agebench.modelfiles.manifest import ManifestEntry, Need, parse_manifest
from agebench.modelfiles.weights import describe, is_here, resolve
from tests.unit.trees import left_in

NAME = "net.onnx"
PAYLOAD = random.Random(0).randbytes(200_001)
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
WRONG = PAYLOAD[:-1] + bytes([PAYLOAD[-1] ^ 1])
HTML = b"\n<!DOCTYPE html><html><body>Sign in to continue</body></html>"
FLOOD_BYTES = 64_000_000

GOOD_TABLE = f'''
[files."{NAME}"]
bytes = {len(PAYLOAD)}
sha256 = "{SHA256}"
licence = "MIT"
what = "a test file"
for = ["estimator:e", "detector:d size=2"]
sources = ["https://example.org/a/{NAME}"]
'''


class Server(http.server.ThreadingHTTPServer):
    """Answers each path in its own bad manner, once `mended` all in the good one; see `Handler`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str] = []
        self.sent_bytes = 0
        self.mended = False
        self.release = threading.Event()
        self.meeting = threading.Barrier(2, timeout=1800)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base's name)
        pass

    def reply(self, body: bytes, length: int | str | None = None, status: int = 200) -> None:
        self.send_response(status)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.seen.append(path)
        if self.server.mended:
            self.reply(PAYLOAD)
            return
        answers: dict[str, Callable[[], None]] = {
            "good": lambda: self.reply(PAYLOAD),
            f"mirror/{NAME}": lambda: self.reply(PAYLOAD),
            f"bad-mirror/{NAME}": lambda: self.reply(WRONG),
            "wrong": lambda: self.reply(WRONG),
            "html": lambda: self.reply(HTML),
            "long-html": lambda: self.reply(HTML + b" " * len(PAYLOAD)),
            "lfs": lambda: self.reply(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "empty": lambda: self.reply(b""),
            "lying": lambda: self.reply(PAYLOAD[:150_000], length=len(PAYLOAD)),
            "modest": lambda: self.reply(PAYLOAD, length=100_000),
            "boasting": lambda: self.reply(PAYLOAD, length=2 * len(PAYLOAD)),
            "short": lambda: self.reply(PAYLOAD[:150_000], length="none"),
            "senseless": lambda: self.reply(PAYLOAD, length="many"),
            "redirect": lambda: self.redirect(self.server.url("html")),
            "astray": lambda: self.redirect("http://[::1/a"),
            "flood": self.flood,
            "silent": self.silent,
            "stall": self.stall,
            "hang-up": self.hang_up,
            "reset": self.reset,
            "together": self.together,
        }
        answers.get(path, lambda: self.reply(b"404: Not Found", status=404))()

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while self.server.sent_bytes < FLOOD_BYTES:
                self.server.sent_bytes += self.wfile.write(bytes(1 << 16))
        except OSError:
            pass  # the client hung up, as it should

    def stall(self) -> None:
        self.reply(PAYLOAD[:100_000], length=len(PAYLOAD))
        self.server.release.wait()

    def reset(self) -> None:
        self.reply(PAYLOAD[:100_000], length=len(PAYLOAD))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def silent(self) -> None:
        self.server.release.wait()

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def together(self) -> None:
        self.server.meeting.wait()
        self.reply(PAYLOAD)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.release.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, and no proxy between it and loopback."""
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


Publish = Callable[..., ManifestEntry]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Make a manifest whose only file has the given sources."""

    def make(*sources: str) -> ManifestEntry:
        needs = (Need("estimator:e"),)
        entry = ManifestEntry(NAME, len(PAYLOAD), SHA256, "MIT", "a test file", needs, sources)
        monkeypatch.setattr(manifest, "load_manifest", lambda: {NAME: entry})
        return entry

    return make


# --- the manifest


def test_the_packages_manifest_is_valid_and_complete() -> None:
    known = manifest.load_manifest()
    assert {"age_net.caffemodel", "dlib-age-v1.onnx"} <= set(known)
    assert known["age_net.caffemodel"].size_bytes == 45_661_480
    assert len(known["age_net.caffemodel"].sources) == 3
    assert known["mean.binaryproto"].size_bytes == 4 * 3 * 256 * 256 + 14
    assert all(url.startswith("https://") for e in known.values() for url in e.sources)
    assert all(entry.needs for entry in known.values())
    bundled = {entry.file for entry in known.values() if entry.bundled}
    assert bundled == {
        "multicrop-resnet.onnx",
        "multicrop-resnet-small.onnx",
        "multicrop-resnet-open.onnx",
        "caffe-age-net-utkface.caffemodel",
    }


def test_the_bundled_weights_are_those_of_the_manifest() -> None:
    for entry in manifest.load_manifest().values():
        if entry.bundled:
            data = (manifest.bundled_dir() / entry.file).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (
                entry.size_bytes,
                entry.sha256,
            ), entry.file


@pytest.mark.shared
def test_the_manifest_agrees_with_the_files(shared_dir: Path) -> None:
    known = manifest.load_manifest()
    files = [path for path in (shared_dir / "pretrained").iterdir() if path.name in known]
    zoo = {f"estimator:{path.stem}" for path in (manifest.bundled_dir() / "zoo").glob("*.toml")}
    # Other public models are not among the research files.
    ours = [e for e in known.values() if e.sources and e.needs[0].plugin not in zoo]
    assert {entry.file for entry in ours} <= {path.name for path in files}
    for path in files:
        entry = known[path.name]
        assert path.stat().st_size == entry.size_bytes
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def test_bundled_weights_stay_within_their_limit() -> None:
    folder = manifest.bundled_dir()
    assert (folder / "weights.toml").is_file()
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total <= manifest.BUNDLED_LIMIT_BYTES


def test_files_for_keeps_the_order_and_the_option() -> None:
    entries = manifest.files_for("estimator:caffe-age-net")
    assert [entry.file for entry in entries] == ["age_net.caffemodel", "mean.binaryproto"]
    assert [entry.needs[0].option for entry in entries] == ["", "crops=10"]
    assert manifest.files_for("detector:haar") == []


def test_a_good_table_is_read() -> None:
    entry = parse_manifest(GOOD_TABLE)[NAME]
    assert entry.size_bytes == len(PAYLOAD)
    assert entry.needs == (Need("estimator:e"), Need("detector:d", "size=2"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bytes = 200001", "bytes = true", "bytes: expected a whole number, got True"),
        ("bytes = 200001", "bytes = 0", "bytes above 0"),
        ("bytes = 200001", "", "bytes is missing: expected a whole number"),
        (SHA256, SHA256.upper(), "64 lower-case hex digits"),
        (SHA256, SHA256[:-1], "64 lower-case hex digits"),
        ('"MIT"', '""', "a licence"),
        ("estimator:e", "e", "'estimator:NAME' or 'detector:NAME'"),
        ("https://", "ftp://", "an http(s) URL"),
        (f'["https://example.org/a/{NAME}"]', '"x"', "sources: expected a list, each text"),
        (f'files."{NAME}"', 'files."../net.onnx"', "a file name without folders"),
        (f'files."{NAME}"', 'files.".net"', "a file name without folders"),
        ("what =", "wat =", "wat: unknown key: did you mean 'what'?"),
        ("[files", "[folders", "must only contain tables"),
        ("bytes =", "bytes", "is not valid TOML"),
    ],
)
def test_a_bad_table_is_refused_with_the_reason(old: str, new: str, said: str) -> None:
    assert old in GOOD_TABLE
    with pytest.raises(WeightsError) as caught:
        parse_manifest(GOOD_TABLE.replace(old, new), "here.toml")
    assert said in str(caught.value)
    assert "here.toml" in str(caught.value)


def test_an_unknown_file_gives_near_matches() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'age_net\.caffemodel'"):
        resolve("agenet.caffemodel")


# --- an explicit path


def test_an_explicit_copy_of_the_published_file(publish: Publish, tmp_path: Path) -> None:
    publish("https://example.org/net.onnx")
    own = tmp_path / "own.onnx"
    own.write_bytes(PAYLOAD)
    found = resolve(NAME, explicit=own)
    assert (found.path, found.origin) == (own, "given")
    assert (found.info.file, found.info.sha256) == ("own.onnx", SHA256)
    assert found.info.published
    assert found.info.licence == "MIT"
    assert found.info.source == "https://example.org/net.onnx"


def test_an_explicit_other_model_is_used_but_not_called_published(
    publish: Publish, tmp_path: Path
) -> None:
    entry = publish()
    own = tmp_path / "own.onnx"
    own.write_bytes(WRONG)
    info = resolve(NAME, explicit=own).info
    assert info.sha256 == hashlib.sha256(WRONG).hexdigest()
    assert not info.published
    assert info.licence == ""
    assert info == describe(own, entry) == describe(own)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file in place of a model"),
        (HTML, f"an HTML page of {len(HTML)} bytes"),
        (b"\xef\xbb\xbf<HTML>", "an HTML page of 9 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer of 43 bytes"),
    ],
)
def test_an_explicit_stub_is_named_as_such(tmp_path: Path, content: bytes, said: str) -> None:
    stub = tmp_path / "age_net.caffemodel"
    stub.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        resolve("age_net.caffemodel", explicit=stub)
    assert str(stub) in str(caught.value)


def test_an_explicit_folder_pipe_or_missing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="a folder in place of a model"):
        resolve(NAME, explicit=tmp_path)
    with pytest.raises(WeightsError, match="a special file in place of a model"):
        resolve(NAME, explicit=tmp_path / "pipe")
    with pytest.raises(WeightsError, match=r"no model file at .*nothing"):
        resolve(NAME, explicit=tmp_path / "nothing")


# --- places on this machine


def test_the_package_comes_before_the_cache_and_the_mirror(
    publish: Publish, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    folders = {"package": tmp_path / "package", "cache": cache_folder, "mirror": tmp_path / "m"}
    monkeypatch.setattr(manifest, "bundled_dir", lambda: folders["package"])
    monkeypatch.setenv("AGEBENCH_MIRROR", str(folders["mirror"]))
    for origin in ("mirror", "cache", "package"):
        folders[origin].mkdir()
        assert is_here(NAME) == (origin != "mirror")
        (folders[origin] / NAME).write_bytes(PAYLOAD)
        found = resolve(NAME, download=False)
        assert (found.origin, found.path) == (origin, folders[origin] / NAME)
        assert found.info.published
        assert is_here(NAME)


def test_is_here_looks_at_the_size_only(publish: Publish, cache_folder: Path) -> None:
    publish()
    cache_folder.mkdir()
    (cache_folder / NAME).write_bytes(PAYLOAD[:-1])
    assert not is_here(NAME)
    (cache_folder / NAME).write_bytes(WRONG)
    assert is_here(NAME)


def test_a_poisoned_cache_is_never_used(publish: Publish, cache_folder: Path) -> None:
    publish()
    cache_folder.mkdir()
    (cache_folder / NAME).write_bytes(WRONG)
    with pytest.raises(WeightsError) as caught:
        resolve(NAME, download=False)
    assert not isinstance(caught.value, WeightsUnavailableError)
    assert f"expected sha256 {SHA256}, got {hashlib.sha256(WRONG).hexdigest()}" in str(caught.value)


def test_a_poisoned_cache_is_replaced(publish: Publish, server: Server, cache_folder: Path) -> None:
    publish(server.url("good"))
    cache_folder.mkdir()
    (cache_folder / NAME).write_bytes(WRONG)
    found = resolve(NAME)
    assert found.path == cache_folder / NAME
    assert found.path.read_bytes() == PAYLOAD
    assert left_in(cache_folder) == [NAME]


def test_a_wrong_mirror_folder_is_passed_over(
    publish: Publish, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server.url("good"))
    (tmp_path / NAME).write_bytes(WRONG)
    monkeypatch.setenv("AGEBENCH_MIRROR", str(tmp_path))
    assert resolve(NAME).origin == server.url("good")
    assert (tmp_path / NAME).read_bytes() == WRONG


def test_nothing_is_fetched_where_that_is_forbidden(publish: Publish, server: Server) -> None:
    publish(server.url("good"))
    with pytest.raises(WeightsUnavailableError):
        resolve(NAME, download=False)
    assert server.seen == []


# --- sources


def test_a_file_is_fetched_once(publish: Publish, server: Server, cache_folder: Path) -> None:
    publish(server.url("good"), server.url("never-asked"))
    first, second = resolve(NAME), resolve(NAME)
    assert (first.origin, second.origin) == (server.url("good"), "cache")
    assert first.info == second.info
    assert first.info.source == server.url("good")
    assert server.seen == ["good"]
    assert left_in(cache_folder) == [NAME]


def test_a_mirror_url_comes_first(
    publish: Publish, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server.url("good"))
    monkeypatch.setenv("AGEBENCH_MIRROR", server.url("mirror/"))
    assert not is_here(NAME)
    assert resolve(NAME).info.source == server.url("good")
    assert server.seen == [f"mirror/{NAME}"]


def test_a_wrong_mirror_url_is_passed_over(
    publish: Publish, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server.url("good"))
    monkeypatch.setenv("AGEBENCH_MIRROR", server.url("bad-mirror"))
    assert resolve(NAME).origin == server.url("good")
    assert server.seen == [f"bad-mirror/{NAME}", "good"]


WRONG_ANSWERS = [
    ("wrong", "got " + hashlib.sha256(WRONG).hexdigest()),
    ("html", f"an HTML page of {len(HTML)} bytes in place of a model"),
    ("redirect", f"an HTML page of {len(HTML)} bytes in place of a model"),
    ("long-html", "an HTML page of more than 200,001 bytes in place of a model"),
    ("lfs", "a Git LFS pointer"),
    ("empty", "an empty file in place of a model"),
    ("short", "expected 200,001 bytes, got 150,000"),
    ("modest", "expected 200,001 bytes, got 100,000"),
    ("flood", "expected 200,001 bytes, got more"),
]
FAILURES = [
    ("missing", "the server says 404 Not Found"),
    ("lying", "cut off after "),
    ("boasting", "cut off after "),
    ("astray", "its answer can't be read"),
    ("silent", "no data for 0.5 s, after 0 of 200,001 bytes"),
    ("stall", "no data for 0.5 s, after "),
    ("hang-up", "no answer ("),
    ("reset", "cut off after "),
]


@pytest.mark.parametrize(("path", "said"), WRONG_ANSWERS + FAILURES)
def test_a_bad_source_is_named_leaves_nothing_and_is_forgiven(
    path: str,
    said: str,
    publish: Publish,
    server: Server,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfers, "TIMEOUT_S", (5.0, 0.5))
    publish(server.url(path))
    with pytest.raises(WeightsError) as caught:
        resolve(NAME)
    lines = [line for line in str(caught.value).splitlines() if server.url(path) in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert isinstance(caught.value, WeightsUnavailableError) == ((path, said) in FAILURES)
    assert left_in(cache_folder) == []
    server.mended = True
    assert resolve(NAME).path.read_bytes() == PAYLOAD
    assert left_in(cache_folder) == [NAME]


def test_right_bytes_with_a_senseless_length_are_right(publish: Publish, server: Server) -> None:
    publish(server.url("senseless"))
    assert resolve(NAME).path.read_bytes() == PAYLOAD


def test_after_all_bad_sources_the_good_one_is_used(
    publish: Publish, server: Server, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "TIMEOUT_S", (5.0, 0.5))
    bad = [path for path, _ in WRONG_ANSWERS + FAILURES]
    publish(*map(server.url, [*bad, "good"]))
    found = resolve(NAME)
    assert found.path.read_bytes() == PAYLOAD
    assert [path for path in server.seen if path in (*bad, "good")][-1] == "good"
    assert set(bad) <= set(server.seen)
    assert left_in(cache_folder) == [NAME]


def test_a_flood_is_cut_off_early(publish: Publish, server: Server) -> None:
    publish(server.url("flood"))
    with pytest.raises(WeightsError):
        resolve(NAME)
    # What fits into the sockets' buffers may still be sent, but nothing like all of it.
    assert server.sent_bytes < FLOOD_BYTES / 2


def test_the_message_lists_every_place_and_what_to_do(
    publish: Publish, server: Server, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/net"
        publish(server.url("missing"), server.url("html"), closed)
        monkeypatch.setenv("AGEBENCH_MIRROR", server.url("nothing"))
        with pytest.raises(WeightsUnavailableError) as caught:
            resolve(NAME)
    lines = str(caught.value).splitlines()
    assert f"200,001 bytes, sha256 {SHA256}" in lines[0]
    places = [line.strip() for line in lines[1:-1]]
    assert places == [
        f"package {manifest.bundled_dir()}: not there",
        f"cache {cache_folder}: not there",
        f"{server.url('nothing')}/{NAME}: the server says 404 Not Found",
        f"{server.url('missing')}: the server says 404 Not Found",
        f"{server.url('html')}: an HTML page of {len(HTML)} bytes in place of a model",
        f"{closed}: no answer (Connection refused)",
    ]
    for advice in (f"agebench fetch {NAME}", "AGEBENCH_MIRROR", "e:PATH"):
        assert advice in lines[-1]


def test_a_password_in_the_mirrors_url_is_not_shown(
    publish: Publish, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    mirror = server.url("nothing").replace("http://", "http://me:secret@")
    monkeypatch.setenv("AGEBENCH_MIRROR", mirror)
    with pytest.raises(WeightsUnavailableError) as caught:
        resolve(NAME)
    assert "secret" not in str(caught.value)
    assert server.seen == [f"nothing/{NAME}"]


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_unwritable_cache_is_one_sentence(
    below: str, publish: Publish, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server.url("good"), server.url("wrong"))
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "file" / below))
    with pytest.raises(WeightsUnavailableError) as caught:
        resolve(NAME)
    assert "can't write to the cache folder" in str(caught.value)
    assert "AGEBENCH_CACHE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.seen == []


def test_a_folder_under_the_files_name_is_a_sentence(
    publish: Publish, server: Server, cache_folder: Path
) -> None:
    publish(server.url("good"))
    (cache_folder / NAME).mkdir(parents=True)
    with pytest.raises(WeightsUnavailableError, match="can't write to the cache folder"):
        resolve(NAME)
    assert left_in(cache_folder) == [NAME]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence_and_stops(server: Server) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = downloads.Sink(full, len(PAYLOAD), None)
        with pytest.raises(downloads.CacheFolderError, match="No space left"):
            transfers.transfer(server.url("good"), sink, len(PAYLOAD))


class Bar:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.done = 0
        self.resets = 0
        self.closed = False

    def update(self, n: int, /) -> None:
        self.done += n

    def reset(self) -> None:
        self.done = 0
        self.resets += 1

    def close(self) -> None:
        self.closed = True


def test_progress_starts_again_with_each_source(publish: Publish, server: Server) -> None:
    publish(server.url("lying"), server.url("good"))
    bar = Bar()
    resolve(NAME, progress=bar)
    assert (bar.total, bar.done) == (len(PAYLOAD), len(PAYLOAD))
    assert (bar.resets, bar.closed) == (2, True)


def test_a_rich_bar_counts_and_shows_up_only_when_used() -> None:
    with downloads.terminal_lines() as lines:
        bar = downloads.RichBar(lines, NAME)
        (task,) = lines.tasks
        assert not task.visible
        bar.reset()
        bar.total = 10
        bar.update(4)
        assert (task.visible, bar.total, task.completed) == (True, 10, 4)
        bar.reset()
        assert task.completed == 0


def test_nothing_is_shown_without_a_terminal(
    publish: Publish, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(server.url("good"))
    resolve(NAME)
    assert capfd.readouterr() == ("", "")


FETCH_IN_A_PROCESS = """
import sys
from agebench.modelfiles import manifest, weights
entry = manifest.ManifestEntry(sys.argv[1], int(sys.argv[2]), sys.argv[3], "MIT", "", (), (sys.argv[4],))
manifest.load_manifest = lambda: {entry.file: entry}
print(weights.resolve(entry.file).origin)
"""  # noqa: E501  (a script, not prose)


def test_two_processes_fetch_at_the_same_time(server: Server, cache_folder: Path) -> None:
    # The server answers neither before both have asked.
    url = server.url("together")
    words = [sys.executable, "-c", FETCH_IN_A_PROCESS, NAME, str(len(PAYLOAD)), SHA256, url]
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603  (this interpreter)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=1800)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert answers == [url, url]
    assert left_in(cache_folder) == [NAME]
    assert (cache_folder / NAME).read_bytes() == PAYLOAD


def test_an_interrupted_fetch_leaves_nothing(
    publish: Publish, server: Server, cache_folder: Path
) -> None:
    class Interrupting(Bar):
        def update(self, n: int, /) -> None:
            raise KeyboardInterrupt

    publish(server.url("good"))
    with pytest.raises(KeyboardInterrupt):
        resolve(NAME, progress=Interrupting())
    assert left_in(cache_folder) == []


def test_what_a_killed_fetch_left_is_removed_when_it_is_old(
    publish: Publish, server: Server, cache_folder: Path
) -> None:
    cache_folder.mkdir(parents=True, exist_ok=True)
    old, young, other = (
        cache_folder / name for name in (f".{NAME}.1.part", f".{NAME}.2.part", ".other.1.part")
    )
    for part in (old, young, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (0, 0))
    publish(server.url("good"))
    resolve(NAME)
    assert left_in(cache_folder) == sorted([other.name, young.name, NAME])


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGEBENCH_CACHE", "~/nets")
    assert weights.cache_dir() == tmp_path / "nets"
    monkeypatch.setenv("AGEBENCH_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir().name == "agebench"


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_manifests_that_upset_the_toml_reader_are_a_sentence(value: str) -> None:
    with pytest.raises(WeightsError, match="is not valid TOML"):
        parse_manifest(f"files = {value}")
