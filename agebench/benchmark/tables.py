"""A bench result for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agebench.benchmark.result import BenchEntry, BenchResult
from agebench.errors import inert
from agebench.harness.contents_statistics import Busy
from agebench.harness.loading import reads_back_its_runtime
from agebench.metrics.number_format import amount, number, significant
from agebench.timing.latency import StageTimes
from agebench.timing.ratios import LEVEL, Comparison, Control
from agebench.util.typed_records import read_record

_COLUMNS = ("batch", "p50", "p90", "p99", "crop", "infer", "faces/s", "roofline", "x roofline", "n")


def sweep_table(entry: BenchEntry) -> Table:
    """Return one estimator's times per call by batch size."""
    table = Table(header_style="bold", padding=(0, 1, 0, 0), box=None)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for times in entry.sweep:
        roofline, infer = entry.roofline_ms(times.batch), times.infer.percentile(50)
        total = times.total
        table.add_row(
            str(times.batch),
            *(significant(total.percentile(percent)) for percent in (50, 90, 99)),
            significant(times.crop.percentile(50)),
            significant(infer),
            significant(times.faces_per_s),
            significant(roofline),
            significant(infer / roofline) if roofline and infer is not None else "-",
            str(len(total.samples_ms)),
        )
    return table


def resource_lines(entry: BenchEntry) -> list[str]:
    """Return lines on the resources of one estimator."""
    used, runtime = entry.resources, entry.runner.estimator.spec.runtime.runtime
    batch = max(used.peak_rss_bytes)
    network = (
        f"{amount(used.parameters)} parameters, {amount(used.macs_per_face, 'MAC')} per face, "
        f"files {amount(used.file_bytes, 'B')}"
    )
    lines = [
        "no network" if runtime == "python" else network,
        f"peak memory {amount(used.peak_rss_bytes[batch], 'B')} at batch {batch}, "
        f"{amount(used.rss_before_bytes, 'B')} of it before the model was loaded",
    ]
    if used.device_bytes is not None:
        lines.append(f"device memory {amount(used.device_bytes, 'B')}")
    smaller = {size: largest for size, largest in used.network_batch.items() if 0 < largest < size}
    if smaller:
        lines.append(f"the network itself gets at most {smaller[min(smaller)]} inputs at once")
    lines += [method for method in used.methods if method.startswith("unknown")]
    if entry.cold_start is not None:
        lines.append(_cold_start_line(entry.cold_start))
    return lines + _device_lines(entry)


def _cold_start_line(stages: Mapping[str, StageTimes]) -> str:
    medians = {stage: significant(times.percentile(50)) for stage, times in stages.items()}
    return (
        f"cold start {medians['total']} ms: process {medians['process']} + import "
        f"{medians['import']} + load {medians['load']} + first call {medians['first']} "
        f"(second {medians['second']}); medians of {len(stages['total'].samples_ms)}"
    )


def _device_lines(entry: BenchEntry) -> list[str]:
    lines = []
    for times, stages in zip(entry.sweep, entry.device_stages, strict=False):
        if stages is not None:
            parts = ", ".join(
                f"{name.replace('_', ' ')} {significant(part.percentile(50))}"
                for name, part in stages.items()
            )
            lines.append(f"network alone at batch {times.batch}, p50 in ms: {parts}")
    return lines


def comparison_sentence(item: Comparison) -> str:
    """Return a sentence on which estimator is faster, or that no difference was shown.

    >>> comparison_sentence(Comparison(4, "a", "b", 2.0, None, "no verdict", "too few rounds"))
    'batch 4: a and b: no verdict: too few rounds'
    """
    if item.interval is None or item.verdict == "no verdict":
        return f"batch {item.batch}: {item.first} and {item.second}: no verdict: {item.reason}"
    fast, slow, ratio = item.first, item.second, item.ratio
    low, high = item.interval.low, item.interval.high
    if item.verdict == "second faster":
        fast, slow, ratio, low, high = slow, fast, 1 / ratio, 1 / high, 1 / low
    figures = f"{significant(ratio)} [{significant(low)}, {significant(high)}]"
    if item.verdict == "no difference shown":
        return f"batch {item.batch}: {fast} and {slow}: no difference shown, ratio {figures}"
    return f"batch {item.batch}: {fast} is {figures} times as fast as {slow}"


def remarks(result: BenchResult) -> list[str]:
    """Return lines on how it was measured, and warnings."""
    machine, environment = result.about["machine"], result.about["environment"]
    processors = machine["processors"]
    pinned = (
        "" if processors is None else f", pinned to processors {', '.join(map(str, processors))}"
    )
    lines = [
        f"Faces: {result.about['faces']['origin']}. "
        f"Threads: {machine['threads']} of {environment['cores']} processors{pinned}."
    ]
    for device, peaks in machine["peaks"].items():
        lines.append(
            f"Probe on {device}: {amount(peaks['flops_per_s'], 'flop/s')} in float32, "
            f"{amount(peaks['bytes_per_s'], 'B/s')}; 'roofline' is the minimum time of infer at "
            "these limits."
        )
    return lines + busy_lines(read_record(machine, Busy)) + gpu_lines(machine.get("gpu"))


