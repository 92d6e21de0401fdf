"""The folder of a run: what was left out, interrupted, damaged, shared, and gone on from."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agebench.cli import main
from agebench.duplicates.training_hashes import (
    RUN_HASHES,
    TrainingHashes,
    read_training_hashes,
)
from agebench.errors import AgebenchError

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.cli.train_progress import TerminalWatcher  # noqa: E402
from agebench.train.checkpoint import read_checkpoint  # noqa: E402
from agebench.train.loop import BEST_FILE, LAST_FILE, Trainer  # noqa: E402
from agebench.trainer import run as training  # noqa: E402 - only where torch is there
from agebench.trainer.run_folder import LEFT_OUT_FILE, alone_in_run  # noqa: E402
from agebench.util.locks import LOCK_FILE  # noqa: E402


@pytest.fixture
def run(age_list: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], undrawn: None) -> Any:
    """Call `agebench train` in this process; return exit code, stdout and stderr."""

    def call(*given: str) -> Any:
        out = str(tmp_path / "run")
        with pytest.raises(SystemExit) as ended:
            main([*_train(age_list), "--out", out, *given])
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


def _train(age_list: Path) -> list[str]:
    """Three epochs of a single step."""
    return ["train", str(age_list / "settings.toml"), "--set", "batch=24"]


ONE_EPOCH = ("--set", "epochs=1")


@pytest.fixture(scope="module")
def _finished(age_list: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("agebench.trainer.run.draw_curves", lambda *_given, **_named: None)
        with pytest.raises(SystemExit) as ended:
            main([*_train(age_list), "--out", str(out)])
    assert not ended.value.code
    return out


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """The folder of a run that has ended, where `run` resumes it."""
    return shutil.copytree(_finished, tmp_path / "run")


def _evaluation(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "run" / "evaluation.json").read_text())


def test_pictures_left_out_are_counted_and_all_listed(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(age_list, data)
    (data / "p00.png").write_bytes(b"no picture")
    (data / "p05.png").unlink()
    with (data / "list.csv").open("a") as file:
        file.write("p06.png,-3\n")
    code, out, _ = run("--root", str(data / "list.csv"), *ONE_EPOCH)
    assert code == 0
    listed = tmp_path / "run" / LEFT_OUT_FILE
    assert f"pictures left out: 2 (listing), 1 (split), 1 (train): see {listed}; " in out
    assert "each picture of csv is treated as one face" in out
    with listed.open() as file:
        rows = [(row["part"], row["picture"]) for row in csv.DictReader(file)]
    assert rows == [
        *(("listing", "p05.png"), ("listing", "p06.png")),
        *(("split", "p05.png"), ("train", "p00.png")),
    ]
    assert len(_evaluation(tmp_path)["left_out"]["train"]) == 1
    # Named once, not by the reader of pictures too.
    assert _evaluation(tmp_path)["left_out"]["train"][0].count("p00.png") == 1


def test_in_a_pipe_there_is_a_line_per_stage_and_round(run: Any, tmp_path: Path) -> None:
    code, out, error = run()
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["Reading train (24)", "Reading val (8)"]
    assert [line.split(":")[0] for line in lines[2:]] == [
        "data.detector is 'aligned'",  # the pictures are no chips, as far as is known
        *("epoch 0", "epoch 1", "epoch 2"),
        *("Ended after 3 steps", "val"),
    ]
    with (tmp_path / "run" / LEFT_OUT_FILE).open() as file:
        assert list(csv.reader(file)) == [["part", "picture", "reason"]]


@pytest.mark.usefixtures("finished")
def test_that_the_test_part_was_seen_stays_recorded(run: Any, tmp_path: Path) -> None:
    assert run("--final-test")[0] == 0
    figures = _evaluation(tmp_path)["figures"]["test"]
    code, out, _ = run()
    assert code == 0
    assert "Reading test" not in out
    again = _evaluation(tmp_path)
    assert again["final_test"] is True
    assert again["figures"]["test"] == figures


def test_after_more_epochs_the_old_test_figures_are_gone_but_not_the_record(
    run: Any, tmp_path: Path
) -> None:
    constant = ("--set", "optim.schedule=constant")
    assert run(*constant, *ONE_EPOCH, "--final-test")[0] == 0
    assert run(*constant, "--set", "epochs=2")[0] == 0
    again = _evaluation(tmp_path)
    assert again["final_test"] is True
    assert set(again["figures"]) == {"val"}


@pytest.mark.usefixtures("finished")
def test_a_record_that_can_not_be_read_is_not_overwritten(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run" / "evaluation.json").write_text("{")
    code, _, error = run()
    assert code == 1
    assert "evaluation.json can't be read" in error.replace("\n", " ")
    assert (tmp_path / "run" / "evaluation.json").read_text() == "{"


def test_interrupted_it_keeps_the_checkpoint_and_goes_on(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = TerminalWatcher.epoch

    def interrupted(self: Any, record: Any, *given: Any) -> None:
        if record.epoch == 1:
            raise KeyboardInterrupt
        shown(self, record, *given)

    with monkeypatch.context() as patched:
        patched.setattr(TerminalWatcher, "epoch", interrupted)
        code, _, error = run()
    assert code == 130
    assert error.splitlines() == [
        f"agebench: interrupted: {tmp_path / 'run' / LAST_FILE} is kept; the same command resumes "
        "from it"
    ]
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    code, out, _ = run()
    assert code == 0
    assert "resuming from step 2, after 2 epochs" in out
    assert "Ended after 3 steps" in out


def test_interrupted_before_the_first_checkpoint(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    code, _, error = run()
    assert code == 130
    assert "before the first checkpoint" in error


@pytest.mark.usefixtures("finished")
def test_a_cut_off_checkpoint_says_what_to_do_and_that_helps(run: Any, tmp_path: Path) -> None:
    last, best = (tmp_path / "run" / name for name in (LAST_FILE, BEST_FILE))
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    code, _, error = run()
    assert code == 1
    assert f"copy {BEST_FILE} over it" in error
    assert "Traceback" not in error
    shutil.copy(best, last)
    assert run()[0] == 0
    for content in (None, whole[:1000]):
        best.unlink()
        if content is not None:
            best.write_bytes(content)
        code, _, error = run()
        assert code == 1
        assert f"copy {LAST_FILE} over it" in error
        shutil.copy(last, best)
        assert run()[0] == 0


def test_a_run_does_not_lie_in_its_data_set(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "faces" / "30"
    folder.mkdir(parents=True)
    given = ("--dataset", "folders", "--root", str(tmp_path / "faces"))
    code, _, error = run(*given, "--out", str(folder / "RUN"))
    assert code == 2
    assert "lies inside the data set's folder" in " ".join(error.split())
    assert list(folder.iterdir()) == []


def test_a_run_does_not_lie_among_listed_pictures(run: Any, age_list: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(age_list, folder)
    before = {path.name for path in folder.iterdir()}
    protocol = f"data.protocol={folder / 'split.csv'}"
    given = ("--root", str(folder / "list.csv"), "--set", protocol)
    code, _, error = run(*given, "--out", str(folder))
    assert code == 2
    assert "is the folder of the data set's pictures" in " ".join(error.split())
    assert {path.name for path in folder.iterdir()} - {LOCK_FILE} == before


@pytest.mark.parametrize("name", ["steps.csv", "evaluation.json", "curves.png"])
def test_files_that_no_run_wrote_are_not_replaced(run: Any, tmp_path: Path, name: str) -> None:
    own = tmp_path / "run" / name
    own.parent.mkdir()
    own.write_text("mine")
    code, _, error = run()
    assert code == 2
    assert f"{name} exists although there is no run" in " ".join(error.split())
    assert own.read_text() == "mine"
    assert list(own.parent.iterdir()) == [own]


def test_a_run_that_got_no_farther_than_its_logs_begins_again(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_given: Any) -> None:
        raise AgebenchError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(TrainingHashes, "write", full)
        assert run(*ONE_EPOCH)[0] == 1
    left = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert left == {"steps.csv", "epochs.csv"}
    assert run(*ONE_EPOCH)[0] == 0


@pytest.mark.usefixtures("finished")
def test_a_run_whose_last_checkpoint_was_removed_starts_anew(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run" / LAST_FILE).unlink()
    code, out, _ = run()
    assert code == 0
    assert "going on" not in out


@pytest.mark.usefixtures("finished")
def test_the_best_weights_of_another_run_are_not_overwritten(run: Any, tmp_path: Path) -> None:
    best = tmp_path / "run" / BEST_FILE
    before = best.read_bytes()
    (tmp_path / "run" / LAST_FILE).unlink()
    code, _, error = run("--set", "seed=5")
    assert code == 2
    assert "was started with other settings ('seed'" in " ".join(error.split())
    assert best.read_bytes() == before


@pytest.mark.usefixtures("finished")
def test_a_run_does_not_overwrite_what_it_starts_from(run: Any, tmp_path: Path) -> None:
    start = tmp_path / "other" / BEST_FILE
    start.parent.mkdir()
    shutil.copy(tmp_path / "run" / BEST_FILE, start)
    before = start.read_bytes()
    code, _, error = run("--set", f"start={start}", "--out", str(start.parent))
    assert code == 2
    assert "is an input and would be overwritten" in " ".join(error.split())
    assert start.read_bytes() == before


def test_a_weight_without_a_teacher_is_refused(run: Any) -> None:
    code, _, error = run("--set", "teacher.weight=0.9")
    assert code == 2
    assert "no effect without teacher.file" in error


def test_two_runs_are_not_at_work_in_one_folder(run: Any, tmp_path: Path) -> None:
    with alone_in_run(tmp_path / "run"):
        code, _, error = run(*ONE_EPOCH)
    assert code == 1
    assert "another run is at work in" in error
    assert list((tmp_path / "run").iterdir()) == []
    assert run(*ONE_EPOCH)[0] == 0
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_a_lock_that_a_killed_run_left_does_no_harm(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).touch()
    assert run(*ONE_EPOCH)[0] == 0


@pytest.mark.usefixtures("finished")
def test_the_same_pictures_may_lie_elsewhere(run: Any, age_list: Path, tmp_path: Path) -> None:
    shutil.copytree(age_list, tmp_path / "moved")
    moved = tmp_path / "moved"
    given = ("--root", str(moved / "list.csv"), "--protocol", str(moved / "split.csv"))
    code, out, _ = run(*given, "--set", "data.decode_threads=1")
    assert code == 0
    assert "resuming from step 3" in out


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_one_sentence(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(_self: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "run", run_out)
    code, _, said = run()
    assert code == 1
    assert "not enough memory: reduce batch" in said
    assert "Traceback" not in said


def test_other_errors_of_torch_are_not_taken_for_memory() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        training.enough_memory("lower batch"),
    ):
        raise RuntimeError("shapes do not fit")


def test_a_batch_that_can_not_be_shared_is_refused_before_pictures_are_read(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from agebench.train.distributed import DistributedContext

    three = DistributedContext(0, 3, torch.device("cpu"))
    monkeypatch.setattr(training, "joined_processes", lambda _device: nullcontext(three))
    code, out, error = run("--set", "batch=8")
    assert (code, out) == (2, "")
    assert "a batch of 8 can't be divided evenly among 3 processes" in error
    assert not (tmp_path / "run").exists()


def test_pictures_without_faces_are_one_sentence(run: Any) -> None:
    code, _, error = run("--detector", "haar")
    assert code == 1
    assert "p00.png: the detector found no face" in error
    assert "Problem(" not in error


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("-o", "sheet.jpg"), "must end in .png"),
        (("-o", "sheet.png", "--set", "augment.hue_deg=1e300"), "hue_deg must be from 0 to 180"),
        (("-o", "sheet.png", "--set", "augment.scale=-1"), "scale must be from 0 to 10"),
        (("-o", "sheet.png", "--each", "--draws", "30"), "--draws can't be combined with --each"),
        (("-o", "sheet.png", "--set", "data.dataset=nosuch"), "unknown dataset 'nosuch'"),
        (("-o", "sheet.png", "--set", "data.detector=nosuch"), "unknown detector 'nosuch'"),
        (("-o", "sheet.png", "--set", "data.dataset=csv"), "'csv' needs its folder or file"),
    ],
)
def test_wrong_previews_are_refused(
    given: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["augment-preview", *given])
    assert ended.value.code == 2
    assert named in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def preview(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Draw a sheet; return its bytes and what was printed."""

    def call(*given: str) -> Any:
        out = tmp_path / "sheet.png"
        with pytest.raises(SystemExit) as ended:
            main(["augment-preview", "-o", str(out), "--pictures", "2", "--draws", "1", *given])
        assert not ended.value.code, capfd.readouterr()
        return out.read_bytes(), capfd.readouterr().out

    return call


