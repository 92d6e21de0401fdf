"""Formatting figures as text; rounding happens only here."""

from __future__ import annotations

from collections.abc import Sequence

from agebench.metrics.age_errors import Metric
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.intervals import Interval

NONE = "\u2013"
MINUS = "\u2212"


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure with the given number of decimals, or a dash.

    >>> number(7.436), number(-0.001), number(None) == NONE
    ('7.44', '0.00', True)
    """
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a figure with its sign.

    >>> signed(5.07), signed(0.001)
    ('+5.07', '0.00')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) > 0 else text


def figure(errors: ErrorSummary, metric: Metric) -> str:
    """Return a figure of a summary in the format of its metric."""
    shown = signed if metric.signed else number
    return shown(errors.figure(metric), metric.decimals)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction (0 to 1) in per cent.

    >>> percent(0.4567)
    '45.7'
    """
    return number(None if value is None else 100 * value, digits)


def bounds(interval: Interval | Sequence[float] | None, digits: int = 2) -> str:
    """Return "[low, high]", or "" without an interval.

    >>> bounds([6.61, 8.213]), bounds(None)
    ('[6.61, 8.21]', '')
    """
    if interval is None:
        return ""
    low, high = interval.ends if isinstance(interval, Interval) else interval
    return f"[{number(low, digits)}, {number(high, digits)}]"


def percent_bounds(interval: Interval | Sequence[float] | None) -> str:
    """Return the interval of a fraction in per cent.

    >>> percent_bounds([0.1, 0.25])
    '[10.0, 25.0]'
    """
    if interval is None:
        return ""
    ends = interval.ends if isinstance(interval, Interval) else interval
    return bounds([100 * end for end in ends], 1)


def milliseconds(value: float | None) -> str:
    """Return milliseconds with about three digits.

    >>> milliseconds(0.0312), milliseconds(55.51), milliseconds(205.2)
    ('0.031', '55.5', '205')
    """
    if value is None:
        return NONE
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return number(value, digits)


def shortened(text: str, letters: int) -> str:
    """Return `text`, shortened in the middle if it is longer than `letters`.

    >>> shortened("caffe-age-net:/tmp/random.caffemodel", 20)
    'caffe-age-…caffemodel'
    """
    if len(text) <= letters:
        return text
    half = letters // 2
    return f"{text[:half]}…{text[-half:]}"


def of_people(pictures: str, people: int | None) -> str:
    """Return the number of pictures, followed by the number of people in them if known.

    >>> of_people("93 pictures", 2), of_people("1 picture", 1), of_people("93 pictures", None)
    ('93 pictures of 2 people', '1 picture of 1 person', '93 pictures')
    """
    if people is None:
        return pictures
    return f"{pictures} of {people:,} {'person' if people == 1 else 'people'}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, whose plural ends in "s" unless it is given.

    >>> counted(1, "picture"), counted(2023, "picture"), counted(3, "person", "people")
    ('1 picture', '2,023 pictures', '3 people')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def significant(value: float | None) -> str:
    """Return a number with at least three significant digits, without exponent.

    >>> [significant(value) for value in (0.01234, 1.2345, 123.45, 1234.5, None)]
    ['0.0123', '1.23', '123', '1234', '-']
    """
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def amount(value: float | None, unit: str = "") -> str:
    """Return a large number in thousands, millions or billions of a unit.

    >>> amount(11_415_048), amount(709e6, "MAC"), amount(None), amount(12)
    ('11.4 M', '709 MMAC', 'unknown', '12.0')
    """
    if value is None:
        return "unknown"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{significant(value / factor)} {letter}{unit}"
    return f"{significant(value)} {unit}".rstrip()


def p_value(value: float | None) -> str:
    """Return a p-value with the precision of ten thousand permutations.

    >>> p_value(0.01234), p_value(None) == NONE
    ('0.0123', True)
    """
    return number(value, 4)
