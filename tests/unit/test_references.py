"""Names of estimators and detectors: what is name, path, runtime, device and option."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.errors import UsageError
from agebench.references import DEVICES, RUNTIMES, join_options, parse_reference, user_path


@pytest.mark.parametrize(
    ("text", "name", "path", "runtime", "device", "options"),
    [
        ("constant", "constant", None, None, None, {}),
        ("  constant  ", "constant", None, None, None, {}),
        ("a@onnxruntime", "a", None, "onnxruntime", None, {}),
        ("a@onnxruntime:cuda", "a", None, "onnxruntime", "cuda", {}),
        ("a:net.onnx", "a", "net.onnx", None, None, {}),
        ("a:net.onnx@cv2dnn:opencl", "a", "net.onnx", "cv2dnn", "opencl", {}),
        ("onnx:C:/nets/a.onnx@cv2dnn", "onnx", "C:/nets/a.onnx", "cv2dnn", None, {}),
        (r"onnx:C:\nets\a.onnx", "onnx", r"C:\nets\a.onnx", None, None, {}),
        ("a:me@home/net.onnx", "a", "me@home/net.onnx", None, None, {}),
        ("a:nets@v2", "a", "nets@v2", None, None, {}),
        ("a:nets@v2@torch", "a", "nets@v2", "torch", None, {}),
        ("a:my nets/a b.onnx", "a", "my nets/a b.onnx", None, None, {}),
        ("a:my nets/a.onnx k=1", "a", "my nets/a.onnx", None, None, {"k": "1"}),
        ("a@torch x=1  y=b=c", "a", None, "torch", None, {"x": "1", "y": "b=c"}),
        ("a x=", "a", None, None, None, {"x": ""}),
        ('a x="b  c" y=1', "a", None, None, None, {"x": "b  c", "y": "1"}),
        ("a x='b y=1' z=\"\"", "a", None, None, None, {"x": "b y=1", "z": ""}),
        ('a x="b', "a", None, None, None, {"x": '"b'}),
        ("a:\u00e9\u4e16.onnx", "a", "\u00e9\u4e16.onnx", None, None, {}),
        ("yolov8-face_2.1", "yolov8-face_2.1", None, None, None, {}),
    ],
)
def test_parts(
    text: str,
    name: str,
    path: str | None,
    runtime: str | None,
    device: str | None,
    options: dict[str, str],
) -> None:
    parsed = parse_reference(text)
    assert (parsed.name, parsed.runtime, parsed.device) == (name, runtime, device)
    assert parsed.path == (None if path is None else Path(path))
    assert dict(parsed.options) == options
    assert list(parsed.options) == list(options)
    assert parsed.text == text.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no name"),
        ("   ", "has no name"),
        ("k=1", "has no name"),
        (":net.onnx", "has no name"),
        ("a:", "'a:' has no path after ':': expected NAME"),
        ("@torch", "has no name"),
        ("-a", "has no name"),
        ("nets/my.toml", "'spec:nets/my.toml'"),
        ("a b", "'a b' is not a name with options: expected NAME"),
        ("a@", "has no name"),
        ("a@onnxruntme", "did you mean 'onnxruntime'?"),
        ("a@cuda", "unknown runtime 'cuda'"),
        ("a@cuda", "a device follows its runtime, as in '@RUNTIME:cuda'"),
        ("a@onnxruntime:gpu", "unknown device 'gpu'"),
        ("a:net.onnx@torch:cdua", "did you mean 'cuda'?"),
        ("a k=1 k=2", "'k' is given twice"),
        ("a:~no-such-user-/net.onnx", "without a home folder"),
        ("a:~x\0y", "is not a path: embedded null byte"),
    ],
)
def test_malformed(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert said in str(caught.value)


_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True)
_OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9.,/:=_-]{0,8}", fullmatch=True),
    max_size=4,
)


@given(
    _NAMES,
    st.from_regex(r"[A-Za-z0-9_./-]{1,20}", fullmatch=True) | st.none(),
    st.sampled_from(RUNTIMES) | st.none(),
    st.sampled_from(DEVICES) | st.none(),
    _OPTIONS,
)
def test_what_is_written_is_read_back(
    name: str, path: str | None, runtime: str | None, device: str | None, options: dict[str, str]
) -> None:
    text = name + ("" if path is None else f":{path}")
    if runtime is not None:
        text += f"@{runtime}" + ("" if device is None else f":{device}")
    text = " ".join([text, *(f"{key}={value}" for key, value in options.items())])
    parsed = parse_reference(text)
    assert (parsed.name, parsed.runtime) == (name, runtime)
    assert parsed.path == (None if path is None else Path(path))
    assert parsed.device == (device if runtime else None)
    assert dict(parsed.options) == options


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_reference(text).name


def test_options_belong_to_the_name_before_them() -> None:
    words = ["a", "x=1", "y=2", "b:p q.onnx", "c", "z="]
    assert join_options(words) == ["a x=1 y=2", "b:p q.onnx", "c z="]
    assert join_options([]) == []
    spaced = join_options(["csv", "images=My pictures", 'separator=" "'])
    assert dict(parse_reference(spaced[0]).options) == {
        "images": "My pictures",
        "separator": '" "',
    }
    with pytest.raises(UsageError, match="before any name"):
        join_options(["x=1", "a"])


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert parse_reference("a:~/net.onnx").path == tmp_path / "net.onnx"


def test_a_reference_cannot_be_changed() -> None:
    options = parse_reference("a k=1").options
    with pytest.raises(TypeError):
        options["k"] = "2"  # type: ignore[index]  # the very point
