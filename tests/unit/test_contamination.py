"""Contenders that were trained on what they are scored on: marked, and without any verdict."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.datasets.base import SampleList
from agebench.duplicates.training_hashes import TrainingHashes
from agebench.harness.compare import compare
from agebench.harness.contamination import contamination_of, sets_trained_on, why_contaminated
from agebench.harness.reading import read_result
from agebench.harness.settings import CompareSettings
from agebench.protocols import DatasetSpec, EstimatorSpec, RuntimeInfo
from agebench.report.cautions import cautions
from agebench.report.joining import join
from agebench.report.page import render
from agebench.report.tables import as_csv, as_latex, as_markdown
from agebench.types import AgePrediction, Crops, CropSpec, Sample, ViewSpec
from tests.unit.made_results import analysed, whole

Make = Callable[..., dict[str, Any]]
AGES = np.arange(1.0, 61.0)


def _set(name: str, *notes: str) -> DatasetSpec:
    return DatasetSpec(name, "unknown", notes=notes)


def _by_name(
    sets: list[str], dataset: DatasetSpec, seen: int | None = None, what: str = "x"
) -> str:
    counted = None if seen is None else {"what": what, "count": seen}
    item = {
        "name": "e",
        "available": True,
        "scored": 80,
        "spec": {"trained_sets": sets},
        "seen_in_training": counted,
    }
    (entry,) = whole({"estimators": [item], "pictures": []}).estimators
    return contamination_of(entry, dataset)


def test_a_set_that_the_makers_trained_on_is_told_by_its_name() -> None:
    assert _by_name(["imdb-wiki", "utkface"], _set("utkface")) == "its makers trained on UTKFace"
    assert _by_name(["utkface"], _set("sample")) == "its makers trained on UTKFace"
    assert _by_name(["utkface", "fgnet"], _set("fgnet")) == "its makers trained on FG-NET"
    prepared = _set("prepared", "prepared from utkface", "more")
    assert _by_name(["utkface"], prepared) == "its makers trained on UTKFace"
    assert _by_name(["imdb-wiki"], _set("utkface")) == ""
    assert _by_name([], _set("utkface")) == ""
    assert _by_name(["csv"], _set("prepared", "prepared from utkface")) == ""


@pytest.mark.parametrize("name", ["csv", "folders", "names", "prepared"])
def test_a_way_to_list_pictures_is_no_set_of_them(name: str) -> None:
    assert _by_name([name], _set(name)) == ""
    assert _by_name([name], _set(name), seen=3) == "trained on 3 of its 80 pictures"


def test_the_pictures_themselves_say_more_than_the_name_of_their_set() -> None:
    assert _by_name(["utkface"], _set("utkface"), seen=0) == ""
    assert _by_name([], _set("mine"), seen=68) == "trained on 68 of its 80 pictures"


def test_sets_that_the_list_of_pictures_leaves_out_are_told_by_their_names() -> None:
    sets, what = ["utkface", "imdb-wiki"], "utkface/utkface-full/train + longevity"
    assert _by_name(sets, _set("imdb-wiki"), 0, what) == "its makers trained on IMDB-WIKI"
    assert _by_name(sets, _set("imdb-wiki"), 3, what) == "trained on 3 of its 80 pictures"
    assert _by_name(sets, _set("utkface"), 0, what) == ""
    assert _by_name(sets, _set("fgnet"), 0, what) == ""
    # A list whose source names none of the sets may hold the pictures of all.
    assert _by_name(sets, _set("imdb-wiki"), 0, "my pictures") == ""


def test_a_set_that_is_named_in_words_alone_counts_too() -> None:
    def told(words: str) -> str:
        return why_contaminated(_set("utkface"), 80, None, sets_trained_on([], words))

    for words in ("UTKFace", "utkface", "IMDB-WIKI and parts of UTKFace", "FairFace + utkface x"):
        assert told(words) == "its makers trained on UTKFace", words
    for words in ("", "IMDB-WIKI", "all but UTKFace", "UTKFaces"):
        assert told(words) == "", words


def test_an_estimator_that_was_not_available_has_nothing_against_it() -> None:
    gone = {"name": "gone", "available": False, "spec": None}
    (entry,) = whole({"estimators": [gone], "pictures": []}).estimators
    assert contamination_of(entry, _set("utkface")) == ""


def test_nothing_is_decided_for_or_against_a_contaminated_contender(make_result: Make) -> None:
    predicted = {"cheat": AGES, "one": AGES + 2, "two": AGES + 9}
    content = make_result(predicted)
    assert all(pair["verdict"] == "first better" for pair in content["analysis"]["pairs"])
    content["estimators"][0]["seen_in_training"] = {"what": "x", "count": 9, "pictures": []}
    pairs = {(p["first"], p["second"]): p for p in analysed(content)["pairs"]}
    for other in ("one", "two"):
        pair = pairs["cheat", other]
        assert pair["verdict"] == "no verdict"
        assert pair["p_value"] is pair["p_adjusted"] is pair["interval"] is None
        assert pair["reason"] == "cheat: trained on 9 of its 60 pictures"
    # The pair that is left is tested alone: Holm has nothing to correct.
    left = pairs["one", "two"]
    assert left["verdict"] == "first better"
    assert left["p_adjusted"] == left["p_value"]


class _Grey:
    """Says an age for each picture by its brightness; knows what it was trained on."""

    def __init__(self, trained: TrainingHashes | None, outside: float = 0.0) -> None:
        crop = CropSpec({"face": ViewSpec("face", (4, 4), margin=outside)})
        cuda = RuntimeInfo("onnxruntime", "cuda", "CUDAExecutionProvider", "1.21")
        self.spec = EstimatorSpec("grey", crop, "brightness", runtime=cuda)
        self._trained = trained

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        return [AgePrediction(float(view.mean())) for view in crops.views["face"]]

    def training_hashes(self) -> TrainingHashes | None:
        return self._trained


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> SampleList:
    """Four grey pictures, 10, 20, 30 and 40 years by their brightness; labelled 0, 1, 2, 3 off."""
    folder = tmp_path_factory.mktemp("grey")
    samples = []
    for off, grey in enumerate((10, 20, 30, 40)):
        path = folder / f"{grey}.png"
        PillowImage.fromarray(np.full((20, 20, 3), grey, np.uint8)).save(path)
        samples.append(Sample(path, path.name, float(grey + off)))
    return SampleList(DatasetSpec("tiny", "birth-age"), tuple(samples))


def _compared(pictures: SampleList, estimator: _Grey) -> dict[str, Any]:
    settings = CompareSettings(latency_pictures=0)
    result = compare(
        [estimator, "constant years=30"], pictures, detector="aligned", settings=settings
    )
    content: dict[str, Any] = result.to_json()
    return content


def test_few_near_copies_leave_a_verdict_and_many_do_not() -> None:
    utkface = _set("utkface")
    assert why_contaminated(utkface, 2000, 0, [], near=19) == ""
    assert why_contaminated(utkface, 2000, 0, [], near=20) == (
        "trained on near copies of 20 of its 2,000 pictures"
    )
    assert why_contaminated(utkface, 2000, 3, [], near=20) == (
        "trained on 3 of its 2,000 pictures and near copies of 20 more"
    )


def test_the_error_over_the_unseen_pictures_is_given_alone(pictures: SampleList) -> None:
    seen = [hashlib.sha256(sample.path.read_bytes()).hexdigest() for sample in pictures.samples[:2]]
    content = _compared(pictures, _Grey(TrainingHashes.of("mine", seen)))
    item, constant = content["estimators"]
    assert item["errors"]["mae_years"] == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert item["unseen_errors"]["n"] == 2
    assert item["unseen_errors"]["mae_years"] == pytest.approx((2 + 3) / 2)
    assert item["contamination"] == "trained on 2 of its 4 pictures"
    assert constant["unseen_errors"] is constant["contamination"] is None
    assert [pair["verdict"] for pair in content["analysis"]["pairs"]] == ["no verdict"]


def test_an_estimator_that_has_seen_nothing_has_no_error_of_its_own_for_that(
    pictures: SampleList,
) -> None:
    item = _compared(pictures, _Grey(TrainingHashes.of("mine", [])))["estimators"][0]
    assert item["unseen_errors"] is item["contamination"] is None


def test_the_error_over_unclipped_crops_is_given_alone(pictures: SampleList) -> None:
    everywhere = _compared(pictures, _Grey(None, outside=2.0))["estimators"][0]
    assert everywhere["clipped"] == 4
    assert everywhere["unclipped_errors"] == {
        "n": 0,
        "people": None,
        "mae_years": None,
        "mae_interval": None,
    }
    nowhere = _compared(pictures, _Grey(None, outside=-0.4))["estimators"][0]
    assert (nowhere["clipped"], nowhere["unclipped_errors"]) == (0, None)


def test_a_runtime_that_a_foreign_object_claims_is_said_and_not_proven(
    pictures: SampleList,
) -> None:
    content = _compared(pictures, _Grey(None))
    foreign, own = content["estimators"]
    assert foreign["spec"]["runtime"]["device"] == "cuda"
    assert foreign["runtime_proven"] is False
    assert own["runtime_proven"] is True
    assert content["detector"]["runtime_proven"] is True


def test_part_errors_of_a_single_common_picture_have_no_interval(pictures: SampleList) -> None:
    one = replace(pictures, samples=pictures.samples[:1])
    seen = [hashlib.sha256(pictures.samples[0].path.read_bytes()).hexdigest()]
    item = _compared(one, _Grey(TrainingHashes.of("mine", seen)))["estimators"][0]
    assert item["unseen_errors"] == {
        "n": 0,
        "people": None,
        "mae_years": None,
        "mae_interval": None,
    }


def test_every_output_of_the_report_marks_the_row(
    write_result: Callable[..., Path], make_result: Make
) -> None:
    content = make_result({"cheat": AGES, "honest_one": AGES + 2, "poor": AGES + 9})
    names = [image["picture"] for image in content["pictures"]]
    cheat = content["estimators"][0]
    cheat["seen_in_training"] = {"what": "x", "count": 45, "pictures": names[:45]}
    content["analysis"] = analysed(content)
    joined = join([read_result(write_result(content=content))])
    told = "trained on 45 of its 60 pictures: no verdict; on the 15 common pictures it was not"
    assert [entry.label for entry in joined.entries] == ["honest_one", "poor", "cheat"]
    ranked = render(joined).split('<section id="ranking"')[1].split("</table>")[0]
    assert told in ranked.split("cheat")[1]
    assert "lowest error" in ranked.split("honest")[1].split("poor")[0]
    markdown, tex = as_markdown(joined), as_latex(joined)
    assert re.search(r"^\| cheat<sup>a</sup> \|.*no verdict", markdown, re.MULTILINE)
    assert f"<sup>a</sup> {told}" in markdown
    assert re.search(r"^cheat\\textsuperscript\{a\} &.*no verdict", tex, re.MULTILINE)
    assert rf"\textsuperscript{{a}} {told}" in tex
    rows = {row["estimator"]: row for row in csv.DictReader(io.StringIO(as_csv(joined)))}
    assert rows["cheat"]["contamination"] == "trained on 45 of its 60 pictures"
    assert (rows["cheat"]["unseen_n"], float(rows["cheat"]["unseen_mae_years"])) == ("15", 0.0)
    assert rows["poor"]["contamination"] == rows["poor"]["unseen_n"] == ""


def test_other_labels_and_clipped_crops_stand_at_the_row(
    write_result: Callable[..., Path], make_result: Make
) -> None:
    content = make_result({"dex": AGES, "clipped": AGES + 2, "fine": AGES + 3})
    dex, clipped, fine = content["estimators"]
    dex["spec"]["label_kind"], fine["spec"]["label_kind"] = "dex-estimated", "birth-age"
    clipped["clipped"] = 30
    for image in content["pictures"][:30]:
        image["predictions"]["clipped"]["outside"] = 0.2
        image["predictions"]["clipped"]["years"] = image["true_years"] + 2
    joined = join([read_result(write_result(content=content))])
    notes = {
        entry.label: [note.text for note in cautions(joined, entry)] for entry in joined.entries
    }
    assert notes["dex"] == [
        "was trained to give ages from the DEX network's estimates; the true ages here come from "
        "dates of birth"
    ]
    (told,) = notes["clipped"]
    assert told.startswith("30 of its 60 crops (50 %)")
    assert "more than 5 % beyond the picture; on the 30 common pictures" in told
    assert "its MAE is 2.00" in told
    assert notes["fine"] == []
    clipped["clipped"] = 60
    joined = join([read_result(write_result(content=content))])
    (entry,) = (entry for entry in joined.entries if entry.label == "clipped")
    (note,) = cautions(joined, entry)
    assert note.text == "all its 60 crops extended more than 5 % beyond the picture"
