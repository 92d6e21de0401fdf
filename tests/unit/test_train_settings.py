"""Settings of training: files, overrides, the way through JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import UsageError
from agebench.runtimes.onnx_metadata import AGE, MAX_VIEWS, PRESENT, PROBABILITIES
from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings
from agebench.train.sections import AugmentSettings, FilterSettings, no_augmentation
from agebench.train.settings import TrainSettings, read_settings, settings_from
from agebench.types import plain

MANY_VIEWS = ", ".join(f"v{number} = {{region = 'face'}}" for number in range(MAX_VIEWS + 1))
TOML = """
epochs = 7
[data]
dataset = "csv"
[model.views.face]
region = "chip"
size_hw = [48, 40]
backbone = { depth = 10, width = 8 }
[augment]
filters = { jpeg = 0.25 }
[bootstrap]
groups = [20, 40.5]
size = 500
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_and_the_rest_is_filled_in(tmp_path: Path) -> None:
    settings = read_settings(_file(tmp_path, TOML))
    assert settings.epochs == 7
    assert settings.data.dataset == "csv"
    assert list(settings.model.views) == ["face"]
    assert settings.model.views["face"] == ViewSettings(
        "chip", (48, 40), backbone=BackboneSettings(depth=10, width=8)
    )
    assert settings.augment == AugmentSettings(filters=FilterSettings(jpeg=0.25))
    assert settings.bootstrap.groups == (20.0, 40.5)
    assert settings.optim == TrainSettings().optim


@pytest.mark.parametrize("text", ["", TOML])
def test_the_way_through_json_changes_nothing(tmp_path: Path, text: str) -> None:
    settings = read_settings(_file(tmp_path, text))
    again = settings_from(json.loads(json.dumps(plain(settings))), "a checkpoint")
    assert again == settings
    assert isinstance(again.bootstrap.size, type(settings.bootstrap.size))  # 1 is not a share


def test_overrides_reach_any_depth_and_the_last_one_counts(tmp_path: Path) -> None:
    given = [
        "epochs=3",
        "model.views.face.backbone.width=16",
        "model.views.face.size_hw=[32, 32]",
        "augment.filters.blur = 0.5",
        "data.dataset=folders",  # a text without quotes
        "data.protocol='holdout seed=2'",
        "epochs=4",
    ]
    settings = read_settings(_file(tmp_path, TOML), given)
    assert settings.epochs == 4
    view = settings.model.views["face"]
    assert (view.backbone.width, view.backbone.depth, view.size_hw) == (16, 10, (32, 32))
    assert settings.augment.filters == FilterSettings(jpeg=0.25, blur=0.5)
    assert (settings.data.dataset, settings.data.protocol) == ("folders", "holdout seed=2")


def test_a_value_with_a_line_end_sets_one_key_alone() -> None:
    assert read_settings(None, ["data.root=1\nother = 2"]).data.root == "1\nother = 2"


