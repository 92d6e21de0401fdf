"""A child process in which models and pictures are tried, so that a crash is counted, not suffered.

Run as a script it reads one request per line (JSON: family, path, more) and answers with one line.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HANG_S = 60.0
"""No answer for so long is a hang; the machine may be busy with other things."""

MEMORY_BYTES = 6 << 30
"""Address space of the child: what asks for more fails there and not on the machine."""

Request = Mapping[str, Any]


class Child:
    """The process, started anew whenever it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, **request: Any) -> str:
        """Return "ok", "refused", "crashed: ...", "hung", or what was wrong."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=HANG_S)
        except (BrokenPipeError, queue.Empty):
            answer = "hung" if process.poll() is None else ""
        if answer and answer != "hung":
            return answer.strip()
        self.close()
        return answer or f"crashed: exit code {process.wait()}"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        root = Path(__file__).resolve().parents[2]
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(root))))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.model_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=root,
        )
        answers = self._answers = queue.Queue()
        assert process.stdout is not None
        lines = process.stdout

        def listen() -> None:
            for line in lines:
                answers.put(line)
            answers.put("")

        threading.Thread(target=listen, daemon=True).start()
        self._process = process
        return process


def _run_model(request: Request) -> object:
    import numpy as np

    from agebench.runtimes.base import ModelSource, use_threads
    from agebench.runtimes.opening import open_model

    config = request.get("config")
    source = ModelSource(
        request["kind"],
        Path(request["path"]),
        config=None if config is None else Path(config).read_text(encoding="utf-8"),
    )
    blob = np.random.default_rng(0).normal(0, 1, (1, 3, 32, 32)).astype(np.float32)
    with use_threads(1):
        return open_model(source, runtime=request["runtime"]).run({"": blob})


def _check_onnx(request: Request) -> object:
    from agebench.runtimes.onnx_reading import read_onnx

    return read_onnx(Path(request["path"]))


def _age_file(request: Request) -> object:
    from agebench.runtimes.age_file import AgeFile

    return AgeFile(Path(request["path"]), request["runtime"])


def _caffemodel(request: Request) -> object:
    from agebench.runtimes.caffe_model import read_caffemodel

    return read_caffemodel(Path(request["path"]))


def _darknet(request: Request) -> object:
    from agebench.conversion.darknet_onnx import darknet_model

    config = Path(request["config"]).read_text(encoding="utf-8")
    return darknet_model(config, Path(request["path"]), (32, 32))


def _picture(request: Request) -> object:
    predictor = _PREDICTORS.get(request["detector"])
    if predictor is None:
        from agebench.prediction.predictor import AgePredictor

        predictor = AgePredictor(list(request["estimators"]), detector=request["detector"])
        _PREDICTORS[request["detector"]] = predictor
    answer = predictor.predict_one(Path(request["path"]))
    json.dumps(answer.to_json(), allow_nan=False)
    if answer.status == "unreadable":
        return False
    if answer.status != "ok":
        raise AssertionError(f"status {answer.status}: {answer.reason}")
    years = [age.years for face in answer.faces for age in face.ages.values()]
    if not all(age is None or 0 <= age <= 120 for age in years):
        raise AssertionError(f"ages {years}")
    return True


_PREDICTORS: dict[str, Any] = {}

_FAMILIES: Mapping[str, Callable[[Request], object]] = {
    "model": _run_model,
    "check-onnx": _check_onnx,
    "age-file": _age_file,
    "caffemodel": _caffemodel,
    "darknet": _darknet,
    "picture": _picture,
}


def _answer(request: Request) -> str:
    from agebench.errors import AgebenchError
    from tests.fuzz.promises import why_no_sentence

    try:
        return "refused" if _FAMILIES[request["family"]](request) is False else "ok"
    except AgebenchError as error:
        wrong = why_no_sentence(error)
        return f"wrong message: {wrong}" if wrong else "refused"
    except MemoryError:
        return "refused: MemoryError"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"


def main() -> None:
    """Answer requests until there are none."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import cv2

    cv2.setNumThreads(1)
    for line in sys.stdin:
        text = " ".join(_answer(json.loads(line)).split())
        print(text[:2000], file=answers, flush=True)


if __name__ == "__main__":
    main()
