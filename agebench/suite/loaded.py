"""Models and sets of a suite, each loaded once; failures are recorded and do not end the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from agebench.datasets.base import SampleList
from agebench.errors import AgebenchError, error_text
from agebench.harness.loading import Contender, load_contender, load_pictures
from agebench.harness.outside_answers import choose_unseen
from agebench.harness.selection import take_pictures
from agebench.harness.settings import CompareSettings
from agebench.harness.trial import crash_of
from agebench.protocols import Dataset, ProgressStep
from agebench.registry.defaults import choose_detector
from agebench.registry.plugins import DETECTORS, load_detector
from agebench.splits.files import write_split
from agebench.suite.cells import Cell, cell_key, data_key, described
from agebench.suite.kept_cells import weights_sha256
from agebench.suite.plan import PlannedContender, PlannedSet
from agebench.types import plain

SPLITS = "splits"

_Loaded = TypeVar("_Loaded")


class UnavailableError(AgebenchError):
    """A model or set is not available: its cells stay empty, the others are measured."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A set that has been listed.

    Attributes:
        dataset: all of it.
        protocol: for `compare`: a protocol, or the file of an earlier split; None for no split.
    """

    dataset: Dataset
    protocol: str | None


@dataclass(slots=True)
class Loader:
    """Loads what cells need once, or remembers why it is not available.

    Args:
        out: the suite's folder, where splits are stored.
        data: folder that the roots of sets are relative to.
        progress: called while a split is computed.
    """

    out: Path
    data: Path
    progress: ProgressStep
    _models: dict[str, Contender | str] = field(default_factory=dict)
    _sets: dict[str, Pictures | str] = field(default_factory=dict)
    _taken: dict[str, tuple[int, str] | str] = field(default_factory=dict)
    _detectors: dict[str, Mapping[str, Any] | str] = field(default_factory=dict)

    def model(self, planned: PlannedContender) -> Contender:
        """Return a model.

        Raises:
            UnavailableError: it can't be loaded.
        """
        return _once(self._models, planned.name, lambda: _load_model(planned))

    def weights(self, planned: PlannedContender) -> frozenset[str] | None:
        """Return the hashes of a model's files; None if it is not available."""
        try:
            estimator = self.model(planned).estimator
        except UnavailableError:
            return None
        return None if estimator is None else weights_sha256(plain(estimator.spec))

    def pictures(self, planned: PlannedSet) -> Pictures:
        """Return a set.

        Raises:
            UnavailableError: it can't be listed.
        """
        return _once(self._sets, planned.key, lambda: self._load_set(planned))

    def settings(self, cell: Cell) -> CompareSettings:
        """Return the settings for `compare`, which may name a stored split."""
        return replace(cell.settings, protocol=self.pictures(cell.pictures).protocol)

    def size_and_key(self, cell: Cell) -> tuple[int, str]:
        """Return how many pictures a cell has, and the hash of what determines its figures.

        Raises:
            UnavailableError: its model, its set or its detector is not available.
        """
        model = self.model(cell.contender)
        if model.estimator is None:
            raise UnavailableError("the model is not available")
        size, data = self.size_and_data(cell.pictures, cell.settings)
        detector = self.detector(cell.pictures, model)
        return size, cell_key(cell, described(model.estimator), detector, data)

    def size_and_data(self, planned: PlannedSet, settings: CompareSettings) -> tuple[int, str]:
        """Return how many pictures of a set are taken, and their `data_key`.

        Raises:
            UnavailableError: it can't be listed.
        """
        # All models get the same pictures, whatever the variant, so they are listed once.
        named = f"{planned.key} {replace(settings, variant=None)}"
        return _once(self._taken, named, lambda: self._take(planned, settings))

    def detector(self, planned: PlannedSet, model: Contender) -> Mapping[str, Any]:
        """Return the description of a model's detector in a set, as `compare` chooses it.

        Raises:
            UnavailableError: it can't be loaded.
        """
        named = f"{planned.key}\n{model.name}"
        return _once(self._detectors, named, lambda: self._choose_detector(planned, model))

    def _choose_detector(self, planned: PlannedSet, model: Contender) -> Mapping[str, Any]:
        estimator = model.estimator
        specs = [] if estimator is None else [estimator.spec]
        named = None if any(spec.detector for spec in specs) else planned.detector or None
        unseen = choose_unseen([model], named)
        if unseen:
            return {"reference": unseen[0]}
        chosen, _ = choose_detector(named, self.pictures(planned).dataset.spec, specs)
        return _once(self._detectors, f"{chosen}", lambda: _describe_detector(f"{chosen}"))

    def _take(self, planned: PlannedSet, settings: CompareSettings) -> tuple[int, str]:
        pictures = self.pictures(planned)
        _, maker = load_pictures(pictures.dataset, None, pictures.protocol)
        settings = replace(settings, protocol=pictures.protocol)
        taken, _ = take_pictures(pictures.dataset, maker, settings)
        return len(taken.samples), data_key(taken, attributes=True)

    def _load_set(self, planned: PlannedSet) -> Pictures:
        root = self.data / planned.root if planned.root else None
        dataset, maker = load_pictures(planned.dataset, root, planned.protocol)
        if maker is None:
            return Pictures(dataset, None)
        # A protocol may compare all pictures with each other, so its split is stored.
        listed = SampleList(dataset.spec, tuple(dataset.samples), tuple(dataset.problems))
        named = json.dumps([planned.protocol, data_key(listed)])
        name = f"{planned.key}-{hashlib.sha256(named.encode()).hexdigest()[:12]}.json"
        file = self.out / SPLITS / name
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_split(maker(self.progress), file)
        return Pictures(dataset, f"{file}")


def _load_model(planned: PlannedContender) -> Contender:
    contender = load_contender(planned.model, skip_unavailable=True)
    if contender.estimator is None:
        raise UnavailableError(contender.reason)
    return contender


def _describe_detector(reference: str) -> dict[str, Any]:
    crash = crash_of(reference, DETECTORS)
    if crash:
        raise UnavailableError(crash)
    return {"reference": reference, **described(load_detector(reference))}


def _once(known: dict[str, _Loaded | str], name: str, load: Callable[[], _Loaded]) -> _Loaded:
    if name not in known:
        try:
            known[name] = load()
        except Exception as error:  # another package's class may fail in any way
            known[name] = error_text(error)
    found = known[name]
    if isinstance(found, str):
        raise UnavailableError(found)
    return found