def test_texts_are_taken_as_they_are() -> None:
    texts = {"data.root": "2024", "data.detector": "true", "data.protocol": '"x'}
    data = read_settings(None, [], texts).data
    assert (data.root, data.detector, data.protocol) == ("2024", "true", '"x')
    assert read_settings(None, ["data.root='b'"], {"data.root": "a"}).data.root == "b"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("optim.learning_rat=1", "optim.learning_rat"),
        ("nothing", "key=value"),
        ("=3", "key=value"),
        ("optim..ema=0.5", "key=value"),
        ("epochs.more=3", "epochs"),
        ("epochs=three", "epochs: expected a whole number"),
        ("epochs=true", "epochs"),
        ("epochs=0", "epochs"),
        ("batch=1", "batch"),
        ("seed=-1", "seed"),
        ("data.root=5", "data.root: expected text"),
        ("data.longest_px=0", "longest_px"),
        ("data.decode_threads=-1", "decode_threads"),
        ("data.train_fraction=0", "train_fraction"),
        ("optim.learning_rate=nan", "optim.learning_rate"),
        ("optim.learning_rate=0", "learning_rate"),
        ("optim.optimiser=adam", "did you mean 'adamw'"),
        ("optim.ema=1.5", "ema"),
        ("device=gpu", "device"),
        ("precision=fp16", "precision"),
        ("model.dense=0", "dense"),
        ("model.dropout=1", "dropout"),
        ("model.youngest=116", "ages must be ascending"),
        ("model.views={}", "at least one view"),
        ("model.views={'a b' = {region = 'face'}}", "lower-case letters"),
        ("model.views={'a.b' = {region = 'face'}}", "lower-case letters"),
        (f"model.views={{{'a' * 65} = {{region = 'face'}}}}", "at most 64 lower-case letters"),
        *(
            (f"model.views={{{name} = {{region = 'face'}}}}", f"can't be called '{name}'")
            for name in (PRESENT, AGE, PROBABILITIES, "shares")
        ),
        (f"model.views={{{MANY_VIEWS}}}", "at most 16 views, got 17"),
        ("model.views={face = {}}", "model.views.face.region is missing"),
        ("model.views={face = {region = 'chin'}}", "unknown region 'chin'"),
        ("model.views={face = {region = 'face', margin = -0.7}}", "margin"),
        ("model.views={face = {region = 'face', max_outside = 2.0}}", "max_outside"),
        ("model.views={face = {region = 'face', size_hw = [8, 32]}}", "16 to 2048"),
        ("model.views={face = {region = 'face', size_hw = [32, 99999]}}", "16 to 2048"),
        ("model.views={face = {region = 'face', size_hw = [32]}}", "size_hw"),
        ("model.views={face = {region = 'face', backbone = {depth = 19}}}", "depth"),
        ("model.views={face = {region = 'face', backbone = {width = 7}}}", "width must be even"),
        (
            "model.views={face = {region = 'face', backbone = {stochastic_depth = 1.0}}}",
            "stochastic",
        ),
        (
            "model.views={face = {region = 'face', backbone = {kind = 'mobilenet', depth = 50}}}",
            "mobilenet has no depth",
        ),
        ("model.views={face = {region = 'face', backbone = {kind = 'vit'}}}", "kind"),
        (
            "model.views={face = {region = 'face', size_hw = [64, 62], "
            "backbone = {kind = 'mobilenet'}}}",
            "at least 64 pixels",
        ),
        ("model.fusion=early", "one size"),
        ("loss.name=dldI", "dldl"),
        ("augment.flip=1.5", "flip must be from 0 to 1"),
        ("augment.hue_deg=-1", "hue_deg"),
        ("augment.noise_levels=-1", "noise_levels"),
        ("augment={gray = 0.7, single_channel = 0.7}", "sum to at most 1"),
        ("augment.filters={jpeg = 0.7, blur = 0.7}", "sum to at most 1"),
        ("augment.filters={jpeg = -0.1}", "0 or more"),
        ("bootstrap.balance=2", "balance"),
        ("stability.cut_factor=1", "cut_factor"),
        ("optim={staged = 0.5}\nmodel={auxiliary = false}", "optim"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(override: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        read_settings(None, [override])
    assert named in str(error.value)
    assert "\n" not in str(error.value).replace(override, "")


def test_stages_need_a_head_per_backbone() -> None:
    for model in (
        ModelSettings(auxiliary=False),
        ModelSettings({"face": ViewSettings("face")}, fusion="early"),
    ):
        values = plain(TrainSettings(model=model))
        values["optim"]["staged"] = 0.5
        with pytest.raises(UsageError, match=r"model\.auxiliary"):
            settings_from(values, "here")


@pytest.mark.parametrize(
    "content",
    [b"epochs = ", b"\xff\xfe", b"epochs = 3\nrounds = 4", b"x = " + b"[" * 20000, b"a" * 1000001],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.toml"):
        read_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="can't be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize("values", [{"epochs": None}, {"model": 3}, {"model": {"views": []}}])
def test_json_of_another_form_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="checkpoint"):
        settings_from(values, "checkpoint")


def test_no_augmentation_is_off_in_every_number() -> None:
    off = no_augmentation()
    shares = plain(off)
    filters = shares.pop("filters")
    assert not any(filters.values())
    assert {name for name, value in shares.items() if value} == {"noise_levels", "channel_space"}


def test_keys_of_a_stranger_do_nothing_to_a_terminal() -> None:
    for values in ({"\x1b[31m": 1}, {"augment": {"filters": {"\u202e": 1}}}):
        with pytest.raises(UsageError, match="unknown key") as caught:
            settings_from(values, "x.toml")
        assert str(caught.value).isprintable()


def test_a_line_that_would_take_hours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(".".join(["a"] * 300_000) + " = 1\n")
    with pytest.raises(UsageError, match="more than 1000 dots"):
        read_settings(path)
