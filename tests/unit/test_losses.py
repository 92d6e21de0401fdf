"""The losses against the published formulas: by hand, and against an independent numpy version."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.metrics import age_classes
from agebench.types import AgeBins, Floats

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train import formulas  # noqa: E402 - only where torch is there
from agebench.train.formulas import CoralHead, bin_of_age, decode  # noqa: E402
from agebench.train.losses import LOSSES, Targets  # noqa: E402
from agebench.train.sections import LOSS_NAMES, LossSettings  # noqa: E402

BINS = 117
YEARS = torch.arange(BINS, dtype=torch.float32)
THREE = torch.tensor([10.0, 11.0, 12.0])


def _logits(n: int = 6, bins: int = BINS, seed: int = 0) -> Any:
    return torch.from_numpy(
        np.random.default_rng(seed).normal(0, 3, (n, bins)).astype(np.float32)
    ).requires_grad_()


def _probabilities(logits: Any) -> Floats:
    values = logits.detach().numpy().astype(np.float64)
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _backward(loss: Any) -> None:
    loss.sum().backward()


AGES = torch.tensor([0.0, 1.0, 26.0, 54.5, 90.0, 116.0])


# By hand: three bins of 10, 11 and 12 years with probabilities 1/2, 1/4, 1/4; mean 10.75.
HALF = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))


def test_cross_entropy_by_hand() -> None:
    assert formulas.cross_entropy(HALF, torch.tensor([11.0]), THREE).item() == pytest.approx(
        math.log(4)
    )
    assert formulas.cross_entropy(HALF, torch.tensor([10.99]), THREE).item() == pytest.approx(
        math.log(2)
    )


def test_mean_variance_by_hand() -> None:
    # Mean 10.75; variance 0.5 * 0.75^2 + 0.25 * 0.25^2 + 0.25 * 1.25^2 = 0.6875.
    expected = math.log(4) + 0.2 * (10.75 - 12) ** 2 / 2 + 0.05 * 0.6875
    got = formulas.mean_variance(HALF, torch.tensor([12.0]), THREE)
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_dldl_by_hand() -> None:
    # Gaussian around 11 of sigma 2: exp(-1/8), 1, exp(-1/8), rescaled.
    side = math.exp(-1 / 8)
    wanted = [side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)]
    divergence = sum(p * math.log(p / q) for p, q in zip(wanted, [0.5, 0.25, 0.25], strict=True))
    got = formulas.dldl(HALF, torch.tensor([11.0]), THREE)
    assert got.item() == pytest.approx(divergence + 0.25, rel=1e-5)
    entropy = -sum(p * math.log(p) for p in wanted)
    crossed = formulas.dldl(HALF, torch.tensor([11.0]), THREE, divergence="ce", l1_weight=0.0)
    assert crossed.item() == pytest.approx(divergence + entropy, rel=1e-5)


def test_coral_by_hand() -> None:
    # Age 11 is older than 10, not older than 11: -log sigmoid(2) - log(1 - sigmoid(-1)).
    logits = torch.tensor([[2.0, -1.0]])
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert formulas.coral(logits, torch.tensor([11.0]), THREE).item() == pytest.approx(expected)
    older = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]
    shares = formulas.coral_probabilities(logits)[0].tolist()
    assert shares == pytest.approx([1 - older[0], older[0] - older[1], older[1]], abs=1e-6)


def test_regression_by_hand() -> None:
    for age, plain, smooth in ((10.0, 0.75, 0.75**2 / 4), (15.0, 4.25, 4.25 - 1.0)):
        ages = torch.tensor([age])
        assert formulas.regression(HALF, ages, THREE).item() == pytest.approx(plain, rel=1e-5)
        got = formulas.regression(HALF, ages, THREE, kind="smooth-l1", smooth_years=2.0)
        assert got.item() == pytest.approx(smooth, rel=1e-5)


def test_interval_likelihood_by_hand() -> None:
    low, high = torch.tensor([10.0, 11.0, 10.0]), torch.tensor([11.0, 12.0, 12.0])
    got = formulas.interval_likelihood(HALF.expand(3, 3), low, high, THREE)
    assert got.tolist() == pytest.approx([-math.log(0.75), math.log(2), 0.0], abs=1e-6)


def _numpy_loss(name: str, logits: Any, ages: Floats) -> Floats:
    """The formulas once more, written otherwise: with loops over pictures and bins."""
    years = np.arange(BINS, dtype=np.float64)
    result = []
    for row, (shares, age) in enumerate(zip(_probabilities(logits), ages, strict=False)):
        mean = float(np.dot(shares, years[: len(shares)]))
        if name == "coral":
            values = logits.detach().numpy()[row].astype(np.float64)
            total = 0.0
            for rank, value in enumerate(values):
                older = 1 / (1 + np.exp(-value))
                total -= np.log(older) if math.floor(age) > rank else np.log(1 - older)
            result.append(total)
        elif name == "ce":
            result.append(-np.log(shares[math.floor(age)]))
        elif name == "mean-variance":
            variance = np.dot(shares, years**2) - mean**2
            wrong = (mean - age) ** 2
            result.append(-np.log(shares[math.floor(age)]) + 0.1 * wrong + 0.05 * variance)
        elif name == "regression":
            result.append(abs(mean - age))
        else:
            wanted = np.exp(-((years - age) ** 2) / (2 * 2.0**2)) / (2 * np.sqrt(2 * np.pi))
            wanted = wanted / wanted.sum()
            some = wanted > 1e-300
            divergence = np.sum(wanted[some] * np.log(wanted[some] / shares[some]))
            result.append(divergence + abs(mean - age))
    return np.asarray(result)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_against_an_independent_version(name: Any) -> None:
    spec = LOSSES[name]
    logits = _logits(bins=spec.outputs(BINS))
    got = spec.per_sample(logits, Targets.exact(AGES), YEARS, LossSettings(name))
    assert got.dtype == torch.float32
    assert got.detach().numpy() == pytest.approx(_numpy_loss(name, logits, AGES.numpy()), rel=2e-5)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_the_gradient_is_that_of_the_loss(name: Any) -> None:
    spec = LOSSES[name]
    years = torch.arange(6, dtype=torch.float64)
    ages = torch.tensor([0.0, 2.3, 5.0, 1.0], dtype=torch.float64)
    lows, highs = ages.clone(), ages.clone()
    lows[3], highs[3] = 1.0, 3.0
    targets = Targets(ages, lows, highs)
    # In float32, since the losses are; hence a wide step and tolerance.
    generator = np.random.default_rng(4)
    start = np.sort(generator.normal(0, 1, (4, spec.outputs(6))), axis=1)[:, ::-1].copy()
    logits = torch.from_numpy(start.astype(np.float32)).requires_grad_()
    _backward(spec.per_sample(logits, targets, years, LossSettings(name)).sum())
    step = 1e-2
    for place in np.ndindex(*logits.shape):
        sides = []
        for sign in (1, -1):
            moved = logits.detach().clone()
            moved[place] += sign * step
            sides.append(spec.per_sample(moved, targets, years, LossSettings(name)).sum().item())
        assert logits.grad[place].item() == pytest.approx(
            (sides[0] - sides[1]) / (2 * step), abs=6e-3
        )


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_rows_with_a_range_use_its_likelihood_and_never_look_at_ages(name: Any) -> None:
    spec = LOSSES[name]
    logits = _logits(bins=spec.outputs(BINS))
    lows, highs = AGES.clone(), AGES.clone()
    lows[2], highs[2] = 25.0, 32.0
    ages = AGES.clone()
    ages[2] = torch.nan
    got = spec.per_sample(logits, Targets(ages, lows, highs), YEARS, LossSettings(name))
    exact = spec.per_sample(logits, Targets.exact(AGES), YEARS, LossSettings(name))
    others = [0, 1, 3, 4, 5]
    assert got[others].tolist() == exact[others].tolist()
    shares = spec.to_probabilities(logits)[2].double()
    if name != "coral":  # unordered rank logits: nearly all mass may be lowered away
        assert got[2].item() == pytest.approx(-shares[25:33].sum().log().item(), rel=1e-5)
    _backward(got)
    assert torch.isfinite(logits.grad).all()


def test_the_range_likelihood_of_ranks_is_that_of_their_distribution() -> None:
    ranks = torch.linspace(4, -6, BINS - 1)[None, :].expand(5, -1)
    lows = torch.tensor([0.0, 25.0, 100.0, 0.0, 40.0])
    highs = torch.tensor([3.0, 32.0, 116.0, 116.0, 41.0])
    shares = formulas.coral_probabilities(ranks).double()
    expected = [
        -shares[row, int(low) : int(high) + 1].sum().log().item()
        for row, (low, high) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True))
    ]
    got = formulas.coral_interval_likelihood(ranks, lows, highs, YEARS)
    assert got.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_far_out_ranges_have_finite_losses_and_gradients() -> None:
    for name in ("dldl", "coral"):
        spec = LOSSES[name]
        size = spec.outputs(BINS)
        logits = torch.linspace(200, -200, size)[None, :].clone().requires_grad_()
        flat = torch.zeros((1, size), requires_grad=True)
        for outputs in (logits, flat):
            targets = Targets.ranges(torch.tensor([115.0]), torch.tensor([130.0]))
            loss = spec.per_sample(outputs, targets, YEARS, LossSettings(spec.name))
            _backward(loss)
            assert torch.isfinite(loss).all()
            assert torch.isfinite(outputs.grad).all()
            assert outputs.grad.abs().sum() > 0


def test_a_range_never_is_empty_and_a_year_is_the_cross_entropy() -> None:
    logits = _logits()
    lows = torch.floor(AGES)
    got = formulas.interval_likelihood(logits, lows, lows + 0.9, YEARS)
    assert got.tolist() == pytest.approx(formulas.cross_entropy(logits, AGES, YEARS).tolist())
    coarse = torch.tensor([2.0, 7.0, 12.0])  # 0-4, 5-9, 10-14
    inside = formulas.interval_likelihood(
        torch.zeros(1, 3), torch.tensor([5.0]), torch.tensor([6.0]), coarse
    )
    assert inside.item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_mixed_rows_are_the_weighted_mean_of_both_losses(name: Any) -> None:
    spec, settings = LOSSES[name], LossSettings(name)
    logits = _logits(bins=spec.outputs(BINS))
    first, second = Targets.exact(AGES), Targets.ranges(AGES.flip(0) * 0.5, AGES.flip(0) * 0.9)
    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
    mixed = spec.per_sample(logits, first.mixed(second, share), YEARS, settings)
    one, two = (spec.per_sample(logits, each, YEARS, settings) for each in (first, second))
    assert torch.allclose(mixed, share * one + (1 - share) * two)


def test_half_precision_costs_no_years() -> None:
    """Under autocast a matrix product would round an expectation of 57.3 to a quarter year."""
    logits = _logits()
    for name in LOSS_NAMES:
        spec = LOSSES[name]
        outputs = logits[:, : spec.outputs(BINS)]
        plain = spec.per_sample(outputs, Targets.exact(AGES), YEARS, LossSettings(name))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = spec.per_sample(outputs, Targets.exact(AGES), YEARS, LossSettings(name))
            half = spec.per_sample(outputs.bfloat16(), Targets.exact(AGES), YEARS, LossSettings())
        assert torch.equal(plain, cast)
        assert half.dtype == torch.float32


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_probabilities_are_distributions(name: Any) -> None:
    spec = LOSSES[name]
    shares = spec.to_probabilities(_logits(bins=spec.outputs(BINS)).bfloat16())
    assert shares.shape == (6, BINS)
    assert shares.dtype == torch.float32
    assert (shares >= 0).all()
    assert shares.sum(dim=1).tolist() == pytest.approx([1.0] * 6, abs=1e-5)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_training_on_the_loss_finds_the_ages(name: Any) -> None:
    """A line from one feature to the outputs of the loss learns which age each feature has."""
    spec, settings = LOSSES[name], LossSettings(name)
    years = torch.arange(8, dtype=torch.float32)
    features, ages = torch.eye(8), torch.arange(8, dtype=torch.float32)
    torch.manual_seed(0)
    head = spec.head(8, 8)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.3)
    for _ in range(80):
        head.zero_grad()
        _backward(spec.per_sample(head(features), Targets.exact(ages), years, settings).mean())
        optimiser.step()
    got = decode(spec.to_probabilities(head(features)), years)
    assert (got - ages).abs().mean().item() < 0.5


def test_the_head_of_coral_has_one_weight_for_all_ranks_and_biases_downwards() -> None:
    head = CoralHead(16, BINS)
    ranks = head(torch.randn(4, 16))
    assert ranks.shape == (4, BINS - 1)
    assert sum(part.numel() for part in head.parameters()) == 16 + BINS - 1
    assert (ranks.diff(dim=1) < 0).all()


def test_contradicting_ranks_are_lowered_and_nothing_goes_below_zero() -> None:
    shares = formulas.coral_probabilities(torch.tensor([[0.0, 3.0, -1.0]]))[0]
    low = 1 / (1 + math.exp(1))
    assert shares.tolist() == pytest.approx([0.5, 0.0, 0.5 - low, low], abs=1e-6)


def test_the_bin_of_an_age_is_by_completed_years_and_the_younger_of_two() -> None:
    ages = torch.tensor([0.0, 32.9, 116.0, 119.0])
    assert bin_of_age(ages, YEARS).tolist() == [0, 32, 116, 116]
    assert bin_of_age(torch.tensor([11.5, 13.0]), torch.tensor([10.0, 12.0, 14.0])).tolist() == [
        0,
        1,
    ]


def test_decoding_agrees_with_the_buckets() -> None:
    shares = LOSSES["dldl"].to_probabilities(_logits(200, seed=3).detach())
    ties = torch.zeros(3, BINS)
    ties[0, [20, 60]] = 0.5
    ties[1, :10] = 0.1
    ties[2, 116] = 1.0
    every = torch.cat([shares, ties])
    years = np.arange(BINS)
    assert decode(every, YEARS).numpy() == pytest.approx(
        age_classes.expectation(every.numpy(), years), abs=1e-9
    )
    medians = age_classes.median(every.numpy(), AgeBins.single_years(0, 116))
    assert decode(every, YEARS, "median").numpy() == pytest.approx(medians, abs=1e-4)
    assert medians[-3:].tolist() == [20.0, 4.0, 116.0]
    # Ten times 0.05 add up to a little less than one half, and have reached it all the same.
    twenty = torch.full((1, 20), 0.05, dtype=torch.float64)
    assert decode(twenty, YEARS[:20], "median").item() == pytest.approx(9.0)
    with pytest.raises(UsageError, match="no rule 'mode'"):
        decode(shares, YEARS, "mode")  # type: ignore[arg-type]  # wrong on purpose


def test_what_does_not_fit_is_refused() -> None:
    spec = LOSSES["coral"]
    with pytest.raises(ValueError, match=r"coral: expected outputs of shape \(6, 116\)"):
        spec.per_sample(_logits(), Targets.exact(AGES), YEARS, LossSettings("coral"))
    targets = Targets.exact(AGES)
    with pytest.raises(ValueError, match="of shape"):
        Targets(AGES, AGES[:2], AGES)
    with pytest.raises(ValueError, match="both other and mixup_lambda"):
        Targets(AGES, AGES, AGES, other=targets)
    with pytest.raises(ValueError, match="6 targets that are not mixed"):
        targets.mixed(targets.mixed(targets, AGES * 0), AGES * 0)
    with pytest.raises(ValueError, match="mixup_lambda of shape"):
        targets.mixed(targets, torch.tensor(0.5))


def test_targets_move_with_all_they_hold() -> None:
    targets = Targets.exact(AGES).mixed(Targets.ranges(AGES, AGES), AGES * 0).to("meta")
    assert targets.mixup_lambda is not None
    assert targets.other is not None
    devices = (targets.ages.device, targets.mixup_lambda.device, targets.other.lows.device)
    assert {device.type for device in devices} == {"meta"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "dldlv2"}, "did you mean 'dldl'"),
        ({"sigma_years": 0.0}, "sigma_years must be above 0"),
        ({"sigma_years": math.nan}, "sigma_years must be above 0"),
        ({"l1_weight": -1.0}, "l1_weight must be 0 or more"),
        ({"divergence": "js"}, "no divergence 'js'"),
        ({"regression": "l2"}, "known: l1, smooth-l1"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LossSettings(**wrong)
