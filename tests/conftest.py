"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path

# Before numpy and torch are imported, here and in all child processes: the tests' matrices are
# small, and threads that wait for each other take more time than they save.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# For the workers and all child processes, whose C library reads them as they start: it keeps what
# was freed. Pictures and networks of some megabytes come and go, and to get their pages anew from
# the system each time took a third of the time of the tests of networks.
for _name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
    os.environ.setdefault(_name, str(1 << 30))

import numpy as np
import pytest
from hypothesis import settings

from agebench.datasets import utkface
from agebench.datasets.base import SampleList
from agebench.runtimes import onnx_runtime
from agebench.runtimes.age_net_layout import MICRO, deploy_prototxt
from agebench.runtimes.base import wanted_threads
from agebench.types import Image

# A busy machine is not a fault of the code: pytest's own limit ends what hangs.
settings.register_profile("agebench", deadline=None)
settings.load_profile("agebench")


@pytest.hookimpl(wrapper=True, optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One more than there are processors: often a test waits for a process or a browser."""
    return (yield) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected, nor look at them for garbage ever after.

    Some millions of objects stay until the end; looking through them again and again took a third
    of the time of collecting and a fifteenth of that of the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The research data beside the checkout; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the research data in ../shared, which is not here")
    return SHARED


@pytest.fixture
def shared_weights(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the published model files available through the mirror."""
    folder = shared_dir / "pretrained"
    monkeypatch.setenv("AGEBENCH_MIRROR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of the tests, and the tests out of it."""
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("AGEBENCH_MIRROR", raising=False)
    # What one test's detector found must not answer for another's.
    monkeypatch.setenv("AGEBENCH_DETECTIONS", "")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Generator[None]:
    """Let ONNX Runtime take one thread where no number is wanted: more wait without sleeping.

    As many as it takes by itself have the processes that tests start.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_runtime, "wanted_threads", lambda: wanted_threads() or 1)
        yield


@pytest.fixture
def micro_age_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let caffe-age-net read files with few channels; test_estimators_golden.py has whole ones."""
    layout = partial(deploy_prototxt, widths=MICRO)
    monkeypatch.setattr("agebench.estimators.caffe_age_net.deploy_prototxt", layout)


@pytest.fixture(scope="session")
def utkface_chips(shared_dir: Path) -> SampleList:
    """The chips of UTKFace, listed once."""
    return utkface.load(shared_dir / "data" / "utkface")


@pytest.fixture(scope="session")
def astronaut_bgr() -> Image:
    """The astronaut portrait that comes with scikit-image: uint8 (512, 512, 3), B, G, R."""
    from skimage import data

    picture: Image = np.asarray(data.astronaut())  # type: ignore[no-untyped-call]  # not typed
    return np.ascontiguousarray(picture[:, :, ::-1])
