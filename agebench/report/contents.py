"""The fields of a result file that the report reads, and what they must be."""

from __future__ import annotations

from dataclasses import MISSING, fields

from agebench.benchmark.speed import READABLE_VERSIONS as BENCH_VERSIONS
from agebench.harness.results import READABLE_VERSIONS
from agebench.metrics.age_errors import METRICS, ErrorSummary
from agebench.report.structure import (
    Check,
    StructureError,
    anything,
    filled,
    flag,
    listed,
    mapping,
    maybe,
    number,
    one_of,
    record,
    text,
    whole,
)
from agebench.types import LABEL_KINDS, MAX_AGE_YEARS

MOST_ESTIMATORS = 200
"""Of one file: every one has its row in a dozen tables, and a pair with each other."""

MOST_PARTS = 1000
"""Groups, gates and decades of one estimator."""

YEARS = number(0, MAX_AGE_YEARS)
SIGNED_YEARS = number(-MAX_AGE_YEARS, MAX_AGE_YEARS)
SHARE = number(0, 1)
MILLISECONDS = number(0)
COUNT = whole()
_INTERVAL = maybe(listed(YEARS, 2))
_SHARES = maybe(listed(SHARE, 2))
_SETTINGS = mapping(anything)
_WEIGHTS = listed(record({"file": text, "sha256": text}))
RUNTIME = record({"runtime": text, "device": text, "detail": text, "version": text})
TERMS = {"licence": text, "source": text, "citation": text, "notes": listed(text)}

ENVIRONMENT = record(
    {
        "python": text,
        "system": text,
        "processor": text,
        "cores": COUNT,
        "memory_bytes": whole(high=10**18),
        "opencv_threads": COUNT,
        "packages": mapping(text),
    }
)

SPLIT = record({"protocol": text, "part": text, "fingerprint": text, "parameters": _SETTINGS})

DATASET = {
    "name": filled,
    "label_kind": one_of(LABEL_KINDS),
    "aligned": flag,
    **TERMS,
    "protocol": text,
    "subset": text,
    "split": maybe(SPLIT),
    "content_sha256": text,
}
"""Fields of a data set, in the files of a leaderboard too; so are those of `ERRORS`."""

_WHOLE_DATASET = record(
    {
        **DATASET,
        "root": maybe(text),
        "problems": listed(record({"name": text, "reason": text})),
    }
)

DETECTOR = record(
    {
        "reference": filled,
        "chosen_because": text,
        "name": filled,
        "weights": _WEIGHTS,
        "runtime": RUNTIME,
        "settings": _SETTINGS,
        **TERMS,
    },
    {
        "runtime_proven": flag,
        "kept_detections": maybe(record({"used": COUNT, "found": COUNT})),
    },
)

_STAGE = record({"n": COUNT, "samples_ms": listed(MILLISECONDS)})

_DECADE = record(
    {"decade": filled, "n": COUNT, "mae_years": maybe(YEARS), "bias_years": maybe(SIGNED_YEARS)},
    {"mae_interval": _INTERVAL},
)

_FIGURES = {metric.key: maybe(SIGNED_YEARS if metric.signed else YEARS) for metric in METRICS}
_LATER = {field.name for field in fields(ErrorSummary) if field.default is not MISSING}
ERRORS = {
    "n": COUNT,
    "mae_interval": _INTERVAL,
    **{name: check for name, check in _FIGURES.items() if name not in _LATER},
}
ERRORS_OF_LATER = {name: check for name, check in _FIGURES.items() if name in _LATER}
"""Figures that results of before they were added do not have."""

_ALL_ERRORS = record(
    {
        **ERRORS,
        "cs": record({k: maybe(SHARE) for k in ("1", "3", "5", "10")}),
        "by_decade": listed(_DECADE, most=MOST_PARTS),
    },
    ERRORS_OF_LATER,
)

_CLASSES = record(
    {
        "n": COUNT,
        "n_in_gap": COUNT,
        "n_unclassified": COUNT,
        "exact": maybe(SHARE),
        "one_off": maybe(SHARE),
    }
)

SPEC = record(
    {
        "name": filled,
        "crop": record({"views": mapping(record({"region": text, "size_hw": listed(COUNT, 2)}))}),
        "decode": text,
        "channel_order": text,
        "weights": _WEIGHTS,
        "trained_on": text,
        "label_kind": text,
        "runtime": RUNTIME,
        "settings": _SETTINGS,
        **TERMS,
    },
    {"trained_sets": listed(text), "detector": text},
)

_NEAR = record({"count": COUNT, "images": listed(text)})
_SEEN = record({"what": text, "count": COUNT}, {"near_copies": maybe(_NEAR)})
RANGES = record({"n": COUNT, "hit_rate": SHARE, "distance_years": YEARS})

_SCORES: dict[str, Check] = {
    "scored": COUNT,
    "missed": COUNT,
    "failed": COUNT,
    "clipped": COUNT,
    "errors": _ALL_ERRORS,
    "classes": maybe(_CLASSES),
    "ranges": maybe(RANGES),
    "seen_in_training": maybe(_SEEN),
}


def _estimator(value: object) -> None:
    """One that was not available has no counts and no errors."""
    _ANY_ESTIMATOR(value)
    if isinstance(value, dict) and value["available"]:
        _AVAILABLE(value)


_ANY_ESTIMATOR = record(
    {
        "name": filled,
        "available": flag,
        "unavailable_reason": text,
        "spec": maybe(SPEC),
        "latency": mapping(_STAGE),
    }
)
_PART = maybe(record({"n": COUNT, "mae_years": maybe(YEARS), "mae_interval": _INTERVAL}))
_ADDED = {
    "unseen_errors": _PART,
    "unclipped_errors": _PART,
    "runtime_proven": flag,
    "contamination": maybe(text),
}
"""Fields that results of before they were added do not have."""
_AVAILABLE = record({**_SCORES, "spec": SPEC}, _ADDED)

