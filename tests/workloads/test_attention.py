"""Multipliers and normalised weights against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from workloads.attention import Heat, NormSoftmax, Softmax
from workloads.layers import SelfAttention


def multiplier(spec, step=0, *, budget_steps=300, head_width=64):
    return spec.multiplier(step=step, budget_steps=budget_steps, head_width=head_width)


@pytest.mark.parametrize(("temperature", "c"), [(1.0, 0.125), (2.0, 0.0625), (0.5, 0.25)])
@pytest.mark.parametrize("variant", [Softmax, NormSoftmax])
def test_temperature_counts_in_units_of_the_usual_one(variant, temperature, c):
    assert multiplier(variant(temperature=temperature), step=7) == c


# Hoffmann et al. 2024, the authors' half_cosine with E = 300 epochs, c from 3.0 to 0.125 (d = 64)
HALF_COSINE = {0: 3.0, 30: 2.725, 60: 2.007, 75: 1.562, 90: 1.118, 120: 0.400, 150: 0.125, 151: 0.125, 299: 0.125}


@pytest.mark.parametrize(("epoch", "c"), HALF_COSINE.items())
def test_heat_half_cosine_takes_the_authors_values(epoch, c):
    assert multiplier(Heat(), epoch) == pytest.approx(c, abs=6e-4)
    by_epoch = Heat(epoch_steps=117)
    steps = (epoch * 117 + i for i in (0, 58, 116))
    assert {multiplier(by_epoch, step, budget_steps=35_100) for step in steps} == {multiplier(Heat(), epoch)}


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("linear", (3.0, 2.28125, 1.5625, 0.125)), ("cosine", (3.0, 2.578966, 1.5625, 0.125))],
)
def test_heat_linear_and_cosine_fall_over_the_whole_treatment(schedule, values):
    steps = (0, 75, 150, 300)
    assert [multiplier(Heat(schedule=schedule), step) for step in steps] == pytest.approx(values, abs=1e-6)


def test_heat_stays_at_its_end_after_the_treatment():
    spec = Heat(schedule="linear", over_steps=100, start_multiplier=2.0, end_multiplier=0.5)
    assert [multiplier(spec, step) for step in (0, 50, 100, 299)] == [2.0, 1.25, 0.5, 0.5]


def weights_of(scores: list[float], *, statistic: str, c: float) -> list[float]:
    """What `SelfAttention` makes of one query's scores."""
    layer = SelfAttention(4, 1, statistic=statistic, qkv_bias=False)
    lanes = torch.tensor(scores).view(1, 1, 1, -1, 1)  # (K, H, Q, T, B)
    return layer._weights(lanes, torch.tensor(c).view(1, 1, 1, 1, 1), keys_axis=3).flatten().tolist()


def softmax(*logits: float) -> list[float]:
    return [math.exp(z) / sum(map(math.exp, logits)) for z in logits]


# scores 1, 2, 3, 6: mean 3; squares 4 + 1 + 0 + 9 = 14; biased variance 3.5, unbiased std sqrt(14/3) = 2.160247
SCORES = [1.0, 2.0, 3.0, 6.0]


@pytest.mark.parametrize(
    ("statistic", "c", "divisor"),
    [
        ("none", 0.5, 2.0),
        ("var", 0.125, 3.5),
        ("std", 0.125, 2.160247),
        ("var", 0.5, 2.0),  # the cap, 1/c, is the smaller
        ("std", 0.5, 2.0),
        ("std", 0.45, 2.160247),
    ],
)
def test_weights_divide_scores_by_the_smaller_of_cap_and_statistic(statistic, c, divisor):
    wanted = softmax(*(score / divisor for score in SCORES))
    assert weights_of(SCORES, statistic=statistic, c=c) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("statistic", ["var", "std"])
def test_equal_scores_give_equal_weights(statistic):
    assert weights_of([2.0] * 4, statistic=statistic, c=0.125) == [0.25] * 4
