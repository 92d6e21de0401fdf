"""Annotated videos that browsers play, and the live window."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agebench.errors import AgebenchError, MissingDependencyError
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.video import VideoRun
from agebench.types import Image
from agebench.vision import video_writers, window
from agebench.vision.opencv import cv2
from agebench.vision.video import VideoSink, VideoSource, check_video_name
from agebench.vision.video_writers import plays_in_browsers
from tests.unit.browser import look_in_real_time


def _write(path: Path, frames: int = 12) -> None:
    with VideoSink(path, 10.0) as sink:
        for at in range(frames):
            frame: Image = np.full((48, 64, 3), (20 * at, 128, 255 - 20 * at), np.uint8)
            sink.write(frame)


@pytest.mark.extra
@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "h264"), ("v.webm", "vp9")])
def test_browsers_can_play_what_pyav_writes(name: str, codec: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs the extra 'video'")
    path = tmp_path / name
    _write(path)
    assert plays_in_browsers(path) == ""
    with av.open(str(path)) as file:
        (stream,) = file.streams.video
        assert stream.codec_context.name.startswith(codec)
        assert stream.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 10.0
        shown = [frame.to_ndarray(format="bgr24") for frame in file.decode(video=0)]
    assert len(shown) == 12
    for at, frame in enumerate(shown):  # another library's reading: colours and order are kept
        assert frame.mean(axis=(0, 1)) == pytest.approx([20 * at, 128, 255 - 20 * at], abs=6)
    with VideoSource(path) as video:
        assert sum(frame.image_bgr is not None for frame in video.frames()) == 12
    if name.endswith("mp4"):  # the index first: it plays while it loads
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")


def test_without_pyav_it_is_said_what_will_not_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "v.mp4"
    _write(path)
    assert path.stat().st_size > 0
    assert "pip install 'agebench[video]'" in plays_in_browsers(path)
    with pytest.raises(MissingDependencyError, match=r"ends in \.webm needs PyAV"):
        check_video_name(tmp_path / "v.webm")
    assert "name a file that ends in .mp4" in plays_in_browsers(tmp_path / "v.avi")


def test_without_an_encoder_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def add_stream(codec: str, **_: object) -> None:
        raise ValueError(f"no encoder {codec}")

    file = SimpleNamespace(add_stream=add_stream, close=lambda: closed.append(True))
    av = SimpleNamespace(
        open=lambda *_, **__: file, error=SimpleNamespace(FFmpegError=RuntimeError)
    )
    monkeypatch.setattr(video_writers, "pyav", lambda: av)
    with pytest.raises(AgebenchError, match=r"PyAV can't write libx264 .*no encoder"):
        video_writers.open_writer(tmp_path / "v.mp4", 10.0, (64, 48))
    assert closed == [True]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A display that is not there: what was shown, and the key that is pressed next."""
    seen: dict[str, Any] = {"shown": 0, "key": -1, "open": 1.0, "gone": 0}

    def show(_title: str, image: Image) -> None:
        assert image.ndim == 3
        seen["shown"] += 1

    def close() -> None:
        seen["gone"] += 1

    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", show)
    monkeypatch.setattr(cv2, "waitKey", lambda _: seen["key"])
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: seen["open"])
    monkeypatch.setattr(cv2, "destroyAllWindows", close)
    return seen


@pytest.mark.parametrize("end", [{"key": ord("q")}, {"key": 27}, {"open": 0.0}])
def test_the_window_ends_the_run(
    end: dict[str, float], display: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "v.avi"
    _write(path, 8)
    with window.Window("a") as live:

        def show(image: Image) -> bool:
            if display["shown"] == 2:
                display.update(end)
            return live.show(image)

        run = VideoRun(AgePredictor("constant", detector="aligned"), path, show=show)
        assert len(list(run.records())) == 3
    assert (display["shown"], display["gone"]) == (3, 1)


def test_an_opencv_without_windows_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "namedWindow", fail)
    with pytest.raises(AgebenchError, match="give --frames and --no-window"):
        window.Window("a").__enter__()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True)],
)
def test_a_display_is_looked_for(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(window, "_opens", lambda: True)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert window.has_display() is expected


@pytest.mark.skipif(sys.platform != "linux", reason="X11 of Linux")
def test_a_display_that_is_named_and_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":9876")  # Qt would end this very process
    assert not window.has_display()


PLAYED = """
async function play(name, type) {
  const video = document.createElement("video"), said = [];
  if (!video.canPlayType(type)) return {canPlay: false};
  const happens = (event) => new Promise((done, fail) => {
    video.addEventListener(event, () => done(said.push(event)));
    video.addEventListener("error", () => fail(Error(video.error.message)));
  });
  const steps = ["canplaythrough", "ended"].map(happens);
  video.muted = true;
  video.src = name;
  try {
    await steps[0];
    const start = video.currentTime;
    await video.play();
    await steps[1];
    const size = [video.videoWidth, video.videoHeight];
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = size;
    const pen = canvas.getContext("2d");
    pen.drawImage(video, 0, 0);
    const [r, g, b] = pen.getImageData(size[0] / 2, size[1] / 2, 1, 1).data;
    return {canPlay: true, said, start, end: video.currentTime, size, pixel: [r, g, b]};
  } catch (error) {
    return {canPlay: true, said, error: String(error)};
  }
}
const look = () => play(%s);
"""


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "avc1.640028"), ("v.webm", "vp9")])
def test_a_browser_plays_them_to_their_end(name: str, codec: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra 'video'")
    (site := tmp_path / "site").mkdir()
    _write(site / name)
    words = f"{name!r}, 'video/{Path(name).suffix[1:]}; codecs=\"{codec}\"'"
    seen = look_in_real_time(site, PLAYED % words, tmp_path / "browser")
    if not seen["canPlay"] and codec != "vp9":  # VP9 is free: every build has it
        pytest.skip(f"this build of Chromium can't decode {codec}")
    assert seen["said"] == ["canplaythrough", "ended"], seen
    assert seen["start"] == 0
    assert seen["end"] == pytest.approx(1.2, abs=0.11)  # 12 frames, 10 a second
    assert seen["size"] == [64, 48]
    assert seen["pixel"] == pytest.approx([35, 128, 220], abs=8)  # red, green, blue at the end