_TWO_YEARS = listed(whole(0, int(MAX_AGE_YEARS)), 2)


def _age_range(value: object) -> None:
    _TWO_YEARS(value)
    if isinstance(value, list) and value[0] > value[1]:
        raise StructureError("a range of ages upwards", value)


_IMAGE = record(
    {
        "image": filled,
        "sha256": text,
        "true_years": maybe(YEARS),
        "identity": maybe(text),
        "attributes": mapping(text),
        "status": filled,
        "faces": COUNT,
        "box_xyxy": maybe(listed(number(), 4)),
        "predictions": mapping(record({"status": filled, "years": maybe(YEARS)})),
    },
    {"true_range": maybe(_age_range)},
)

_PAIR = record(
    {
        "first": filled,
        "second": filled,
        "n": COUNT,
        "difference_years": maybe(SIGNED_YEARS),
        "interval": maybe(listed(SIGNED_YEARS, 2)),
        "p_value": maybe(SHARE),
        "p_adjusted": maybe(SHARE),
        "verdict": one_of(("first better", "second better", "no difference shown", "no verdict")),
    },
    {"reason": text},
)

_GROUP = record(
    {
        "attribute": text,
        "value": text,
        "n": COUNT,
        "mae_years": maybe(YEARS),
        "mae_interval": _INTERVAL,
        "bias_years": maybe(SIGNED_YEARS),
    },
    {"people": maybe(COUNT)},
)

_CALIBRATION = record(
    {
        "n": COUNT,
        "coverage": listed(record({"level": SHARE, "share": maybe(SHARE), "interval": _SHARES})),
        "nll": maybe(number()),
        "crps_years": maybe(YEARS),
        "pit_counts": listed(COUNT, 10),
    }
)

_GATE = record(
    {
        "threshold_years": YEARS,
        "buffer_years": YEARS,
        "minors": COUNT,
        "adults": COUNT,
        "false_pass_rate": maybe(SHARE),
        "false_pass_interval": _SHARES,
        "false_stop_rate": maybe(SHARE),
        "false_stop_interval": _SHARES,
    },
    {"minor_people": maybe(COUNT), "adult_people": maybe(COUNT)},
)

_ANALYSED = record(
    {
        "with_misses": maybe(record({"n": COUNT, "mae_years": maybe(YEARS), "missed": COUNT})),
        "groups": listed(_GROUP, most=MOST_PARTS),
        "calibration": maybe(_CALIBRATION),
        "gates": listed(_GATE, most=MOST_PARTS),
        "buckets": maybe(_CLASSES),
    }
)

# Those that the report computes with or puts into sentences; other ones are left alone.
_ANALYSIS_SETTINGS = record(
    {}, {"level": SHARE, "replicates": COUNT, "permutations": COUNT, "minimum_n": COUNT}
)

_ANALYSIS = record(
    {
        "settings": _ANALYSIS_SETTINGS,
        "pairs": listed(_PAIR, most=MOST_ESTIMATORS**2),
        "estimators": mapping(_ANALYSED),
    }
)

_RATIO = record(
    {
        "batch": whole(1),
        "first": filled,
        "second": filled,
        "ratio": number(0),
        "interval": maybe(listed(number(0), 2)),
        "verdict": one_of(("first faster", "second faster", "no difference shown", "no verdict")),
    },
    {"reason": text},
)

_CONTROL = record({"name": filled, "ratio": number(0), "interval": maybe(listed(number(1e-9), 2))})
_BUSYNESS = {
    "load_average_before": maybe(listed(number(0), 3)),
    "load_average_after": maybe(listed(number(0), 3)),
    "others_processors": maybe(number(0)),
    "too_busy": text,
}
_TIMING = record({"comparisons": listed(_RATIO), "control": maybe(_CONTROL), **_BUSYNESS})

RESULT = record(
    {
        "schema_version": one_of(READABLE_VERSIONS),
        "created": text,
        "command": listed(text),
        "environment": ENVIRONMENT,
        "dataset": _WHOLE_DATASET,
        "detector": DETECTOR,
        "settings": _SETTINGS,
        "pictures": record(
            {"total": COUNT, "common_subset": COUNT, "several_faces": COUNT},
            {"taken_over": COUNT},
        ),
        "shared_latency": mapping(_STAGE),
        "estimators": listed(_estimator, most=MOST_ESTIMATORS),
        "images": listed(_IMAGE),
    },
    {"predictions_sha256": text, "analysis": maybe(_ANALYSIS), "timing": maybe(_TIMING)},
)
"""What a result file must be for a report to be made of it."""

_BATCH = record(
    {
        "batch": whole(1),
        "n": COUNT,
        "faces_per_s": number(0),
        "samples_ms": listed(MILLISECONDS),
        "floor_ms": maybe(MILLISECONDS),
    }
)
_RESOURCES = record(
    {"parameters": maybe(COUNT), "macs_per_face": maybe(COUNT), "file_bytes": COUNT}
)
_SWEPT = record({"name": filled, "resources": _RESOURCES, "batch_sweep": listed(_BATCH)})
BENCH = record(
    {
        "schema_version": one_of(BENCH_VERSIONS),
        "created": text,
        "command": listed(text),
        "environment": ENVIRONMENT,
        # Files of version 1 lack the rest.
        "machine": record({"devices": listed(text), "threads": COUNT}, _BUSYNESS),
        "faces": record({"origin": text}),
        "estimators": listed(_SWEPT, most=MOST_ESTIMATORS),
        "comparisons": listed(_RATIO),
    }
)
"""What a file of `agebench bench` must be for a report to show it."""
