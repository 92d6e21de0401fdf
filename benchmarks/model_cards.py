"""Update the figures in the model cards from results of `agebench compare`.

    agebench compare multicrop-resnet multicrop-resnet-small multicrop-resnet-open \
        caffe-age-net-utkface caffe-age-net constant --dataset utkface --root UTKFACE \
        --protocol utkface-full --part test --out RESULTS
    python benchmarks/model_cards.py test=RESULTS/result.json

For each name, a card has a place `<!-- figures test -->` ... `<!-- end -->`; the text in between is
replaced.  The cards of this project's models are pretrained/MODEL.md; that of the published
`caffe-age-net` is in docs/models.md.  `--only` leaves the other cards unchanged.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARDS = {
    "multicrop-resnet": ROOT / "pretrained" / "multicrop-resnet.md",
    "multicrop-resnet-small": ROOT / "pretrained" / "multicrop-resnet-small.md",
    "multicrop-resnet-open": ROOT / "pretrained" / "multicrop-resnet-open.md",
    "caffe-age-net-utkface": ROOT / "pretrained" / "caffe-age-net-utkface.md",
    "caffe-age-net": ROOT / "docs" / "models.md",
}


def _interval(low_high: list[float]) -> str:
    return f"{low_high[0]:.2f} to {low_high[1]:.2f}"


def table(result: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the lines with one estimator's figures."""
    estimator = next(item for item in result["estimators"] if item["name"] == name)
    analysis = result["analysis"]["estimators"][name]
    errors = estimator["errors"]
    seen = estimator["seen_in_training"]
    yield ""
    yield (
        f"{errors['n']:,} pictures scored, {estimator['missed']} without a face, "
        f"{estimator['failed']} failed"
        + ("" if seen is None else f"; {seen['count']} of them seen in training")
        + f". MAE **{errors['mae_years']:.2f}** years ({_interval(errors['mae_interval'])}), "
        f"RMSE {errors['rmse_years']:.2f}, median error {errors['median_years']:.2f}, "
        f"bias {errors['bias_years']:+.2f}."
    )
    calibration = analysis["calibration"]
    if calibration:
        coverage = ", ".join(
            f"{100 * item['fraction']:.0f} % in the {100 * item['level']:.0f} % interval"
            for item in calibration["coverage"]
        )
        yield f"Truth inside: {coverage}."
    yield ""
    yield "| | n | MAE | 95 % interval | bias |"
    yield "|---|---:|---:|---|---:|"
    for group in analysis["groups"]:
        label = f"{group['attribute']} {group['value']}"
        if group["mae_years"] is None:
            yield f"| {label} | {group['n']} | too few | | |"
        else:
            yield (
                f"| {label} | {group['n']} | {group['mae_years']:.2f} | "
                f"{_interval(group['mae_interval'])} | {group['bias_years']:+.2f} |"
            )
    yield ""


def filled(text: str, place: str, lines: Iterable[str]) -> str:
    """Return a page with the text in one of its places replaced.

    Raises:
        ValueError: the page doesn't contain that place, or contains it more than once.
    """
    found = re.compile(rf"(<!-- figures {re.escape(place)} -->\n).*?(<!-- end -->)", re.DOTALL)
    body = "\n".join(lines)
    text, count = found.subn(lambda match: f"{match[1]}{body}\n{match[2]}", text)
    if count != 1:
        raise ValueError(f"expected one place 'figures {place}', found {count}")
    return text


def fill(card: Path, place: str, lines: Iterable[str]) -> None:
    """Replace the text in one of a card's places."""
    try:
        text = filled(card.read_text(encoding="utf-8"), place, lines)
    except ValueError as error:
        raise SystemExit(f"{card}: {error}") from error
    card.write_text(text, encoding="utf-8")


def main() -> None:
    """Fill the places of every card whose model is in the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", metavar="PLACE=RESULT.json")
    parser.add_argument("--only", action="append", choices=CARDS, help="of these models")
    args = parser.parse_args()
    for item in args.results:
        place, _, path = item.partition("=")
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        measured = {estimator["name"] for estimator in result["estimators"]}
        for name in measured & set(args.only or CARDS):
            fill(CARDS[name], place, table(result, name))


if __name__ == "__main__":
    main()
