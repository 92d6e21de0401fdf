"""Model cards, filled in from result files: description, figures with intervals, limits.

A card is Markdown with the YAML front matter that model hubs read; its scalars are written as JSON,
which is valid YAML.  Whatever the results don't state is marked as left to the model's makers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agebench import __version__
from agebench.errors import UsageError, inert, suggestion
from agebench.harness.contents_setup import Spec
from agebench.harness.reading import ResultFile
from agebench.metrics.age_errors import METRICS
from agebench.metrics.number_format import (
    NONE,
    bounds,
    counted,
    figure,
    milliseconds,
    number,
    percent,
    signed,
)
from agebench.modelfiles.weights import sha256_of
from agebench.report import context
from agebench.report.cautions import cautions
from agebench.report.escaping import markdown
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined, join
from agebench.report.opening import false_adult_grid
from agebench.report.rows_errors import groups_by_label
from agebench.report.tables import markdown_table

FILL_IN = "*To be filled in by its makers.*"


def card(results: Sequence[ResultFile], model: str) -> str:
    """Return a model's card as Markdown.

    Args:
        results: on any data sets; each gets its own section.
        model: its name in the results, or the path of one of its model files, matched by hash.

    Raises:
        UsageError: the model is not in one of the results, or was not available there.
    """
    found = [_find_entry(join([result]), model) for result in results]
    spec = found[0][1].spec
    title = found[0][1].name
    parts = [
        _front_matter(title, spec, found),
        f"# Model card: {markdown(title)}",
        _description(spec),
        *(_measured(joined, entry) for joined, entry in found),
        _limits(found),
        _how_to_repeat(found),
    ]
    return "\n\n".join(parts) + "\n"


def _find_entry(joined: Joined, model: str) -> tuple[Joined, Entry]:
    """Return the model's entry in one result."""
    entries = [entry for entry in joined.entries if entry.content.spec]
    named = [entry for entry in entries if entry.name == model]
    if not named and Path(model).is_file():
        sha256 = sha256_of(Path(model))
        named = [
            entry for entry in entries if any(item.sha256 == sha256 for item in entry.spec.weights)
        ]
    if len(named) != 1:
        names = [entry.name for entry in entries]
        why = "several estimators have that file" if named else "no estimator has that name or file"
        raise UsageError(f"{joined.results[0].path}: {why}: {suggestion(model, names)}")
    return joined, named[0]


def _front_matter(title: str, spec: Spec, found: Sequence[tuple[Joined, Entry]]) -> str:
    lines = ["---"]
    if spec.licence:
        lines += ["license: other", f"license_name: {_yaml(spec.licence)}"]
    if spec.trained_sets:
        lines += ["datasets:", *(f"- {_yaml(name)}" for name in dict.fromkeys(spec.trained_sets))]
    lines += ["library_name: agebench", "tags:", "- age-estimation", "- face", "metrics:", "- mae"]
    lines += ["model-index:", f"- name: {_yaml(title)}", "  results:"]
    for joined, entry in found:
        dataset = joined.dataset
        lines += [
            "  - task:",
            "      type: image-regression",
            "      name: Facial age estimation",
            "    dataset:",
            f"      type: {_yaml(dataset.name)}",
            f"      name: {_yaml(dataset.name + ', ' + dataset.protocol)}",
            "    metrics:",
        ]
        for name, value, shown in _metrics(entry):
            lines += [
                f"    - type: {name}",
                f"      value: {value!r}",
                f"      name: {_yaml(shown)}",
            ]
    return "\n".join([*lines, "---"])


def _metrics(entry: Entry) -> Iterator[tuple[str, float, str]]:
    errors = entry.errors
    if errors is None or errors.mae_years is None:
        return
    for metric in METRICS:
        value = errors.figure(metric)
        if metric.in_card and value is not None:
            of_mae = bounds(errors.mae_interval) if metric.key == "mae_years" else ""
            yield metric.name, round(value, 4), f"{metric.title}, years {of_mae}".strip()
    if (within := errors.cs[5]) is not None:
        yield "cs5", round(within, 4), "fraction at most 5 years off"


def _yaml(text: str) -> str:
    return json.dumps(text)


def _description(spec: Spec) -> str:
    views = ", ".join(
        f"{name} {view.size_hw[0]}x{view.size_hw[1]}" for name, view in spec.crop.views.items()
    )
    weights = "; ".join(f"{item.file} (sha256 {item.sha256})" for item in spec.weights)
    rows = [
        ("Input", f"crops of a face, {spec.channel_order.upper()}: {views}"),
        ("How its output becomes years", spec.decode),
        ("Files", weights),
        ("Trained on", spec.trained_on),
        ("Kind of training labels", spec.label_kind),
        ("Licence of the weights", spec.licence),
        ("Source", spec.source),
        ("Please cite", spec.citation),
    ]
    items = [f"- **{name}:** {markdown(value) if value else FILL_IN}" for name, value in rows]
    notes = [f"- {markdown(note)}" for note in spec.notes]
    return "\n".join(["## Description", "", f"- **Intended use:** {FILL_IN}", *items, *notes])


