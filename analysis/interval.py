"""Binomial intervals: Wilson's by default, Clopper and Pearson's where a guarantee is claimed, Jeffreys' for Bayesians;
and the interval of a median, which is one of ranks.

Wilson's also takes an effective number of runs that is not whole, which is how an interval for a censored estimate is
made from it (Rothman 1978). Wald's is not offered: with ten runs it covers 77% of the time when it claims 95%.
"""

from collections.abc import Sequence
from typing import Literal

import polars as pl
from scipy.stats import beta, binom, binomtest, norm

from analysis.errors import AnalysisError


def normal_quantile(level: float) -> float:
    """The two-sided standard normal quantile [1]: 1.96 at .95."""
    if not 0 < level < 1:
        raise AnalysisError(f"interval: level: got {level}; expected a number between 0 and 1, such as 0.95")
    return float(norm.ppf(0.5 + level / 2))


def binomial_interval(
    successes: int, *, n: int, level: float = 0.95, method: Literal["wilson", "exact", "jeffreys"] = "wilson"
) -> tuple[float, float]:
    """Interval for a probability from k successes in n runs [fraction]; (0, 1) without runs.

    Jeffreys' is the equal-tailed posterior under Beta(1/2, 1/2), drawn out to 0 and 1 at k = 0 and k = n.

    Source: Wilson 1927, JASA 22:209; Clopper and Pearson 1934, Biometrika 26:404; Brown, Cai and DasGupta 2001, Stat.
        Sci. 16:101 (Jeffreys). Computed by scipy.
    Checked by: test_interval.py::test_intervals_equal_newcombes_published_ones, ::test_jeffreys_equals_statsmodels
    """
    normal_quantile(level)  # refuses a level that is none
    if not 0 <= successes <= n:
        raise AnalysisError(f"interval: successes: got {successes} of {n}; expected between 0 and n")
    if n == 0:
        return 0.0, 1.0
    if method == "jeffreys":
        posterior = beta(successes + 0.5, n - successes + 0.5)
        low, high = posterior.ppf([0.5 - level / 2, 0.5 + level / 2])
        return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))
    found = binomtest(successes, n).proportion_ci(confidence_level=level, method=method)
    return float(found.low), float(found.high)


def wilson(share: pl.Expr, *, n: pl.Expr, level: float) -> tuple[pl.Expr, pl.Expr]:
    """Wilson's interval as two expressions [fraction]; n may be an effective number; (0, 1) where n is 0.

    Checked by: test_interval.py::test_expression_equals_scipys_wilson
    """
    z2 = normal_quantile(level) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z2**0.5 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n**2)).sqrt()
    low = pl.when(n <= 0).then(0.0).when(share <= 0).then(0.0).otherwise((centre - half).clip(0.0, 1.0))
    high = pl.when(n <= 0).then(1.0).when(share >= 1).then(1.0).otherwise((centre + half).clip(0.0, 1.0))
    return low, high


def median_interval(ordered: Sequence[float], *, level: float = 0.95) -> tuple[float, float | None, float | None]:
    """Median of ascending values, with an interval between two of them, whatever their distribution [theirs].

    Both ends are null where there are too few values for an interval at this level: fewer than six at .95.

    Source: Conover 1999, Practical Nonparametric Statistics, 3.2.
    Checked by: test_interval.py::test_the_interval_of_a_median_equals_scipys
    """
    n = len(ordered)
    rank = int(binom.ppf((1 - level) / 2, n, 0.5))
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return (middle, ordered[rank - 1], ordered[n - rank]) if rank else (middle, None, None)
