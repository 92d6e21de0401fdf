"""`agebench info`: versions, machine, runtimes and model files, for a bug report.

Import errors are reported, not raised, since this verb helps to diagnose broken installations.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import click

from agebench import __version__
from agebench.errors import error_text, inert
from agebench.registry.plugins import DATASETS, DETECTORS, ESTIMATORS, list_plugins
from agebench.runtimes.cuda_library import NOT_PROVEN, find_devices

_TORCH_SECONDS = 120

_ASK_TORCH = (
    "import torch; "
    "print('' if torch.cuda.is_available() else f'torch finds no GPU (CUDA {torch.version.cuda})')"
)


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """A library that runs networks.

    Attributes:
        name: as in a reference: "cv2dnn", "onnxruntime" or "torch".
        version: of the library; "" if it is not available.
        reason: why the library can't be used; "" if it can.
        devices: by name the reason why it can't be used, "" if there is none; only loading a model
            proves that it works.
    """

    name: str
    version: str
    reason: str
    devices: Mapping[str, str]


def _cuda_reason(built_in: bool, library: str) -> str:
    if not built_in:
        return f"{library} was built without it"
    return find_devices().reason


def _opencv() -> RuntimeState:
    from agebench.vision.opencv import cv2

    targets = cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_CUDA)
    devices = {
        "cpu": "",
        "cuda": _cuda_reason(cv2.dnn.DNN_TARGET_CUDA in targets, "this OpenCV"),
        "opencl": "" if cv2.ocl.haveOpenCL() else "no OpenCL device was found",
    }
    return RuntimeState("cv2dnn", cv2.__version__, "", devices)


def _onnxruntime() -> RuntimeState:
    from agebench.runtimes.onnx_runtime import import_onnxruntime, preload_cuda

    library = import_onnxruntime()
    providers = library.get_available_providers()
    devices = {"cpu": ""}
    for device, provider in (("cuda", "CUDA"), ("tensorrt", "Tensorrt")):
        built_in = f"{provider}ExecutionProvider" in providers
        devices[device] = _cuda_reason(built_in, "this onnxruntime")
        if not devices[device]:
            devices[device] = preload_cuda(library)
    return RuntimeState("onnxruntime", library.__version__, "", devices)


def _torch() -> RuntimeState:
    found = version("torch")
    reason = find_devices().reason
    if not reason:  # it takes seconds to load, so only if it may add to what the driver reports
        command = [sys.executable, "-P", "-c", _ASK_TORCH]
        done = subprocess.run(  # noqa: S603 - our own line
            command, capture_output=True, text=True, timeout=_TORCH_SECONDS, check=False
        )
        last = (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        reason = done.stdout.strip() if done.returncode == 0 else f"torch can't be loaded: {last}"
    return RuntimeState("torch", found, "", {"cpu": "", "cuda": reason})


_RUNTIMES: Mapping[str, Callable[[], RuntimeState]] = {
    "cv2dnn": _opencv,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}


def _runtimes() -> Iterator[RuntimeState]:
    for name, ask in _RUNTIMES.items():
        try:
            yield ask()
        except PackageNotFoundError:
            yield RuntimeState(name, "", "not installed", {})
        except Exception as error:  # a broken library may fail in any way, which is reported
            yield RuntimeState(name, "", error_text(error), {})


def _packages() -> dict[str, str]:
    """Return the versions of the installed dependencies of agebench and its extras."""
    try:
        wanted = requires("agebench") or []
    except PackageNotFoundError:
        return {}
    found = {}
    for name in sorted({re.split(r"[^\w.-]", line)[0] for line in wanted} - {"agebench"}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> Mapping[str, Any]:
    from agebench.harness.environment import describe_machine

    return describe_machine()


def _model_files() -> Mapping[str, Any]:
    from agebench.modelfiles.manifest import load_manifest
    from agebench.modelfiles.weights import cache_dir, is_here

    here = {entry.file: is_here(entry.file) for entry in load_manifest().values()}
    # Its address may contain a password.
    mirror = bool(os.environ.get("AGEBENCH_MIRROR", "").strip())
    return {"cache_folder": str(cache_dir()), "mirror_is_set": mirror, "files": here}


def _plugins() -> list[dict[str, str]]:
    """Return what other packages have registered, without importing it."""
    found = [item for group in (ESTIMATORS, DETECTORS, DATASETS) for item in list_plugins(group)]
    return [asdict(plugin) for plugin in found if plugin.package != "agebench"]


def _or_reason(ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return ask()
    except Exception as error:  # as above
        return {"reason": error_text(error)}


def describe_installation() -> dict[str, Any]:
    """Return all that this verb shows as JSON-compatible values, even with a broken library."""
    return {
        "agebench": __version__,
        "machine": dict(_or_reason(_machine)),
        "runtimes": [asdict(state) for state in _runtimes()],
        "gpu_measurement": NOT_PROVEN,
        "packages": _packages(),
        "model_files": dict(_or_reason(_model_files)),
        "plugins": _plugins(),
    }


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"agebench {found['agebench']}"
    for name, value in found["machine"].items():
        yield f"{name}: {value}"
    for state in found["runtimes"]:
        yield f"{state['name']}: {state['version'] or state['reason']}"
        yield from (f"  {name}: {why or 'yes'}" for name, why in state["devices"].items())
    yield f"times and memory of GPUs: {found['gpu_measurement']}"
    yield "packages: " + ", ".join(f"{name} {found}" for name, found in found["packages"].items())
    yield from _file_lines(found["model_files"])
    for plugin in found["plugins"]:
        owner = f"{plugin['package']} {plugin['version']}".strip() or "an unknown package"
        yield f"{plugin['group']}: {plugin['name']} of {owner}"


def _file_lines(files: Mapping[str, Any]) -> Iterator[str]:
    if "reason" in files:
        yield f"model files: {files['reason']}"
        return
    yield f"cache folder: {files['cache_folder']}"
    yield f"mirror: {'set' if files['mirror_is_set'] else 'not set'}"
    for title, wanted in (("here", True), ("to fetch", False)):
        names = [name for name, here in files["files"].items() if here is wanted]
        yield f"model files {title}: {', '.join(names) or 'none'}"


@click.command("info", epilog="\b\nExamples:\n  agebench info\n  agebench info --json")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(as_json: bool) -> None:
    """Show versions, machine, runtimes, devices and model files, for a bug report.

    Nothing is sent anywhere. The name of the cache folder may reveal who you are; of a mirror only
    whether one is set is shown.
    """
    found = describe_installation()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in _lines(found):
        click.echo(inert(line))
