r"""One published network, five ways to run it: by how much do its outputs differ?

    python benchmarks/age_net_parity.py --mirror ../shared/pretrained

Runs the published `age_net.caffemodel` under cv2.dnn 4.10 and 4.14, and its conversion to ONNX
under ONNX Runtime and cv2.dnn 4.10, 4.14 and 5.0, on composites of the bundled sample and on crops
of noise.  pip installs each OpenCV in a folder of its own, so a package index is needed.
Results: results/age_net_parity.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector, load_estimator
from agebench.conversion.converted import converted_age_net
from agebench.metrics.age_classes import ADIENCE_CLASSES, years_from_classes
from agebench.modelfiles.weights import resolve
from agebench.runtimes.age_net_layout import CHANNEL_MEAN, OUTPUT_NAME, deploy_prototxt
from agebench.types import CropSpec, Floats
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image

RESULTS = Path(__file__).with_name("results")
VERSIONS = ("4.10.0.84", "4.14.0.94", "5.0.0.93")
NOISE = 6
COMMAND = "python benchmarks/age_net_parity.py --mirror WEIGHTS"
ASK_OPENCV = """
import json, sys
import cv2, numpy as np
order = json.loads(sys.argv[1])
cv2.setNumThreads(1)
blob = np.load(order["blob"])
if order["kind"] == "caffe":
    prototxt = np.frombuffer(order["prototxt"].encode(), np.uint8)
    net = cv2.dnn.readNetFromCaffe(prototxt, np.fromfile(order["path"], np.uint8))
else:
    net = cv2.dnn.readNetFromONNX(np.fromfile(order["path"], np.uint8))
rows = []
for one in blob:
    net.setInput(one[None])
    rows.append(net.forward().reshape(8).astype(float).tolist())
print(json.dumps({"version": cv2.__version__, "rows": rows}))
"""


def inputs(crop: CropSpec) -> Any:
    """Return the network's input for all crops, float32 (n, 3, 227, 227)."""
    detector = load_detector("aligned")
    pixels = []
    for item in load_dataset("sample", None).samples[::2]:
        image = read_image(item.path)
        frame = canonical_frame(detector.detect(image)[0], detector.spec)
        pixels.append(cut_crops(image, [frame], crop).views["face"][0])
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, 227, 227, 3), np.uint8)
    stacked = np.concatenate([np.stack(pixels), noise]).astype(np.float32)
    return (stacked - np.array(CHANNEL_MEAN, np.float32)).transpose(0, 3, 1, 2).copy()


def ask_opencv(version: str, job: dict[str, str], folder: Path) -> tuple[str, Floats]:
    """Return the version that answered, and its probabilities (n, 8).

    Args:
        version: of opencv-python-headless, installed in `folder`/`version` if missing.
        job: "blob": the crops' file; "kind": "caffe", with "prototxt", or "onnx"; "path": the
            network's file.
        folder: for the packages.
    """
    target = folder / version
    if not target.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, f"opencv-python-headless=={version}"], check=True)
    command = [sys.executable, "-c", ASK_OPENCV, json.dumps(job)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(target)}, capture_output=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["version"], np.array(answer["rows"])


def ask_onnxruntime(path: Path, blob: Any) -> tuple[str, Floats]:
    """Return the version and the probabilities."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [session.run([OUTPUT_NAME], {name: one[None]})[0].reshape(8) for one in blob]
    return onnxruntime.__version__, np.array(rows, np.float64)


def ask_all(caffe: Path, onnx: Path, blob: Any) -> dict[str, Floats]:
    """Return the probabilities (n, 8) by form and runtime; all are compared with the first."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "blob.npy", blob)
        job = {"blob": str(folder / "blob.npy"), "kind": "caffe", "path": str(caffe)}
        for version in VERSIONS[:2]:
            answered, rows = ask_opencv(version, job | {"prototxt": deploy_prototxt()}, folder)
            found[f"Caffe, cv2.dnn {answered}"] = rows
        answered, rows = ask_onnxruntime(onnx, blob)
        found[f"ONNX, onnxruntime {answered}"] = rows
        job |= {"kind": "onnx", "path": str(onnx)}
        for version in VERSIONS:
            answered, rows = ask_opencv(version, job, folder)
            found[f"ONNX, cv2.dnn {answered}"] = rows
    return found


def expected_years(probabilities: Floats) -> Floats:
    """Return years (n,) of probabilities (n, 8), whose sum may differ from 1 by rounding."""
    normalised = probabilities / probabilities.sum(axis=1, keepdims=True)
    return years_from_classes(normalised, ADIENCE_CLASSES, "expectation")


def differences(found: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Return how far each answer is from the first: probabilities, years, most probable classes."""
    first = next(iter(found.values()))
    years = expected_years(first)
    return {
        name: {
            "probability": float(np.abs(rows - first).max()),
            "years": float(np.abs(expected_years(rows) - years).max()),
            "other_class": int((rows.argmax(axis=1) != first.argmax(axis=1)).sum()),
        }
        for name, rows in found.items()
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [
        "# The published age network under five runtimes",
        "",
        f"{result['crops']} crops: composites of the bundled sample and {NOISE} of noise; against "
        f"{result['against']}.",
        "",
        "| form and runtime | largest difference of a probability | of the expected years | "
        "different most probable class |",
        "|---|---:|---:|---:|",
    ]
    for name, each in result["differences"].items():
        cells = (name, f"{each['probability']:.1e}", f"{each['years']:.1e}", each["other_class"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", f"    {COMMAND}", ""])


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mirror", type=Path, help="folder of published weights")
    mirror: Path | None = parser.parse_args().mirror
    if mirror is not None:
        os.environ["AGEBENCH_MIRROR"] = str(mirror.resolve())
    weights = resolve("age_net.caffemodel")
    blob = inputs(load_estimator("caffe-age-net").spec.crop)
    onnx = converted_age_net(weights.path, weights.info.sha256)
    found = ask_all(weights.path, onnx, blob)
    result = {
        "schema": 1,
        "weights_sha256": weights.info.sha256,
        "crops": len(blob),
        "against": next(iter(found)),
        "differences": differences(found),
    }
    write_whole(RESULTS / "age_net_parity.json", json.dumps(result, indent=1) + "\n")
    write_whole(RESULTS / "age_net_parity.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