def test_a_preview_shows_what_training_sees(preview: Any, age_list: Path, tmp_path: Path) -> None:
    settings = str(age_list / "settings.toml")
    root = str(age_list / "list.csv")
    sheet, said = preview(settings)
    assert "on pictures of csv" in said
    assert preview(settings, "--dataset", "csv", "--root", root)[0] == sheet
    assert preview(settings, "--root", root)[0] == sheet
    assert preview(settings, *_set("data.longest_px=16"))[0] != sheet
    # What the command line names wins, and takes no root of the settings.
    bundled, said = preview(settings, "--dataset", "sample")
    assert "on pictures of sample" in said
    assert bundled != sheet


def test_a_preview_without_a_data_set_is_on_the_bundled_pictures(preview: Any) -> None:
    sheet, said = preview()
    assert "on pictures of sample" in said
    assert preview("--dataset", "sample", "--detector", "aligned")[0] == sheet


def _set(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.mark.usefixtures("finished")
def test_a_run_begins_with_the_weights_of_another(run: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "run", tmp_path / "second"
    best = read_checkpoint(first / BEST_FILE)
    still = ("optim.learning_rate=1e-12", "optim.ema=0", "epochs=1")
    code, out, _ = run("--out", str(second), *_set(f"start={first / BEST_FILE}", "seed=5", *still))
    assert code == 0
    assert f"started with weights of {len(best.state['history'])} epochs" in out
    found = read_checkpoint(second / LAST_FILE)
    for name, value in best.averaged.items():
        if value.dtype.is_floating_point and "running" not in name:
            torch.testing.assert_close(found.model[name], value, msg=name)
    about = found.about["started_from"]
    assert (about["trained_on"], about["val_seen"]) == (24, 0)
    assert about["sha256"] == hashlib.sha256((first / BEST_FILE).read_bytes()).hexdigest()


@pytest.mark.usefixtures("finished")
def test_pictures_seen_before_the_start_are_listed_and_said(
    run: Any, age_list: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.csv"
    swapped = {"train": "val", "val": "train", "test": "test", "part": "part"}
    rows = [line.split(",") for line in (age_list / "split.csv").read_text().split()]
    turned.write_text("".join(f"{name},{swapped[part]}\n" for name, part in rows))
    second = tmp_path / "second"
    given = ("--out", str(second), "--protocol", str(turned), *_set("epochs=1", "batch=4"))
    code, out, _ = run(*given, *_set(f"start={tmp_path / 'run' / BEST_FILE}"))
    assert code == 0
    assert "were trained on 24 of the validation pictures" in out
    listed = read_training_hashes(second / RUN_HASHES)
    assert len(listed) == 32
    # Going on needs neither the file nor the option, and keeps the list.
    assert run(*given)[0] == 0
    assert len(read_training_hashes(second / RUN_HASHES)) == 32
    assert json.loads((second / "evaluation.json").read_text())["started_from"]["val_seen"] == 24


@pytest.mark.usefixtures("finished")
def test_a_start_of_another_network_is_refused(run: Any, tmp_path: Path) -> None:
    start = f"start={tmp_path / 'run' / BEST_FILE}"
    code, _, err = run("--out", str(tmp_path / "second"), *_set(start, "model.dense=7"))
    assert code == 1
    assert "are those of a different network" in err
    code, _, err = run("--out", str(tmp_path / "third"), *_set("start=nowhere.safetensors"))
    assert code == 1
    assert "nowhere.safetensors: expected a checkpoint, found no file" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("p00.png", "1 of the 24 training pictures differ from"),
        ("p03.png", "labels or contents of the part 'val' differ"),
    ],
)
@pytest.mark.usefixtures("finished")
def test_a_run_does_not_go_on_with_other_contents(
    run: Any, age_list: Path, tmp_path: Path, name: str, said: str
) -> None:
    shutil.copytree(age_list, tmp_path / "data")
    picture = tmp_path / "data" / name
    picture.write_bytes(picture.read_bytes() + b"\0")
    code, _, error = run("--set", f"data.root={tmp_path / 'data' / 'list.csv'}")
    assert code == 2
    assert said in " ".join(error.split())


@pytest.mark.parametrize(("line", "part"), [(1, "train"), (4, "val")])
def test_a_run_does_not_go_on_with_other_labels(
    run: Any, age_list: Path, tmp_path: Path, line: int, part: str
) -> None:
    shutil.copytree(age_list, tmp_path / "data")
    listed = tmp_path / "data" / "list.csv"
    given = ("--root", str(listed), *ONE_EPOCH)
    assert run(*given)[0] == 0
    lines = listed.read_text().splitlines()
    name, age = lines[line].split(",")
    lines[line] = f"{name},{int(age) + 1}"
    listed.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    code, _, error = run(*given)
    assert code == 2
    assert f"labels or contents of the part {part!r} differ" in " ".join(error.split())
    lines[line] = f"{name},{age}"
    listed.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert run(*given)[0] == 0  # in another order, which says nothing


def _forget(checkpoint: Path, *facts: str, **settings: Any) -> None:
    """Let a checkpoint be one of a version that noted less."""
    saved = read_checkpoint(checkpoint)
    about = {name: value for name, value in saved.about.items() if name not in facts}
    replace(saved, about=about, settings=replace(saved.settings, **settings)).write(checkpoint)


@pytest.mark.usefixtures("finished")
def test_an_older_run_that_noted_no_labels_goes_on(run: Any, tmp_path: Path) -> None:
    last = tmp_path / "run" / LAST_FILE
    assert set(read_checkpoint(last).about["contents"]) == {"train", "val"}
    _forget(last, "contents")
    assert run()[0] == 0


@pytest.mark.usefixtures("finished")
def test_a_start_that_comes_too_late_is_refused(run: Any, tmp_path: Path) -> None:
    code, _, error = run("--set", "start=nowhere.safetensors")
    assert code == 2
    assert "other weights (start was none, is 'nowhere.safetensors')" in " ".join(error.split())
    # Earlier versions went on, and noted the file that they did not use.
    _forget(tmp_path / "run" / LAST_FILE, start="nowhere.safetensors")
    code, out, _ = run("--set", "start=nowhere.safetensors")
    assert code == 0
    assert "start=nowhere.safetensors is ignored" in " ".join(out.split())


@pytest.mark.usefixtures("finished")
def test_another_start_than_the_runs_is_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    best, second = tmp_path / "run" / BEST_FILE, tmp_path / "second"
    shutil.copy(best, tmp_path / "copy.safetensors")

    def go_on(*start: str) -> Any:
        named = [f"start={path}" for path in start]
        return run("--out", str(second), *_set("epochs=1", *named))

    assert go_on(str(best))[0] == 0
    code, _, error = go_on("/nonexistent/other.safetensors")
    assert code == 2
    said = " ".join(error.split())
    assert f"start was {BEST_FILE!r}, is '/nonexistent/other.safetensors'" in said
    # The very file, however it is named, or none; the record stays.
    for start in ((), ("run/best.safetensors",), ("copy.safetensors",)):
        assert go_on(*start)[0] == 0
        evaluation = json.loads((second / "evaluation.json").read_text())
        assert evaluation["settings"]["start"] == BEST_FILE  # no folders of this machine
    # Earlier versions forgot the name when it was left out once.
    _forget(second / LAST_FILE, start="")
    assert go_on("copy.safetensors")[0] == 0
    _forget(second / LAST_FILE, start="")
    shutil.copy(second / LAST_FILE, tmp_path / "other.safetensors")
    assert go_on("other.safetensors")[0] == 2


def test_ages_that_the_network_can_not_give_are_left_out_and_listed(
    run: Any, tmp_path: Path
) -> None:
    code, out, _ = run("--set", "model.oldest=50", *ONE_EPOCH)
    assert code == 0
    assert "pictures left out" in out
    with (tmp_path / "run" / LEFT_OUT_FILE).open() as file:
        rows = list(csv.reader(file))[1:]
    assert {part for part, _, _ in rows} == {"train", "val"}
    assert all("is outside of the network's ages, 0 to 50" in reason for _, _, reason in rows)
    ages = [float(reason.split()[1]) for _, _, reason in rows]
    assert min(ages) > 50


def test_ages_that_are_all_beyond_the_network_are_one_sentence(run: Any) -> None:
    code, _, error = run("--set", "model.youngest=100", "--set", "model.oldest=116")
    assert code == 1
    said = " ".join(error.split())
    assert "no picture of part 'train' can be used" in said
    assert "is outside of the network's ages, 100 to 116" in said


def test_a_part_that_is_not_there_is_said_before_pictures_are_read(run: Any) -> None:
    code, out, error = run("--set", "data.val_part=banana")
    assert code == 2
    assert "banana" in error
    assert "Reading" not in out


@pytest.mark.usefixtures("finished")
def test_weights_that_do_not_fit_are_said_before_pictures_are_read(
    run: Any, tmp_path: Path
) -> None:
    given = _set(f"start={tmp_path / 'run' / BEST_FILE}", "model.dense=24")
    code, out, error = run(*given, "--out", str(tmp_path / "other"))
    assert code == 1
    assert "averaged weights" in error
    assert "Reading" not in out
