"""Fuzzing led by coverage, of what the project parses itself; by hand, where atheris is installed.

    pip install atheris
    python tests/fuzz/guided.py --minutes 5                  # for each of the families
    python tests/fuzz/guided.py caffemodel --minutes 60

Where the tests beside this file damage whole files at random, here the inputs that reach new
branches are kept and changed further.  Each family runs in a process of its own; what breaks the
promise ends it and is left in --out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

Target = tuple[bytes, Callable[[bytes], object]]

LONGEST_BYTES = 65_536


def texts() -> dict[str, Target]:
    """Return what parses texts: a whole one, and the reader to be tried."""
    from agebench.conversion.darknet_files import parse_cfg
    from agebench.errors import inert
    from agebench.modelfiles.manifest import parse_manifest
    from agebench.references import parse_reference
    from agebench.types import Problem
    from tests.fuzz import test_fuzz_texts as fuzz
    from tests.fuzz.promises import counted, keeps_promise

    def name(parse: Callable[[str], object]) -> Callable[[bytes], object]:
        def read(data: bytes) -> None:
            found = parse(data.decode(errors="surrogateescape"))
            counted("names", "refused" if isinstance(found, Problem) else "read")
            assert not isinstance(found, Problem) or inert(found.reason) == found.reason

        return read

    def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: keeps_promise("text", lambda: read(data.decode(errors="replace")))

    found: dict[str, Target] = {
        f"name of {kind}": (seed.encode(), name(parse))
        for kind, (parse, seed) in fuzz.NAMES.items()
    }
    found["reference"] = (b"onnx:m.onnx@onnxruntime:cuda crops=10", text(parse_reference))
    found["manifest of weights"] = (fuzz.MANIFEST, text(parse_manifest))
    found["darknet layout"] = (b"[net]\nwidth=32\n[convolutional]\nsize=3\n", text(parse_cfg))
    return found


def files(folder: Path) -> dict[str, Target]:
    """Return what reads files: a whole one, and the reader to be tried."""
    from tests.fuzz import test_fuzz_files as fuzz

    fuzz.make_whole(folder)

    def target(name: str, family: fuzz.Family) -> Target:
        seed, beside = fuzz.seed_of(family, folder)

        def read(data: bytes) -> None:
            with tempfile.TemporaryDirectory() as own:
                fuzz.try_file(name, family, data, beside, Path(own) / "files")

        return seed, read

    return {name: target(name, family) for name, family in fuzz.FAMILIES.items()}


def fuzz_one(name: str, seconds: int, out: Path) -> None:
    """Try one family until the time is over; does not return."""
    import atheris

    with tempfile.TemporaryDirectory() as folder:
        with atheris.instrument_imports(include=["agebench"]):
            targets = texts() | files(Path(folder))
        seed, read = targets[name]
    corpus = out / f"corpus-{name.replace(' ', '-')}"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "whole").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST_BYTES}", "-timeout=60"]
    options += ["-rss_limit_mb=6144", f"-artifact_prefix={corpus}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], read)
    atheris.Fuzz()


def run(name: str, minutes: float, out: Path) -> str:
    """Try one family in a process of its own and return a row of the table."""
    command = [sys.executable, __file__, name, "--here", "--out", str(out)]
    command += ["--minutes", str(minutes)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - this file
    runs = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    reached = re.findall(r" cov: (\d+)", done.stderr)
    if done.returncode or not runs:
        click.echo(done.stderr[-3000:], err=True)
        return f"| {name} | | | | **broke its promise** |"
    inputs, seconds = map(int, runs.groups())
    return f"| {name} | {inputs:,} | {seconds} | {reached[0]} to {reached[-1]} | kept |"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FAMILY", help="all if none is given")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each of them")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "agebench-fuzz")
    parser.add_argument("--here", action="store_true", help="one family, in this process")
    arguments = parser.parse_args()
    if arguments.here:
        fuzz_one(arguments.names[0], round(arguments.minutes * 60), arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        names = arguments.names or [*texts(), *files(Path(folder))]
    click.echo("| family | inputs | seconds | branches reached | promise |\n|---|---|---|---|---|")
    for name in names:
        click.echo(run(name, arguments.minutes, arguments.out))


if __name__ == "__main__":
    main()
