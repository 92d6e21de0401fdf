"""Time of the search for copies by number of pictures that all look alike: frames of a video.

    python benchmarks/near_duplicates_scale.py --frames 250 --frames 1000 --frames 100000 --out FILE

The frames are synthetic: a textured scene, a moving camera, an object moving in front, changing
light, saved as JPEG.  Each number of frames is measured in its own process, which reads them again.
For at most 1,000 frames, the groups are compared with those from all pairs, without any limit: a
recall of 1 means that every pair that belongs together is in one group.
With --verbs, the commands `doctor` and `split` run on the same frames too, each as a process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from agebench.duplicates import near_candidates, near_memory, near_search
from agebench.duplicates.groups import DuplicateGroup, find_duplicates, fingerprints
from agebench.types import Image, Sample, plain
from agebench.util.files import write_whole
from agebench.vision.opencv import cv2

SIZE_PX = 96
EXACT_UP_TO = 1000
MOST_FRAMES = 1_000_000


def scene(seed: int, size: int) -> Image:
    """Return a textured picture, uint8 (size, size, 3)."""
    noise = np.random.default_rng(seed).uniform(0, 255, (size, size, 3)).astype(np.float32)
    mixed = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4, 12, 30))
    low, high = np.min(mixed), np.max(mixed)
    return np.asarray((mixed - low) / (high - low) * 255, np.uint8)


def write_frames(folder: Path, count: int) -> list[Sample]:
    """Write the first frames of the video."""
    behind, before = scene(1, SIZE_PX * 2), scene(2, SIZE_PX // 3)
    samples = []
    for index in range(count):
        x, y = (int(SIZE_PX / 2 * (1 + np.sin(index / period))) for period in (90.0, 130.0))
        frame = behind[y : y + SIZE_PX, x : x + SIZE_PX].copy()
        u, v = (
            int((SIZE_PX - len(before)) / 2 * (1 + np.sin(index / period)))
            for period in (17.0, 23.0)
        )
        frame[v : v + len(before), u : u + len(before)] = before
        light = 0.9 + 0.1 * np.sin(index / 300)
        data = cv2.imencode(".jpg", np.asarray(frame * light, np.uint8))[1].tobytes()
        path = folder / f"{index:07d}.jpg"
        path.write_bytes(data)
        samples.append(Sample(path, path.name, 30.0))
    return samples


def pairs_of(groups: Iterable[DuplicateGroup]) -> set[tuple[str, str]]:
    """Return all pairs that are in one group."""
    return {pair for group in groups for pair in combinations(group.members, 2)}


def recall(samples: list[Sample]) -> float:
    """Return which fraction of the pairs of the exact answer is found as in large sets."""
    prints = fingerprints(samples, use_cache=False)
    found = []
    for limits in ((0, near_memory.MOST_LOOKS, near_memory.MOST_ALIGNMENTS), (1 << 30,) * 3):
        near_candidates.EXACT_UP_TO, near_memory.MOST_LOOKS, near_memory.MOST_ALIGNMENTS = limits
        found.append(pairs_of(find_duplicates(samples, prints, threads=1)))
    return len(found[0] & found[1]) / max(1, len(found[1]))


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Return the figures of one number of frames, in a process of its own."""
    samples = [Sample(folder / f"{i:07d}.jpg", f"{i:07d}.jpg", 30.0) for i in range(count)]
    started, cpu = time.perf_counter(), time.process_time()
    prints = fingerprints(samples, threads=1, use_cache=False)
    read, read_cpu = time.perf_counter(), time.process_time()
    groups = find_duplicates(samples, prints, threads=1)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures: dict[str, Any] = {
        "frames": count,
        "fingerprints_s": round(read - started, 2),
        "fingerprints_cpu_s": round(read_cpu - cpu, 2),
        "search_s": round(ended - read, 2),
        "search_cpu_s": round(ended_cpu - read_cpu, 2),
        "peak_mb": round(peak / 1024),
        "groups": len(groups),
        "frames_in_groups": sum(len(group.members) for group in groups),
    }
    if count <= EXACT_UP_TO:
        figures["recall_of_pairs"] = recall(samples)
    return figures


def verbs(folder: Path, count: int) -> dict[str, Any]:
    """Return the processor time and memory of the commands, all of their processes together."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        root = Path(name) / "frames"
        (root / "30").mkdir(parents=True)
        for index in range(count):
            os.link(folder / f"{index:07d}.jpg", root / "30" / f"{index:07d}.jpg")
        commands = {
            "doctor": ["doctor", str(root), "--dataset", "folders", "--json"],
            "split": [
                *("split", "--dataset", "folders", "--root", str(root)),
                *("--protocol", "holdout", "--out", str(Path(name) / "split.csv")),
            ],
        }
        return {verb: whole_process(Path(name), command) for verb, command in commands.items()}


def whole_process(folder: Path, arguments: list[str]) -> dict[str, float]:
    """Run a command that keeps no fingerprints of earlier ones; return what it took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agebench", *arguments],
        env={**os.environ, "AGEBENCH_CACHE": str(folder / f"cache-{arguments[0]}")},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments[0]} ended with {os.waitstatus_to_exitcode(status)}")
    cpu_s = used.ru_utime + used.ru_stime
    return {"cpu_s": round(cpu_s, 2), "largest_process_mb": round(used.ru_maxrss / 1024)}


def main() -> None:
    """Measure each number of frames."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, action="append", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--verbs", action="store_true", help="the commands too")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.frames[0])))
        return
    if not all(0 < count <= MOST_FRAMES for count in options.frames):
        parser.error(f"--frames are 1 to {MOST_FRAMES:,}")
    curve = []
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        frames.mkdir()
        write_frames(frames, max(options.frames))
        for count in sorted(options.frames):
            call = [sys.executable, __file__, "--frames", str(count), "--measure", str(frames)]
            output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
            curve.append(json.loads(output))
            if options.verbs:
                curve[-1] |= verbs(frames, count)
            print(json.dumps(curve[-1]), flush=True)
            if options.out is not None:
                content = {
                    "frame_px": SIZE_PX,
                    "criteria": plain(near_search.CURRENT),
                    "orders": near_candidates.ORDERS,
                    "window": near_candidates.WINDOW,
                    "most_looks": near_memory.MOST_LOOKS,
                    "most_alignments": near_memory.MOST_ALIGNMENTS,
                    "curve": curve,
                }
                write_whole(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
