"""Resources of an estimator: memory, parameters, operations, bytes on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource
from agebench.runtimes.model_cost import ModelCost, model_cost
from agebench.timing.children import ask_child
from agebench.timing.roofline import Peaks, roofline_ms

INPUT_BYTES = 4
"""Size of a float32, the type of the inputs."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one estimator.

    Attributes:
        rss_before_bytes: peak memory of the process after all imports, before loading the model.
        peak_rss_bytes: peak memory by batch size, in ascending order.
        device_bytes: growth of the device's used memory; None on the CPU.
        parameters, macs_per_face: of all its networks, for one face; None if unknown, and 0 for
            an estimator without a network.
        weight_bytes: of the parameters at the precision of the computation.
        input_bytes_per_face: of the networks' inputs.
        file_bytes: of the model files.
        network_batch: by batch size, the largest number of inputs in one run of the network.
        methods: how the figures were obtained, one text per network.
    """

    rss_before_bytes: int
    peak_rss_bytes: Mapping[int, int]
    device_bytes: int | None
    parameters: int | None
    macs_per_face: int | None
    weight_bytes: int | None
    input_bytes_per_face: int
    file_bytes: int
    network_batch: Mapping[int, int]
    methods: tuple[str, ...]

    def roofline_ms(self, batch: int, peaks: Peaks) -> float | None:
        """Return the least time of a call; None if the operations are not known.

        Weights count once and inputs once per face; activations don't count, since they may stay in
        the processor's caches.
        """
        if self.macs_per_face is None or self.weight_bytes is None:
            return None
        moved = self.weight_bytes + batch * self.input_bytes_per_face
        return roofline_ms(batch * self.macs_per_face, moved, peaks) if moved else None


@dataclass(frozen=True, slots=True)
class NetworkRuns:
    """A network of an estimator, and its inputs.

    Attributes:
        source: its files.
        runtime: that ran it.
        runs: by batch size, the input shapes of each run.
    """

    source: ModelSource
    runtime: str
    runs: Mapping[int, Sequence[Mapping[str, tuple[int, ...]]]]


def measure_resources(
    reference: str,
    runtime: RuntimeInfo,
    *,
    device: str | None,
    batches: Sequence[int],
    threads: int,
) -> tuple[Resources, list[NetworkRuns]]:
    """Run an estimator alone in a child process and read its model files.

    Args:
        reference: of the estimator.
        runtime: that runs it, from its spec.
        device: "cpu", "cuda", or None for that of the reference.
        batches: batch sizes.
        threads: for the child.

    Raises:
        AgebenchError: it fails.
    """
    arguments = {
        "reference": reference,
        "device": device,
        "memory_of": runtime.device,
        "batches": list(batches),
    }
    answer = ask_child("resources", arguments, threads=threads)
    networks = _networks(answer)
    costs = [_cost_of_face(item) for item in networks]
    # Nothing is known about a network that was not opened by `open_model`.
    unknown = runtime.runtime != "python" and not networks
    resources = Resources(
        rss_before_bytes=answer["rss_before_bytes"],
        peak_rss_bytes={batch: answer["peak_rss_bytes"][str(batch)] for batch in batches},
        device_bytes=answer["device_bytes"],
        parameters=None if unknown else sum(cost.parameters for cost in costs),
        macs_per_face=None if unknown else _total([cost.macs for cost in costs]),
        weight_bytes=None if unknown else sum(cost.weight_bytes for cost in costs),
        input_bytes_per_face=sum(map(_input_bytes, networks)),
        file_bytes=sum(path.stat().st_size for path in {item.source.path for item in networks}),
        network_batch={batch: _largest(networks, batch) for batch in batches} if networks else {},
        methods=("unknown: its network is not opened through agebench",)
        if unknown
        else tuple(cost.method for cost in costs),
    )
    return resources, networks


def _networks(answer: Mapping[str, Any]) -> list[NetworkRuns]:
    found = []
    for index, (model, runtime) in enumerate(
        zip(answer["models"], answer["runtimes"], strict=True)
    ):
        source = ModelSource(model["kind"], Path(model["path"]), config=model["config"])
        runs = {
            int(batch): [
                {name: tuple(shape) for name, shape in run.items()} for run in by_model[index]
            ]
            for batch, by_model in answer["runs"].items()
        }
        found.append(NetworkRuns(source, runtime, runs))
    return found


def _cost_of_face(network: NetworkRuns) -> ModelCost:
    """Return the cost of the network for one face, which may take several runs."""
    costs = [model_cost(network.source, shapes) for shapes in network.runs[1]]
    if not costs:
        return ModelCost(0, 0, 0, "not run")
    total = _total([cost.macs for cost in costs])
    return ModelCost(costs[0].parameters, costs[0].weight_bytes, total, costs[0].method)


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _input_bytes(network: NetworkRuns) -> int:
    shapes = [shape for run in network.runs[1] for shape in run.values()]
    return INPUT_BYTES * sum(map(math.prod, shapes))


def _largest(networks: Sequence[NetworkRuns], batch: int) -> int:
    shapes = [shape for item in networks for run in item.runs[batch] for shape in run.values()]
    return max((shape[0] for shape in shapes), default=0)
