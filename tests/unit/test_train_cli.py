"""`agebench train`: exit codes, output, killed and resumed, and under torchrun."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.cli import main
from tests.unit.forking import run_python

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train.checkpoint import read_checkpoint  # noqa: E402 - only where torch is there
from agebench.train.loop import BEST_FILE, LAST_FILE  # noqa: E402

FILES = {LAST_FILE, BEST_FILE, "steps.csv", "epochs.csv", "evaluation.json", "training-hashes.bin"}
FILES.add("left-out.csv")
if importlib.util.find_spec("matplotlib") is not None:
    FILES.add("curves.png")


@pytest.fixture
def run(age_list: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Call `agebench train` in this process; return exit code, stdout and stderr."""

    def call(*given: str, settings: Path | None = age_list / "settings.toml") -> Any:
        names = [] if settings is None else [str(settings)]
        out = [] if "--out" in given else ["--out", str(tmp_path / "run")]
        with pytest.raises(SystemExit) as ended:
            main(["train", *names, *out, *given])
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


def _one_sentence(answer: Any, code: int, *named: str) -> None:
    assert answer[0] == code, answer
    assert "Traceback" not in answer[2]
    for text in named:
        assert text in answer[2].replace("\n", " ")


def test_json_alone_on_standard_output(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--json")
    assert code == 0
    result = json.loads(out)
    assert result["figures"]["val"]["n"] == 8
    assert set(result["figures"]) == {"val"}
    assert result["final_test"] is False
    assert result["ended"]["steps"] == 9
    assert result["pictures"] == {"train": 24, "val": 8}
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == FILES
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == result
    with (tmp_path / "run" / "epochs.csv").open() as file:
        maes = [float(row["val_mae"]) for row in csv.DictReader(file)]
    assert result["figures"]["val"]["mae_years"] == pytest.approx(min(maes))


def test_a_run_is_complete_without_matplotlib(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, _ = run("--set", "epochs=1")
    assert code == 0
    assert "curves.png is left out: matplotlib can't be imported" in out
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == FILES - {"curves.png"}


@pytest.mark.usefixtures("undrawn")
def test_lines_for_people_and_the_same_command_again(run: Any, tmp_path: Path) -> None:
    code, out, _ = run()
    assert code == 0
    assert "Ended after 9 steps" in out
    assert "val: MAE" in out
    assert "epoch 2: val MAE" in out
    before = (tmp_path / "run" / LAST_FILE).read_bytes()
    code, again, _ = run("--resume", "--final-test", "--set", "checkpoint_minutes=5")
    assert code == 0
    assert "test: MAE" in again
    assert next(line for line in again.split("\n") if "val: " in line) in out
    assert (tmp_path / "run" / LAST_FILE).read_bytes() == before  # nothing was left to do
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert result["final_test"] is True
    assert result["figures"]["test"]["n"] == 8


def test_data_options_are_texts(run: Any, age_list: Path, tmp_path: Path) -> None:
    shutil.copytree(age_list, tmp_path / "2024")
    previous = Path.cwd()
    os.chdir(tmp_path)
    try:
        code, _, error = run("--root", "2024", "--set", "epochs=1")
    finally:
        os.chdir(previous)
    # A folder of that name, in which there are several lists.
    assert code == 1
    assert "with exactly one" in error


@pytest.mark.usefixtures("undrawn")
def test_other_settings_or_pictures_than_the_runs_are_refused(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    shutil.copytree(age_list, tmp_path / "data")
    settings = tmp_path / "data" / "settings.toml"
    text = settings.read_text().replace(age_list.as_posix(), f"{tmp_path}/data")
    settings.write_text(text.replace("batch = 8", "batch = 24"))
    assert run(settings=settings)[0] == 0
    before = (tmp_path / "run" / LAST_FILE).read_bytes()
    for override, named in (
        ("seed=1", "'seed'"),
        ("optim.learning_rate=0.1", "'optim.learning_rate' was 0.003, is 0.1"),
        ("batch=4", "'batch'"),
        ("epochs=5", "planned for 3 epochs"),
    ):
        _one_sentence(run("--set", override, settings=settings), 2, named)
    listed = tmp_path / "data" / "list.csv"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join(lines[:-5]) + "\n")
    _one_sentence(run(settings=settings), 2, "other pictures", "another folder")
    assert (tmp_path / "run" / LAST_FILE).read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_a_constant_rate_goes_on_for_more_rounds(run: Any, tmp_path: Path) -> None:
    constant = ("--set", "optim.schedule=constant")
    assert run(*constant, "--set", "epochs=1")[0] == 0
    code, out, _ = run(*constant, "--set", "epochs=2", "--json")
    assert (code, json.loads(out)["ended"]["steps"]) == (0, 6)
    with (tmp_path / "run" / "steps.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    # The warm-up is a fraction of the three steps that were planned, and over after the first.
    assert rates[0] < rates[1]
    assert set(rates[1:]) == {rates[1]}


def test_resume_without_a_run_is_a_wrong_call(run: Any, tmp_path: Path) -> None:
    _one_sentence(run("--resume"), 2, "no run to resume in")
    assert not (tmp_path / "run").exists()


def test_an_out_that_can_not_be_written(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, code in (("file", 2), ("file/below", 1)):
        _one_sentence(run("--out", str(tmp_path / out)), code, "can't be created")


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        (("--set", "epoch=1"), 2, "did you mean 'epochs'"),
        (("--set", "epochs"), 2, "key=value"),
        (("--dataset", "cvs"), 2, "csv"),
        (("--root", "/nowhere"), 1, "/nowhere"),
        (("--detector", "alined"), 2, "aligned"),
        (("--protocol", "none"), 2, "none"),
        (("--set", "data.val_part=dev"), 2, "dev"),
        (("--set", "data.train_part=train+val"), 2, "both contain 'val'"),
        (("--set", "data.train_part=not-test"), 2, "without common pictures"),
        (("--set", "data.val_part=test", "--final-test"), 2, "both contain 'test'"),
        (("--set", "model.views.face.region=chin"), 2, "chin"),
        (("--set", "model.views.face.margin=99"), 2, "margin"),
        (("--set", "data.longest_px=1"), 2, "longest_px"),
        (("--nonsense",), 2, "--nonsense"),
    ],
)
def test_wrong_calls_end_in_one_sentence(
    run: Any, given: tuple[str, ...], code: int, named: str
) -> None:
    _one_sentence(run(*given), code, named)


def test_a_missing_settings_file_is_named(run: Any, tmp_path: Path) -> None:
    _one_sentence(run(settings=tmp_path / "none.toml"), 2, "none.toml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there(run: Any) -> None:
    _one_sentence(run("--set", "device=cuda"), 1, "no GPU", "device=cpu")
    _one_sentence(run("--device", "cuda"), 1, "no GPU", "device=cpu")


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04", b"\xff" * 100])
def test_a_run_whose_checkpoint_is_damaged_is_refused(
    run: Any, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LAST_FILE).write_bytes(content)
    _one_sentence(run(), 1, LAST_FILE)
    assert (tmp_path / "run" / LAST_FILE).read_bytes() == content


@pytest.mark.usefixtures("undrawn")
def test_age_ranges_alone_are_trained_and_judged_as_ranges(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    shutil.copytree(age_list, tmp_path / "data")
    listed = tmp_path / "data" / "all.csv"
    rows = [line.split(",") for line in (age_list / "list.csv").read_text().split()[1:]]
    listed.write_text(
        "path,age\n" + "".join(f"{name},{int(age)}-{int(age) + 5}\n" for name, age in rows)
    )
    given = ("--root", str(listed), "--set", "epochs=1")
    code, out, _ = run(*given, "--json")
    assert code == 0
    figures = json.loads(out)["figures"]["val"]
    assert (figures["n"], figures["mae_years"]) == (0, None)
    assert figures["ranges"]["n"] == 8
    assert 0 <= figures["ranges"]["inside"] <= 1
    assert figures["ranges"]["distance_years"] > 0
    assert "of 8 inside their age range" in run(*given)[1]


def _command(age_list: Path, out: Path, *more: str) -> list[str]:
    settings = str(age_list / "settings.toml")
    return [*("-m", "agebench", "train", settings, "--out", str(out)), *more]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from agebench.cli import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.usefixtures("undrawn")
def test_a_file_that_can_not_grow_leaves_the_checkpoint(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    """A real refusal of the system to write on, as by a full disk or a quota."""
    constant = ("--set", "optim.schedule=constant")
    assert run(*constant, "--set", "epochs=1")[0] == 0
    last = tmp_path / "run" / LAST_FILE
    before, size = last.read_bytes(), last.stat().st_size
    more = (*constant, "--set", "epochs=2")
    done = run_python(
        "-c", LIMITED, str(size // 2), *_command(age_list, tmp_path / "run", *more)[2:]
    )
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert last.read_bytes() == before
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == FILES - {"curves.png"}
    assert run(*more)[0] == 0


def _losses(folder: Path) -> Any:
    with (folder / "steps.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


# Ended as by SIGKILL after so much processor time since a new checkpoint, on any machine.
KILLED = """
import signal, sys
from agebench.cli import main
from agebench.train.checkpoint import Checkpoint
write = Checkpoint.write
def written(checkpoint, path):
    write(checkpoint, path)
    if path.name == "last.safetensors":
        Checkpoint.write = write
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
Checkpoint.write = written
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGPROF is POSIX")
@pytest.mark.usefixtures("undrawn")
def test_killed_five_times_and_resumed_is_as_unbroken(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    epochs = ("--set", "epochs=12")
    whole = run(*epochs, "--out", str(tmp_path / "whole"))
    assert whole[0] == 0, whole
    folder = tmp_path / "killed"
    last = folder / LAST_FILE
    each_step = (*epochs, "--set", "checkpoint_minutes=0")
    command = _command(age_list, folder, *each_step)[2:]
    for moment in np.random.default_rng(0).uniform(0.001, 0.05, 5):
        ended = run_python("-c", KILLED, str(moment), *command)
        assert ended.returncode == -signal.SIGPROF, ended
    # Not always five: the first to be written after a kill may be the end of the epoch alone.
    assert 0 < read_checkpoint(last).state["step"] < 36
    ended = run(*each_step, "--out", str(folder), "--resume")
    assert ended[0] == 0, ended
    one, other = (read_checkpoint(path / LAST_FILE) for path in (tmp_path / "whole", folder))
    for group in ("model", "averaged", "optimiser"):
        for name, value in getattr(one, group).items():
            assert torch.equal(value, getattr(other, group)[name]), (group, name)
    assert _losses(tmp_path / "whole") == _losses(folder)
    first, second = (
        json.loads((path / "evaluation.json").read_text()) for path in (tmp_path / "whole", folder)
    )
    assert first["figures"] == second["figures"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun is tried on POSIX")
@pytest.mark.usefixtures("undrawn")
def test_torchrun_with_two_processes_gives_the_loss_curve_of_one(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    epochs = ("--set", "epochs=3", "--set", "optim.learning_rate=1e-3")
    assert run(*epochs, "--out", str(tmp_path / "one"))[0] == 0
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = _command(age_list, tmp_path / "two", *epochs)
    two = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *torchrun, *command], capture_output=True, text=True, check=False
    )
    assert two.returncode == 0, two.stderr
    assert {entry.name for entry in (tmp_path / "two").iterdir()} == FILES
    assert two.stdout.count("Ended after 9 steps") == 1  # one process reports
    assert len(_losses(tmp_path / "one")) == 9
    # As in test_train_loop: sums in another order; seen 1.5e-7.
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), rel=1e-5)
    resumed = run(*epochs, "--out", str(tmp_path / "two"), "--resume")
    assert resumed[0] == 0  # by one process, what two have begun


def test_a_batch_that_can_not_be_shared_is_refused() -> None:
    from agebench.errors import UsageError
    from agebench.train.distributed import DistributedContext

    assert [DistributedContext(rank, 4, torch.device("cpu")).shard(8) for rank in (0, 3)] == [
        slice(0, 2),
        slice(6, 8),
    ]
    with pytest.raises(UsageError, match=r"batch of 8.* 3"):
        DistributedContext(0, 3, torch.device("cpu")).shard(8)