def _measured(joined: Joined, entry: Entry) -> str:
    dataset, errors = joined.dataset, entry.errors
    content = entry.content
    parts = [f"## On {markdown(dataset.name)}, {markdown(dataset.protocol)}"]
    notes = [f"- **{markdown(note.text)}.**" for note in cautions(joined, entry)]
    if notes:
        parts.append("\n".join(notes))
    if errors is None or errors.mae_years is None:
        parts.append("No picture has both a known age and a predicted age.")
        return "\n\n".join(parts)
    mean = f"**{number(errors.mae_years)} years**"
    if errors.mae_interval is not None:
        mean = f"**{number(errors.mae_years)} years {bounds(errors.mae_interval)}** (95 % interval)"
    others = ", ".join(f"{metric.name_in_text} {figure(errors, metric)}" for metric in METRICS[1:])
    parts.append(
        f"{counted(errors.n, 'picture')} scored; {content.missed:,} without a face, "
        f"{content.failed:,} failed. Mean absolute error {mean}, {others}, "
        f"at most 5 years off {percent(errors.cs[5])} %."
    )
    tables = [_groups(joined, entry), _rates(joined, entry)]
    parts += [f"### {markdown(grid.caption)}\n\n{markdown_table(grid)}" for grid in tables if grid]
    parts.append(_time(joined, entry))
    return "\n\n".join(parts)


def _groups(joined: Joined, entry: Entry) -> Grid | None:
    rows = []
    for (attribute, value), by_label in groups_by_label(joined).items():
        group = by_label.get(entry.label)
        if group is None:
            continue
        few = group.mae_years is None
        rows.append(
            [
                Cell(f"{attribute}: {value}"),
                Cell(f"{group.n:,}"),
                Cell("too few" if few else number(group.mae_years)),
                Cell(NONE if few else bounds(group.mae_interval)),
                Cell(signed(group.bias_years)),
            ]
        )
    columns = [Column("group", numeric=False), *map(Column, ("pictures", "MAE", "95 %", "bias"))]
    return Grid("By group, years", columns, rows) if rows else None


def _rates(joined: Joined, entry: Entry) -> Grid | None:
    grid = false_adult_grid(joined)
    if grid is None:
        return None
    rows = [row for row in grid.rows if row[0].text == entry.label]
    return Grid(grid.caption, grid.columns, rows) if rows else None


def _time(joined: Joined, entry: Entry) -> str:
    times = entry.samples_ms("total")
    if not len(times):
        return "Nothing was timed."
    content = joined.results[entry.result].content
    machine, runtime = content.environment, entry.spec.runtime
    busy = joined.results[entry.result].too_busy
    caution = f" These times are too long: {markdown(busy)}." if busy else ""
    return (
        f"Time per picture, all stages, batch 1: median "
        f"{milliseconds(float(np.median(times)))} ms over {len(times)}, on "
        f"{markdown(machine.processor)} ({counted(machine.cores, 'core')}), "
        f"{runtime.called}, {runtime.device}.{caution}"
    )


def _limits(found: Sequence[tuple[Joined, Entry]]) -> str:
    items = [
        "Ages are only estimated: errors of ten years and more are common for single pictures. No "
        "decision about a person may be based on an estimate alone.",
        "The figures apply only to pictures like those measured, with the same detector.",
    ]
    for joined, entry in found:
        few = [
            f"{attribute}: {value}"
            for (attribute, value), by_label in groups_by_label(joined).items()
            if (group := by_label.get(entry.label)) is not None and group.mae_years is None
        ]
        if few:
            items.append(
                f"These groups of {joined.dataset.name} have too few pictures for figures: "
                f"{', '.join(few)}."
            )
        items.append(context.label_origin(joined))
    return "\n".join(["## Limits", "", *(f"- {markdown(item)}" for item in dict.fromkeys(items))])


def _how_to_repeat(found: Sequence[tuple[Joined, Entry]]) -> str:
    lines = [
        "## How to repeat",
        "",
        f"Written by agebench {__version__} from these results:",
    ]
    for joined, _ in found:
        result = joined.results[0]
        sha256 = joined.dataset.content_sha256
        lines += ["", f"- {result.content.created[:10]}, data sha256 `{sha256}`:"]
        lines += ["", f"      {inert(context.command(result))}"]
    return "\n".join(lines)