def gpu_lines(gpu: Mapping[str, Any] | None) -> list[str]:
    """Return what the driver reported about the GPU, and why there is no verdict.

    Args:
        gpu: as in bench.json; None if none was used.
    """
    if gpu is None:
        return []
    if gpu["before"] is None:
        return [f"The GPU's clocks are not known: {gpu['note']}."]
    before, after = gpu["before"], gpu["after"] or gpu["before"]
    lines = [
        f"GPU {before['name']}, driver {before['driver']}: "
        f"{significant(before['clock_mhz'])} MHz before, {significant(after['clock_mhz'])} after, "
        f"at most {significant(before['max_clock_mhz'])}; "
        f"{significant(after['power_w'])} W, {significant(after['temperature_c'])} °C."
    ]
    if gpu["trouble"]:
        lines.append(f"No estimator is called faster: {gpu['trouble']}.")
    return lines


def busy_lines(busy: Busy) -> list[str]:
    """Return the load by other processes meanwhile, and a warning if it was too high."""
    before, after = busy.load_average_before, busy.load_average_after
    others, parts = busy.others_processors, []
    if before and after:
        parts.append(f"load average (1 min) before {number(before[0])}, after {number(after[0])}")
    if others is not None:
        parts.append(f"other processes used {number(others)} processors")
    lines = [f"While times were measured: {'; '.join(parts)}."] if parts else []
    if busy.too_busy:
        lines.append(
            "Other processes kept the machine BUSY: times are too long and scattered, and "
            "no estimator is called faster."
        )
    return lines


def control_sentence(control: Control, minimum_ratio: float = 1.0) -> str:
    """Return a sentence on how much an estimator differs from itself, and what follows.

    Args:
        control: the measurement.
        minimum_ratio: as in `compare_speeds`.

    >>> from agebench.metrics.intervals import Interval
    >>> control_sentence(Control("a", 4, 1.01, Interval(0.98, 1.04), (1.0,)))
    'batch 4: a against itself 1.01 [0.98, 1.04]: no estimator is called faster by less than 1.04'
    """
    text = f"batch {control.batch}: {control.name} against itself {significant(control.ratio)}"
    if control.interval is None:
        return text
    ends = f"{significant(control.interval.low)}, {significant(control.interval.high)}"
    return (
        f"{text} [{ends}]: no estimator is called faster by less than "
        f"{significant(max(control.noise_floor or 1.0, minimum_ratio))}"
    )


def faster_lines(
    comparisons: Sequence[Comparison], controls: Sequence[Control], minimum_ratio: float = 1.0
) -> list[str]:
    """Return comparisons of speed and controls; nothing with a single estimator."""
    lines = []
    if comparisons:
        lines.append(f"Ratios of times, with intervals that hold jointly at {100 * LEVEL:.0f} %:")
        lines += [f"  {comparison_sentence(item)}" for item in comparisons]
    if controls:
        lines.append("Control, the first estimator measured twice:")
        lines += [f"  {control_sentence(control, minimum_ratio)}" for control in controls]
    return lines


def print_bench(result: BenchResult, console: Console) -> None:
    """Print all figures, then comparisons of speed, then how it was measured."""

    def print_wrapped(text: str, indent: str = "") -> None:
        for line in wrapped(inert(text), console.width, indent):
            console.print(escape(line), highlight=False, soft_wrap=True)

    print_wrapped("Milliseconds per call: p50 to p99 of crop + infer, medians of crop and infer.")
    for entry in result.entries:
        console.print()
        runtime = entry.runner.estimator.spec.runtime
        unverified = "" if reads_back_its_runtime(entry.runner.estimator) else " (unverified)"
        device = f"in {runtime.runtime} on {runtime.device}{unverified}"
        console.print(f"[bold]{escape(inert(entry.runner.name))}[/bold] {device}", highlight=False)
        console.print(sweep_table(entry))
        for line in resource_lines(entry):
            print_wrapped(line, "  ")
    console.print()
    for line in [*faster_lines(result.comparisons, result.controls), *remarks(result)]:
        print_wrapped(line.lstrip(), line[: len(line) - len(line.lstrip())])


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break a text at spaces only, and indent lines after the first by two more spaces.

    >>> wrapped("one two", 8, "  ")
    ['  one', '    two']
    """
    return textwrap.wrap(
        text,
        max(width - 1, len(indent) + 4),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
