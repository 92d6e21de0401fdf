"""Check exported files under several OpenCV releases, each in its own environment.

    python benchmarks/export_parity.py --opencv 4.10 4.14 5.0

Random models are exported, and the ages (or boxes) that their sources compute for generated crops
are saved.  Then the ONNX files are run on the same crops under each OpenCV release and under
onnxruntime, in batches of 1, 2, 7 and 64, with each view missing in turn.  OpenCV 5.0 has no Caffe
or Darknet importer: there, those models only work as ONNX files.  Needs pip and its package index.
--checkpoint adds a trained model, --darknet FOLDER the face detector.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from agebench.conversion.darknet_onnx import darknet_model
from agebench.errors import AgebenchError
from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.export.age_net_candidate import age_net_candidate
from agebench.export.candidate import Candidate
from agebench.export.multi_crop import checkpoint_candidate, multi_crop_candidate
from agebench.export.parity import variants
from agebench.export.random_age_net import random_age_net
from agebench.export.writing import export
from agebench.runtimes.age_file import feeds_of, generated
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_metadata import PRESENT
from agebench.runtimes.opening import open_model
from agebench.train.losses import LOSSES
from agebench.train.model_settings import ModelSettings
from agebench.train.networks import MultiCropResNet
from agebench.util.files import write_whole

RESULTS = Path(__file__).with_name("results")
BATCHES = (1, 2, 7, 64)
FACES = 64

# Runs in the other environments, which only have numpy and OpenCV.
CHILD = """
import json, sys
import cv2, numpy as np
folder, names = sys.argv[1], sys.argv[2:]
rows = []
for name in names:
    for case in sorted(json.load(open(f"{folder}/{name}.json"))):
        data = np.load(f"{folder}/{name}.{case}.npz")
        feeds = {key: data[key] for key in data.files if key != "expected"}
        net = cv2.dnn.readNetFromONNX(f"{folder}/{name}.onnx")
        output = "rows" if "image" in feeds else "age"
        for batch in (1, 2, 7, 64):
            count = len(data["expected"])
            parts = []
            for start in range(0, count, batch):
                for key, value in feeds.items():
                    net.setInput(np.ascontiguousarray(value[start : start + batch]), key)
                outputs = net.getUnconnectedOutLayersNames()  # 5.0 gives all or none
                parts.append(np.array(net.forward(outputs)[list(outputs).index(output)]))
            got = np.concatenate([part.reshape(-1, *data["expected"].shape[1:]) for part in parts])
            off = np.abs(got - data["expected"])
            rows.append([name, case, batch, float(off.max()), float(off.mean())])
print(json.dumps({"opencv": cv2.__version__, "rows": rows}))
"""


def random_multi_crop(seed: int = 1) -> Candidate:
    """Return the default multi-crop network with random weights and statistics.

    The head's weights are scaled up so that the ages differ by years rather than by hundredths.
    """
    torch.manual_seed(seed)
    loss = LOSSES["dldl"]
    model = MultiCropResNet(ModelSettings(), loss.head)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)  # type: ignore[arg-type]  # never None
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]  # never None
    for absent in model.absent.parameters():
        torch.nn.init.normal_(absent, 0, 0.5)
    with torch.no_grad():
        assert isinstance(model.head, torch.nn.Linear)  # noqa: S101 - dldl's head is linear
        model.head.weight *= 60
    return multi_crop_candidate(model, loss, "expectation")


def save_cases(candidate: Candidate, name: str, folder: Path) -> float:
    """Export a candidate, save crops and expected ages; return the spread of the ages, years."""
    written = export(candidate, folder / f"{name}.onnx")
    views = list(candidate.spec.crop.views)
    cases = {}
    for missing, crops in variants(generated(candidate.spec.crop, FACES, 5), candidate.spec):
        case = missing or "all"
        feeds = feeds_of(crops, views, PRESENT in candidate.spec.input_shapes)
        expected = candidate.source(crops).reshape(-1, 1)
        np.savez(folder / f"{name}.{case}.npz", expected=expected, **feeds)  # type: ignore[arg-type]  # mypy mistakes a feed for an option
        cases[case] = len(crops)
    (folder / f"{name}.json").write_text(json.dumps(cases))
    return written.report.spread_years if written.report else 0.0


def save_detector(darknet: Path, folder: Path) -> None:
    """Convert yoloface-500k-v2; save pictures and the Darknet model's output rows for them."""
    weights = darknet / "yoloface-500k-v2.weights"
    cfg = weights.with_suffix(".cfg").read_text()
    model, _ = darknet_model(cfg, weights, (288, 352))
    (folder / "yoloface.onnx").write_bytes(model.SerializeToString())
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (9, 3, 9, 11)).repeat(32, axis=2).repeat(32, axis=3)
    pictures = coarse.astype(np.float32)
    source = open_model(ModelSource("darknet", weights, config=cfg))
    rows = [
        np.concatenate(list(source.run({"": picture[None, ::-1] / np.float32(255)}).values()))
        for picture in pictures
    ]
    np.savez(folder / "yoloface.all.npz", image=pictures, expected=np.stack(rows))
    (folder / "yoloface.json").write_text(json.dumps({"all": len(pictures)}))


