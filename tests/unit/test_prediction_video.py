"""Videos: who is who from frame to frame, smoothing, broken frames, what is written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agebench.cli.predict import command
from agebench.errors import ImageError, UsageError
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.records import AgeAnswer, PredictedFace
from agebench.prediction.tracking import MAX_GAP_FRAMES, Tracker, mean_answer
from agebench.prediction.video import VideoRun
from agebench.types import Box, Face, Image
from agebench.vision.images import encode_png
from agebench.vision.opencv import cv2
from agebench.vision.video import VideoSink, VideoSource, open_video

FAST = ("--detector", "aligned", "--estimator", "constant years=41")


def face(box: Box, years: float | None = 30.0) -> PredictedFace:
    interval = None if years is None else (years - 5, years + 5)
    return PredictedFace(Face(box, 0.9), {"a": AgeAnswer(years, interval)})


def at(x: float, years: float | None = 30.0) -> PredictedFace:
    return face((x, 0.0, x + 20.0, 20.0), years)


def numbers(faces: list[PredictedFace]) -> list[int | None]:
    return [item.track for item in faces]


def frame(index: int, size_hw: tuple[int, int] = (60, 80)) -> Image:
    """A frame of one gray tone that tells its index."""
    return np.full((*size_hw, 3), 10 + 4 * index, np.uint8)


def write(path: Path, count: int, size_hw: tuple[int, int] = (60, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoSink(path, 10.0) as sink:
        for index in range(count):
            sink.write(frame(index, size_hw))
    return path


def break_frame(path: Path, index: int) -> Path:
    """Empty one frame of a Motion-JPEG file; its length in the file stays."""
    data = bytearray(path.read_bytes())
    place = data.index(b"movi") + 4
    for _ in range(index):
        place += 8 + int.from_bytes(data[place + 4 : place + 8], "little")
    assert data[place : place + 4] == b"00dc"
    length = int.from_bytes(data[place + 4 : place + 8], "little")
    data[place + 8 : place + 8 + length] = bytes(length)
    path.write_bytes(data)
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def test_two_people_keep_their_numbers_when_they_pass_each_other_in_the_list() -> None:
    tracker = Tracker()
    assert numbers(tracker.update(0, [at(0), at(100)])) == [1, 2]
    assert numbers(tracker.update(1, [at(96), at(4)])) == [2, 1]
    assert numbers(tracker.update(2, [at(8), at(300), at(92)])) == [1, 3, 2]
    assert tracker.people == 3


def test_the_pairing_with_the_largest_overlap_is_taken() -> None:
    # The first face overlaps both people; taking its best for itself would leave the other out.
    tracker = Tracker()
    tracker.update(0, [at(0), at(10)])
    assert numbers(tracker.update(1, [at(6), at(14)])) == [1, 2]


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    tracker = Tracker()
    tracker.update(0, [at(0)])
    assert numbers(tracker.update(MAX_GAP_FRAMES, [at(2)])) == [1]
    assert numbers(tracker.update(2 * MAX_GAP_FRAMES + 1, [at(2)])) == [2]


def test_ages_are_the_mean_of_the_last_sightings() -> None:
    tracker = Tracker(smoothing=3)
    ages: list[float | None] = [20.0, 26.0, 32.0, None, 38.0]
    shown = [tracker.update(index, [at(0, years)])[0] for index, years in enumerate(ages)]
    assert [item.years for item in shown] == [20.0, 23.0, 26.0, 26.0, 32.0]
    assert shown[-1].interval_80 == (27.0, 37.0)
    (unknown,) = Tracker().update(0, [at(0, None)])
    assert unknown.years is None
    assert mean_answer([AgeAnswer(3.0), AgeAnswer(5.0, (1.0, 9.0))]) == AgeAnswer(4.0, (1.0, 9.0))
    with pytest.raises(UsageError, match="at least 1"):
        Tracker(smoothing=0)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_what_is_written_reads_back_frame_by_frame(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v{suffix}", 12)
    with VideoSource(path) as video:
        frames = list(video.frames())
        assert video.rate_hz == pytest.approx(10.0)
    assert [item.index for item in frames] == list(range(12))
    assert frames[5].time_s == pytest.approx(0.5)
    for item in frames:
        assert item.image_bgr is not None
        assert abs(float(item.image_bgr.mean()) - (10 + 4 * item.index)) < 4
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


class Uneven:
    """A WebM of 1.4 seconds at a variable rate: eight frames, of which `whole` can be decoded."""

    times_ms = (0, 100, 200, 300, 400, 800, 1200, 1300)

    def __init__(self, whole: int, rate_hz: float) -> None:
        self._whole, self._rate_hz = whole, rate_hz
        self._read = 0

    def get(self, what: int) -> float:
        known = {cv2.CAP_PROP_FPS: self._rate_hz, cv2.CAP_PROP_FRAME_COUNT: 1.4 * self._rate_hz}
        return known.get(what, self.times_ms[self._read - 1])

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def read(self) -> tuple[bool, Image | None]:
        self._read += 1
        return (True, frame(self._read)) if self._read <= self._whole else (False, None)

    def release(self) -> None:
        pass


@pytest.mark.parametrize("rate_hz", [10.0, 1000.0])
@pytest.mark.parametrize(("whole", "broken"), [(8, 0), (6, 3)])
def test_a_variable_rate_moves_frames_and_breaks_none(
    whole: int, broken: int, rate_hz: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agebench.vision.video.open_video", lambda _: Uneven(whole, rate_hz))
    (tmp_path / "v.webm").touch()
    with VideoSource(tmp_path / "v.webm") as video:
        frames = list(video.frames())
    assert [item.time_s * 1000 for item in frames[:whole]] == list(Uneven.times_ms[:whole])
    assert [item.image_bgr is None for item in frames[whole:]] == [True] * broken


def test_an_annotated_video_of_a_variable_rate_keeps_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(path: Path) -> object:
        return Uneven(8, 10.0) if path.suffix == ".webm" else open_video(path)

    monkeypatch.setattr("agebench.vision.video.open_video", opened)
    (tmp_path / "v.webm").touch()
    predictor = AgePredictor("constant", detector="aligned")
    list(VideoRun(predictor, tmp_path / "v.webm", draw=tmp_path / "drawn.avi").records())
    with VideoSource(tmp_path / "drawn.avi") as video:
        assert len(list(video.frames())) == 14  # 1.4 s at 10 Hz


def test_a_frame_is_repeated_until_the_time_of_the_next(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "v.avi", 10.0) as sink:
        for index, time_ms in enumerate(Uneven.times_ms):
            sink.write(frame(index), 5 + time_ms / 1000)  # a file may begin at any time
    with VideoSource(tmp_path / "v.avi") as video:
        tones = [item.image_bgr.mean() for item in video.frames() if item.image_bgr is not None]
    shown = [0, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 7]
    assert [round((tone - 10) / 4) for tone in tones] == shown


def test_frames_of_odd_and_changing_sizes_are_written(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    with VideoSink(path, 25.0) as sink:
        for size_hw in ((61, 83), (61, 83), (30, 40)):
            sink.write(np.full((*size_hw, 3), 99, np.uint8))
    with VideoSource(path) as video:
        shapes = [item.image_bgr.shape for item in video.frames() if item.image_bgr is not None]
    assert shapes == [(60, 82, 3)] * 3


def test_a_video_that_fails_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoSink(tmp_path / "v.avi", 25.0) as sink:
            sink.write(frame(0))
            raise ImageError("halfway")

    with pytest.raises(ImageError, match="halfway"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_broken_frames_are_counted_and_the_rest_is_seen(tmp_path: Path) -> None:
    path = break_frame(write(tmp_path / "v.avi", 20), 7)
    drawn = tmp_path / "drawn.avi"
    predictor = AgePredictor("constant years=41", detector="aligned")
    run = VideoRun(predictor, path, draw=drawn)
    records = list(run.records())
    assert [record["frame"] for record in records] == list(range(run.tally.frames))
    assert run.tally.frames in (19, 20)  # FFmpeg passes over some, and reports others
    broken = [record for record in records if record["status"] == "broken"]
    assert len(broken) == run.tally.broken
    whole = [record for record in records if record["status"] == "ok"]
    assert len(whole) >= 18
    assert {record["faces"][0]["track"] for record in whole} == {1}
    with VideoSource(drawn) as video:
        assert sum(1 for _ in video.frames()) == run.tally.frames


def test_a_file_that_was_cut_off_is_seen_up_to_there(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    run = VideoRun(AgePredictor("constant", detector="aligned"), path)
    statuses = [record["status"] for record in run.records()]
    assert 10 < statuses.count("ok") < 30
    assert run.tally.broken == statuses.count("broken")


@pytest.mark.parametrize("kind", ["zero", "empty", "text", "pipe", "dangling", "folder"])
def test_what_is_no_video_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "v.avi"
    if kind == "zero":
        cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48)).release()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video at all\n" * 100)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        (path / "x").mkdir(parents=True)
    done = invoke(path, *FAST, "--draw", tmp_path / "drawn.avi")
    assert done.exit_code == 1
    message = done.stderr.strip() or str(done.exception)
    assert str(path) in message
    assert "\n" not in message
    assert not (tmp_path / "drawn.avi").exists()
    if kind == "text":
        assert "has no frames, is truncated" in message
    if kind == "empty":
        assert "the file is empty" in message


def test_the_command_line_shows_people_or_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 6)
    done = invoke(path, *FAST)
    assert done.stdout.splitlines() == [
        f"{path}: 6 frames, 1 person",
        "  #1  41  frames 0 to 5, 6 seen",
    ]
    smoothed = invoke(path, *FAST, "--smoothing", 5).stdout.splitlines()
    assert smoothed[1:] == ["  #1  41  frames 0 to 5, 6 seen, mean age of the last 5"]
    lines = invoke(path, *FAST, "--json", "--frames", 4).stdout.splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [record["frame"] for record in records] == [0, 1, 2, 3]
    rows = list(csv.DictReader(io.StringIO(invoke(path, *FAST, "--csv").stdout)))
    assert [(row["frame"], row["track"]) for row in rows] == [(str(n), "1") for n in range(6)]
    assert all(row["constant years=41 years"] == "41.0" for row in rows)


def test_of_a_folder_the_videos_are_taken_too(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "deep" / "v.AVI", 2)
    root = tmp_path / "in"
    assert invoke(root, *FAST).stdout.startswith(f"{path}: 2 frames, 1 person")
    still = root / "still.png"
    assert cv2.imwrite(str(still), frame(0))
    drawn = tmp_path / "drawn"
    done = invoke(root, *FAST, "--json", "--draw", drawn)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["picture"], record.get("frame")) for record in records] == [
        (str(still), None),
        (str(path), 0),
        (str(path), 1),
    ]
    assert (drawn / "still.png").is_file()
    with VideoSource(drawn / "deep" / "v.AVI") as video:
        assert sum(1 for _ in video.frames()) == 2
    refused = invoke(path, *FAST, "--json", "--out", tmp_path / "r.jsonl")
    assert isinstance(refused.exception, UsageError)
    assert f"--out is for pictures, got the video {str(path)!r}" in str(refused.exception)
    assert not (tmp_path / "r.jsonl").exists()
    assert "video" in str(invoke(root, *FAST, "--draw", tmp_path / "out.mp4").exception)
    (tmp_path / "empty").mkdir()
    assert "no picture or video" in str(invoke(tmp_path / "empty", *FAST).exception)


@pytest.mark.parametrize("option", ["--frames", "--smoothing"])
def test_what_is_for_videos_is_refused_where_nothing_moves(tmp_path: Path, option: str) -> None:
    assert cv2.imwrite(str(tmp_path / "still.png"), frame(0))
    refused = invoke(tmp_path, *FAST, option, 5)
    assert isinstance(refused.exception, UsageError)
    assert f"{option} is for videos and cameras" in str(refused.exception)
    assert invoke(tmp_path, *FAST).exit_code == 0


def test_what_is_for_pictures_names_the_video_it_is_refused_for(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 2)
    for option in (("--explain",), ("--processes", 2), ("--json", "--out", tmp_path / "x.jsonl")):
        refused = invoke(path, *FAST, *option)
        assert f"is for pictures, got the video {str(path)!r}: leave" in str(refused.exception)
    refused = invoke("--camera", 7, "--frames", 2, *FAST, "--processes", 2)
    assert "--processes is for pictures, got camera 7: leave" in str(refused.exception)


def test_the_times_of_a_video_are_those_of_its_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 6)
    run = VideoRun(AgePredictor("constant", detector="aligned"), path)
    list(run.records())
    assert set(run.tally.stage_ms) == {"decode", "detect", "crop", "infer"}
    assert all(spent > 0 for spent in run.tally.stage_ms.values())
    told = invoke(path, *FAST, "--timings").stderr
    for stage in ("decode", "detect", "crop", "infer", "all"):
        assert re.search(rf"{stage} +│ +[\d,]+ │ +\d+%", told), told


def test_a_clip_among_photos_is_left_out_where_only_pictures_can_be(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "ages.jsonl"
    root.mkdir()
    clip = write(root / "v.avi", 3)
    assert cv2.imwrite(str(root / "still.png"), frame(0))
    done = invoke(root, *FAST, "--json", "--out", out)
    assert done.exit_code == 0
    (record,) = map(json.loads, out.read_text().splitlines())
    assert record["picture"] == str(root / "still.png")
    assert f"{clip}: a video, left out" in done.stderr
    assert "1 face in 1 picture" in done.stderr
    (root / "still.png").unlink()
    assert invoke(root, *FAST, "--processes", 2).exit_code == 1


def test_annotated_videos_have_all_frames_and_are_drawn_on(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 5, (300, 500))
    out = tmp_path / "out.mp4"
    assert invoke(path, *FAST, "--draw", out).exit_code == 0
    with VideoSource(out) as video:
        frames = [item.image_bgr for item in video.frames() if item.image_bgr is not None]
    assert len(frames) == 5
    assert all(shown.std() > frame(0).std() + 3 for shown in frames)
    assert invoke(path, *FAST, "--draw", tmp_path / "folder").exit_code == 0
    assert (tmp_path / "folder" / "v.avi").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("v.avi", "--draw", "v.avi"),
        ("v.avi", "--frames", "0"),
        ("v.avi", "--smoothing", "0"),
        ("v.avi", "--processes", "2"),
        ("v.avi", "--json", "--out", "x.jsonl"),
        ("v.avi", "--json", "--explain"),
        ("v.avi", "--csv", "--explain"),
        ("--camera", "0", "--frames", "5", "--json", "--out", "x.jsonl"),
        ("--camera", "0", "--frames", "5", "--processes", "2"),
        ("--camera", "0", "--frames", "5", "--explain"),
        ("--camera", "0"),
        ("--camera", "-1", "--frames", "5"),
        ("v.avi", "--camera", "0", "--frames", "5"),
    ],
)
def test_wrong_calls_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = write(tmp_path / "v.avi", 3).read_bytes()
    done = invoke(*arguments, *FAST)
    assert isinstance(done.exception, UsageError)
    assert (tmp_path / "v.avi").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["v.avi"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this machine that nobody should connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_a_name_that_reads_as_an_address_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    """FFmpeg took the relative name for a URL, and what it got there for the file's content."""
    name = f"http:127.0.0.1:{listener.getsockname()[1]}?cam.avi"
    write(tmp_path / "v.avi", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with VideoSource(Path(name)) as video:
        assert len(list(video.frames())) == 3
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("name", ["list.avi", "s%01d.avi", "s_1.avi"])
def test_a_video_is_read_from_its_own_file_alone(tmp_path: Path, name: str) -> None:
    """A list of other files is not a video; neither is a name a pattern of pictures' names."""
    write(tmp_path / "v.avi", 3)
    (tmp_path / name).write_text("ffconcat version 1.0\nfile v.avi\n")
    for number in range(3):
        (tmp_path / f"s{number}.avi").write_bytes(encode_png(frame(1)))
    if name == "s_1.avi":
        (tmp_path / name).write_bytes(encode_png(frame(1)))
    with pytest.raises(ImageError, match="it can't be opened"):
        VideoSource(tmp_path / name)


def test_what_the_user_told_ffmpeg_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "format_whitelist;mov")
    with VideoSource(write(tmp_path / "v.avi", 2)) as video:
        assert len(list(video.frames())) == 2
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "format_whitelist;mov"
