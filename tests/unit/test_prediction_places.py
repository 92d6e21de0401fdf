"""Where drawings go: never in the place of a source, never two in one, never in an odd folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agebench.cli.predict import command
from agebench.errors import AgebenchError, UsageError
from agebench.prediction.places import DrawPlaces
from agebench.prediction.sources import Sources, find_sources
from agebench.vision.opencv import cv2
from agebench.vision.video import VideoSink

FAST = ("--detector", "aligned", "--estimator", "constant years=41")


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((40, 40, 3), 90, np.uint8))
    return path


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoSink(path, 10.0) as sink:
        for tone in (40, 80):
            sink.write(np.full((60, 80, 3), tone, np.uint8))
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), *FAST])


def refused(root: Path, *arguments: object) -> str:
    """Return why a call is refused; whatever is below `root` is as it was."""
    before, folders = contents(root), sorted(root.rglob("*"))
    done = invoke(*arguments)
    assert isinstance(done.exception, UsageError), done.output
    assert contents(root) == before
    assert sorted(root.rglob("*")) == folders
    return str(done.exception)


def test_a_name_that_leads_out_of_a_folder_is_not_drawn_out_of_the_drawings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "A" / "a.png")
    before = picture(tmp_path / "B" / "b.png").read_bytes()
    monkeypatch.chdir(tmp_path / "A")
    done = invoke(".", "../B/b.png", "--draw", "../out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "B" / "b.png").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    inside = Sources(("../A/x.png", "../A/y/../../B/b.png"), roots=(Path("../A"),))
    places = DrawPlaces(Path("../out"), inside)
    assert [places.of(name) for name in inside.names] == [
        Path("../out/x.png"),
        Path("../out/b.png"),
    ]


def test_no_drawing_replaces_what_is_looked_at(tmp_path: Path) -> None:
    picture(tmp_path / "C" / "sub" / "x.png")
    also = picture(tmp_path / "B" / "sub" / "x.png")
    why = refused(tmp_path, tmp_path / "C", also, "--draw", tmp_path / "B")
    assert f"would overwrite the input {str(also)!r}" in why
    first, second = video(tmp_path / "x" / "a.mp4"), video(tmp_path / "y" / "a.mp4")
    why = refused(tmp_path, first, second, "--draw", tmp_path / "y")
    assert f"would overwrite the input {str(second)!r}" in why
    assert "would overwrite the input" in refused(tmp_path, first, "--draw", tmp_path / "x")
    link = tmp_path / "link.png"
    link.symlink_to(also)
    assert "would overwrite the input" in refused(tmp_path, also, "--draw", link)


def test_a_file_for_several_is_refused(tmp_path: Path) -> None:
    first, second = video(tmp_path / "one.mp4"), video(tmp_path / "two.mp4")
    still = picture(tmp_path / "still.png")
    for several in ([first, second], [first, still], [still, first]):
        for out in ("two.mp4", "out.mp4", "x.gif", "x.png"):
            why = refused(tmp_path, *several, "--draw", tmp_path / out)
            assert "several pictures or videos need" in why


def test_a_suffix_that_no_video_has_is_refused(tmp_path: Path) -> None:
    one = video(tmp_path / "one.mp4")
    for out in ("x.gif", "x.wmv", "x.png", "x.v2"):
        for name in (one, tmp_path / "on*.mp4"):
            why = refused(tmp_path, name, "--draw", tmp_path / out)
            assert why.endswith("expected one of .mp4, .m4v, .mov, .mkv, .avi, .webm, or a folder")
    with pytest.raises(UsageError, match=r"\.mp4"):
        DrawPlaces(Path("x.gif"), Sources(()), camera=0)
    with pytest.raises(AgebenchError, match="there is no folder"):
        DrawPlaces(tmp_path / "none" / "x.mp4", find_sources([str(one)]))
    assert invoke(tmp_path / "on*.mp4", "--draw", tmp_path / "out.MP4").exit_code == 0


def test_videos_of_one_name_are_drawn_beside_each_other(tmp_path: Path) -> None:
    names = [video(tmp_path / folder / "a.mp4") for folder in ("x", "y", "z")]
    out = tmp_path / "out"
    assert invoke(*names, "--draw", out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-2.mp4", "a-3.mp4", "a.mp4"]
    named = Sources(("a.webm", "a.webm.mp4", "-", "b.pgm"))
    places = DrawPlaces(out, named)
    assert [places.of(name).relative_to(out).as_posix() for name in named.names] == [
        "a.webm.mp4",
        "a.webm-2.mp4",
        "stdin.png",
        "b.pgm.png",
    ]
    assert DrawPlaces(out, Sources(()), camera=3).of(3) == out / "3.mp4"


def test_names_that_differ_in_case_alone_are_one_on_some_systems(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "x" / "IMG.JPG"), picture(tmp_path / "y" / "img.jpg")
    assert invoke(one, two, "--draw", tmp_path / "out").exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"IMG.JPG", "img-2.jpg"}


def test_many_of_one_name_take_no_longer_than_as_many_names(tmp_path: Path) -> None:
    many = Sources(tuple(f"{number}/a.png" for number in range(50_000)))
    places = DrawPlaces(tmp_path / "out", many)  # hours, if each were counted from the first
    assert places.of("49999/a.png") == tmp_path / "out" / "a-50000.png"
    assert len({places.of(name) for name in many.names}) == 50_000


def test_a_folder_that_can_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    one = video(tmp_path / "one.mp4")
    (tmp_path / "file").touch()
    done = invoke(one, "--draw", tmp_path / "file" / "drawn")
    assert isinstance(done.exception, AgebenchError)
    assert "can't be created" in str(done.exception)


def test_the_longest_names_end_no_run(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".ppm", "x" * 250 + "y.ppm", "\u00e9" * 125 + ".png", "short.png"):
        picture(tmp_path / "in" / "a.png").rename(tmp_path / "in" / name)
    done = invoke(tmp_path / "in", "--draw", tmp_path / "out")
    assert done.exit_code == 0, done.output
    drawn = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(drawn) == 4
    assert "short.png" in drawn
    assert max(len(name.encode()) for name in drawn) <= 240
