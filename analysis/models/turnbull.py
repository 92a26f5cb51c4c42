"""P(eureka by step) where eurekas are known between two steps only: Turnbull's estimate, which assumes no law of time.

With wide bounds a curve of stamped steps is off by as much as the bounds are wide. This one puts probability on the
shortest stretches that the runs' bounds single out, and says nothing of what happens within one. Own code: lifelines
takes bounds as closed, so that runs inspected in turn overlap at each inspection, which changes the curve.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.errors import AnalysisError
from analysis.interval import wilson
from analysis.models.times import Stamps, Times, times_of
from analysis.resample import bootstrap_weights

Array = npt.NDArray[np.float64]
_MOST_ROUNDS = 20_000
_NONE = 1e-6  # a stretch of less has none [fraction]


def interval_curve(
    events: pl.DataFrame,
    *,
    by: Sequence[str] = (),
    stamps: Stamps = "interval",
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """P(eureka by step), where the runs determine it.

    Diverged and gradually solved runs count as never, as in the likelihoods of `model`.

    Args:
        events: EVENTS rows with `after_step` and `by_step` [one row a run].
        by: grouping columns.
        stamps: interval, or exact to take each eureka at its midpoint.
        level: two-sided coverage [fraction].
        resamples: bootstrap samples of the runs that the interval's variance is from.
        seed: of the bootstrap.

    Returns:
        One row a stretch that holds probability, in order: the grouping columns; after_step, by_step: the chance rises
        somewhere in (after_step, by_step] [steps]; chance, of a eureka by by_step, and chance_lo, chance_hi: Wilson's
        at the effective number of runs [fraction]; n [runs]. No row where no run had one.

    Raises:
        NoRuns: a group of failed runs alone. AnalysisError: runs that entered late, which it cannot hold.

    Source: Turnbull 1976, JRSS B 38:290.
    Checked by: test_turnbull.py::test_sixty_overlapping_bounds_are_rs and ::test_inspected_turbines_are_counted
    """
    if "entry_step" in events.columns and (events["entry_step"] > 0).any():
        raise AnalysisError("events: entry_step: got late entries; expected none here. `model(kind='aft')` holds them")
    kept = events.filter(pl.col("status") != "failed")
    parts = kept.sort(by, nulls_last=True).partition_by(by, maintain_order=True) if by else [kept]
    rng = np.random.default_rng(seed)
    rows = []
    for part in parts:
        times = times_of(part, stamps=stamps)
        after, until, member = stretches(times)
        weights = bootstrap_weights(np.zeros(times.n, np.int64), resamples=resamples, rng=rng)
        mass = masses(member, np.ones((1, times.n)))[0]
        variance = masses(member, weights, tolerance=1e-5).cumsum(axis=1).var(axis=0)
        is_told = np.isfinite(until) & (mass > _NONE)
        chance = np.minimum(mass.cumsum(), 1.0)
        found = {"after_step": after, "by_step": until, "chance": chance, "variance": variance}
        names = [pl.lit(part[name][0], dtype=part.schema[name]).alias(name) for name in by]
        rows.append(pl.DataFrame(found).filter(pl.Series(is_told)).select(*names, *found, n=pl.lit(times.n)))
    f, n = pl.col("chance"), pl.col("n")
    effective = pl.when(pl.col("variance") > 0).then((f * (1 - f) / pl.col("variance")).clip(1.0, n)).otherwise(n)
    table = pl.concat(rows).with_columns(effective=effective)
    low, high = wilson(f, n=pl.col("effective"), level=level)
    return table.select(*by, "after_step", "by_step", "chance", chance_lo=low, chance_hi=high, n="n")


def stretches(times: Times) -> tuple[Array, Array, Array]:
    """The stretches (after, until] that may hold probability [J; steps], and which run may have its eureka in which.

    A bound's place is its rank among all bounds; at one step, an exact eureka opens before what closes there, and what
    opens after it comes last. The last stretch is infinite where some runs may never have one.
    """
    low = np.where(times.is_lost, np.inf, times.low)
    exact = times.is_exact | times.is_lost
    steps, rank = np.unique(np.concatenate([low, times.high]), return_inverse=True)
    opens, closes = 3 * rank[: times.n] + np.where(exact, 0, 2), 3 * rank[times.n :] + 1
    bounds = np.unique(np.concatenate([opens, closes]))
    is_stretch = (bounds[:-1] % 3 != 1) & (bounds[1:] % 3 == 1)
    left, right = bounds[:-1][is_stretch], bounds[1:][is_stretch]
    member = (opens[:, None] <= left) & (right <= closes[:, None])  # (N, J)
    return steps[left // 3], steps[right // 3], member.astype(np.float64)


def masses(member: Array, weights: Array, *, tolerance: float = 1e-9) -> Array:
    """The likeliest probability of each stretch [B, J], for runs with weights [B, N], by self-consistency."""
    kinds, kind = np.unique(member, axis=0, return_inverse=True)  # runs with the same bounds are one
    total = np.zeros((len(weights), len(kinds)))
    np.add.at(total.T, kind.ravel(), weights.T)
    total /= total.sum(axis=1, keepdims=True)
    mass = np.full((len(weights), member.shape[1]), 1 / member.shape[1])
    for _ in range(_MOST_ROUNDS):
        share = mass @ kinds.T  # (B, kinds)
        closer = mass * (np.divide(total, share, out=np.zeros_like(total), where=total > 0) @ kinds)
        if np.abs(closer - mass).max() < tolerance:
            return np.asarray(closer)
        mass = closer
    return np.asarray(mass)