def make_environment(folder: Path, opencv: str) -> Path:
    """Create an environment with one release of OpenCV; return the path of its Python."""
    where = folder / f"opencv-{opencv}"
    venv.create(where, with_pip=True)
    python = where / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    requirement = f"opencv-contrib-python=={opencv}.*"
    subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=True)
    return python


def under_onnxruntime(folder: Path, names: Sequence[str]) -> dict[str, object]:
    """Run all cases under onnxruntime, as `CHILD` does under cv2.dnn."""
    import onnxruntime

    rows = []
    for name in names:
        output = "rows" if name == "yoloface" else "age"
        path = folder / f"{name}.onnx"
        model = open_model(ModelSource("onnx", path, outputs=(output,)), runtime="onnxruntime")
        for case in sorted(json.loads((folder / f"{name}.json").read_text())):
            data = np.load(folder / f"{name}.{case}.npz")
            feeds = {key: data[key] for key in data.files if key != "expected"}
            for batch in BATCHES:
                parts = [
                    model.run({key: value[at : at + batch] for key, value in feeds.items()})[output]
                    for at in range(0, len(data["expected"]), batch)
                ]
                off = np.abs(np.concatenate(parts) - data["expected"])
                rows.append([name, case, batch, float(off.max()), float(off.mean())])
    return {"onnxruntime": onnxruntime.__version__, "rows": rows}


def markdown(results: Sequence[dict[str, object]], spreads: dict[str, float]) -> str:
    """Return a table of the largest differences by model, missing view and library."""
    heads, columns = [], []
    for result in results:
        library = "onnxruntime" if "onnxruntime" in result else "opencv"
        heads.append(f"{library} {result[library]}")
        largest: dict[tuple[str, str], float] = {}
        rows = result["rows"]
        assert isinstance(rows, list)  # noqa: S101 - a list in every result
        for name, case, _, top, _ in rows:
            largest[name, case] = max(top, largest.get((name, case), 0.0))
        columns.append(largest)
    lines = [
        "# Exported files against their sources",
        "",
        "Largest difference over batches of 1, 2, 7 and 64: of an age in years; for yoloface of "
        "any number in its rows (box sides as fractions of the input, scores).",
        "",
        "| model | missing | spread of ages | " + " | ".join(heads) + " |",
        "|---" * (3 + len(heads)) + "|",
    ]
    for name, case in columns[0]:
        spread = f"{spreads[name]:.1f}" if name in spreads else ""
        figures = " | ".join(f"{column[name, case]:.1e}" for column in columns)
        lines.append(f"| {name} | {'' if case == 'all' else case} | {spread} | {figures} |")
    return "\n".join([*lines, ""])


def measure(options: argparse.Namespace, folder: Path) -> str:
    """Export, run under every library, write the results as JSON, and return the table."""
    caffemodel = folder / "random.caffemodel"
    random_age_net(caffemodel, seed=0)
    candidates = {
        "age_net": age_net_candidate(CaffeAgeNet(caffemodel), caffemodel),
        "multi_crop": random_multi_crop(),
    }
    if options.checkpoint:
        candidates["checkpoint"] = checkpoint_candidate(options.checkpoint)
        candidates["checkpoint, mirrored"] = checkpoint_candidate(options.checkpoint, flip=True)
    spreads = {name: save_cases(item, name, folder) for name, item in candidates.items()}
    names = list(candidates)
    if options.darknet:
        save_detector(options.darknet, folder)
        names.append("yoloface")
    results = [under_onnxruntime(folder, names)]
    for opencv in options.opencv:
        python = make_environment(folder, opencv)
        done = subprocess.run(
            [python, "-c", CHILD, folder, *names], check=True, capture_output=True, text=True
        )
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    write_whole(RESULTS / "export_parity.json", json.dumps(results, separators=(",", ":")) + "\n")
    return markdown(results, spreads)


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--opencv", nargs="+", default=["4.10", "4.14", "5.0"], metavar="RELEASE")
    parser.add_argument("--checkpoint", type=Path, help="a trained model as well")
    parser.add_argument("--darknet", type=Path, help="folder with yoloface-500k-v2's two files")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="agebench-parity-") as folder:
            table = measure(options, Path(folder))
    except (AgebenchError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        print(f"error: {reason}", file=sys.stderr)
        return 1
    write_whole(RESULTS / "export_parity.md", table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
