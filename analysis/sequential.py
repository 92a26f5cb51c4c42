"""Looking again and again while runs come in, without paying for it in errors.

Two questions. *How large is P?* Seeds are added to a config until its interval is narrow enough; since the interval
itself says when to stop, a plain 95% interval would not cover 95% of the time. Its level is raised until the exact
coverage of the whole procedure, worked out by counting every path of successes, is what was asked (`WidthRule`).
*Do two configs differ?* Each look spends a part of the error allowed for all of them (`spending_bounds`), and the
interval at a look is as wide as its share demands, so that it holds whichever look is the last
(`difference_interval`, `log_rank_z`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binom, norm

from analysis.errors import AnalysisError
from analysis.interval import normal_quantile
from analysis.power import runs_for_width

Array = npt.NDArray[np.float64]
STRETCHES = 10  # of [0, 1], each of which is to be covered on its own
_quantile = lru_cache(maxsize=256)(normal_quantile)
_CHANCES = (np.arange(50 * STRETCHES) + 0.5) / (50 * STRETCHES)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


@dataclass(frozen=True, kw_only=True)
class WidthRule:
    """Add seeds until Wilson's interval is narrow enough.

    Attributes:
        width: of the interval, at most [fraction].
        level: coverage of the procedure [fraction].
        look_level: level at which each look's interval is made, so that the procedure has its own [fraction].
        first, each: runs before the first look, and between looks [runs].
        most: by then the interval is narrow enough whatever comes [runs].
    """

    width: float
    level: float
    look_level: float
    first: int
    each: int
    most: int

    def interval(self, events: int, *, runs: int) -> tuple[float, float]:
        """Interval of P at a look; (0, 1) without runs [fraction]."""
        if runs == 0:
            return 0.0, 1.0
        return _ends(events, runs, _quantile(self.look_level))

    def is_narrow(self, events: int, *, runs: int) -> bool:
        """Whether no further runs are wanted."""
        low, high = self.interval(events, runs=runs)
        return runs >= self.first and high - low <= self.width + 1e-12

    def coverage(self, chances: Array) -> tuple[Array, Array]:
        """Exactly, for each true P: how often the last interval holds it [fraction], and the mean of runs [runs]."""
        return _operating(chances, width=self.width, look_level=self.look_level, first=self.first, each=self.each)


@lru_cache(maxsize=64)
def width_rule(width: float, *, level: float = 0.95, first: int = 8, each: int = 4) -> WidthRule:
    """The rule whose coverage, averaged over any tenth of [0, 1], is never below the level.

    Args:
        width: of the interval, at most [fraction].
        level: coverage [fraction].
        first: runs before the first look [runs].
        each: runs between looks [runs].

    Raises:
        AnalysisError: a width or level that is none, or fewer than one run a look.

    Source: the exact calibration of Frey 2010, Am. Stat. 64:242, of Wilson's interval by mean coverage.
    Checked by: test_sequential.py::test_every_stretch_of_chances_is_covered; coverage/RESULTS.md
    """
    normal_quantile(level)
    if not 0 < width < 1:
        raise AnalysisError(f"width: got {width}; expected a number between 0 and 1, such as 0.3")
    if min(first, each) < 1:
        raise AnalysisError(f"looks: got first {first}, each {each}; expected one run or more")
    low, high = level, 1 - (1 - level) / 8
    while high - low > (1 - level) / 200:
        middle = (low + high) / 2
        covered, _ = _operating(_CHANCES, width=width, look_level=middle, first=first, each=each)
        is_enough = covered.reshape(STRETCHES, -1).mean(1).min() >= level
        low, high = (low, middle) if is_enough else (middle, high)
    plain = runs_for_width(width, level=high)
    most = first + max(0, -(-(plain - first) // each)) * each
    return WidthRule(width=width, level=level, look_level=high, first=first, each=each, most=most)


def _operating(chances: Array, *, width: float, look_level: float, first: int, each: int) -> tuple[Array, Array]:
    """Follow the law of the successes from look to look, and take out what stops there."""
    covered, runs = np.zeros(len(chances)), np.zeros(len(chances))
    going, n = np.ones((len(chances), 1)), 0
    while going.any():
        step = first if n == 0 else each
        added = binom.pmf(np.arange(step + 1)[None], step, chances[:, None])
        grown = np.zeros((len(chances), n + step + 1))
        for j in range(step + 1):
            grown[:, j : j + n + 1] += going * added[:, j : j + 1]
        n += step
        low, high = _wilson(np.arange(n + 1.0), float(n), _quantile(look_level))
        stops = high - low <= width + 1e-12
        holds = (low <= chances[:, None]) & (chances[:, None] <= high)
        covered += (grown * (stops & holds)).sum(1)
        runs += (grown * stops).sum(1) * n
        going = grown * ~stops
    return covered, runs


def _wilson(events: Array, runs: float, z: float) -> tuple[Array, Array]:
    share = events / runs
    centre = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * np.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2))
    return np.where(events == 0, 0.0, centre - half), np.where(events == runs, 1.0, centre + half)


def _ends(events: int, runs: int, z: float) -> tuple[float, float]:
    """`_wilson` of one config."""
    share = events / runs
    centre = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2))
    return (0.0 if events == 0 else centre - half), (1.0 if events == runs else centre + half)


@lru_cache(maxsize=64)
def spending_bounds(fractions: tuple[float, ...], *, alpha: float = 0.05, shape: str = "obrien_fleming") -> Array:
    """Critical values of |z| at each look, such that all looks together err with probability alpha.

    Args:
        fractions: information at each look over that at the last, ascending to 1 [fraction].
        alpha: two-sided error of all looks together [fraction].
        shape: how it is spent: `obrien_fleming` keeps it for the end, `pocock` spends it evenly.

    Returns:
        One value a look [standard errors].

    Raises:
        AnalysisError: fractions that do not rise to 1, or a shape that there is not.

    Source: Lan and DeMets 1983, Biometrika 70:659; integration of Armitage, McPherson and Rowe 1969, JRSS A 132:235.
    Checked by: test_sequential.py::test_bounds_equal_the_published_ones
    """
    if shape not in ("obrien_fleming", "pocock"):
        raise AnalysisError(f"shape: got {shape!r}; expected obrien_fleming or pocock")
    times = np.array(fractions)
    if not len(times) or times[0] <= 0 or (np.diff(times) <= 0).any() or abs(times[-1] - 1) > 1e-9:
        raise AnalysisError(f"fractions: got {fractions}; expected numbers above 0 that rise to 1")
    if shape == "pocock":
        spent = alpha * np.log(1 + (np.e - 1) * times)
    else:
        spent = 4 * norm.sf(norm.ppf(1 - alpha / 4) / np.sqrt(times))
    bounds: list[float] = []
    nodes, weights = (
        np.zeros(1),
        np.ones(1),
    )  # the law of z over paths that have not been stopped: at first, z of nothing
    before = 0.0
    for now, share in zip(times, np.diff(spent, prepend=0.0), strict=True):
        slope, spread = np.sqrt(before / now), np.sqrt(1 - before / now)
        means = slope * nodes / spread
        bound = float(brentq(_excess, 0.0, 12.0, args=(spread, means, weights, share), xtol=1e-10))
        bounds.append(bound)
        at = bound * _NODES
        density = norm.pdf(at[:, None] / spread - means[None]) @ weights / spread
        nodes, weights, before = at, bound * _WEIGHTS * density, now
    return np.array(bounds)


def _excess(bound: float, spread: float, means: Array, weights: Array, share: float) -> float:
    """Mass beyond ±bound, over what may be spent there."""
    return float(weights @ (norm.sf(bound / spread - means) + norm.cdf(-bound / spread - means)) - share)


def difference_interval(one: tuple[int, int], other: tuple[int, int], *, z: float) -> tuple[float, float]:
    """Interval of P(one) - P(other) from (events, runs) of each; z as wide as a look demands [fraction].

    Source: Newcombe 1998, Stat. Med. 17:873, method 10 (of Wilson's intervals).
    Checked by: test_sequential.py::test_differences_equal_newcombes_published_ones
    """
    (k, n), (j, m) = one, other
    if min(n, m) == 0:
        return -1.0, 1.0
    p, q = k / n, j / m
    (p_low, p_high), (q_low, q_high) = _ends(k, n, z), _ends(j, m, z)
    low, high = p - q - hypot(p - p_low, q_high - q), p - q + hypot(p_high - p, q - q_low)
    return max(low, -1.0), min(high, 1.0)


def log_rank_z(one: Sequence[tuple[float, bool]], other: Sequence[tuple[float, bool]]) -> float:
    """Standardised log-rank statistic; above 0 where `one` has its events sooner; 0 without events.

    Args:
        one: (step, whether the event came then; else the run was watched until then) of each run.
        other: likewise.

    Source: Mantel 1966, Cancer Chemother. Rep. 50:163.
    Checked by: test_sequential.py::test_log_rank_equals_rs_on_leukaemia
    """
    rows = np.array([(t, e, 1.0) for t, e in one] + [(t, e, 0.0) for t, e in other]).reshape(-1, 3)
    times, had, mine = rows.T
    excess = variance = 0.0
    for at in np.unique(times[had == 1]):
        risk, events = times >= at, (times == at) & (had == 1)
        n, n_one, d = risk.sum(), (risk * mine).sum(), events.sum()
        excess += (events * mine).sum() - d * n_one / n
        if n > 1:
            variance += d * n_one / n * (1 - n_one / n) * (n - d) / (n - 1)
    return float(excess / np.sqrt(variance)) if variance > 0 else 0.0


def look_sizes(*, first: int, each: int, most: int) -> tuple[int, ...]:
    """Runs at each look: first, first + each, … and most."""
    return (*range(first, most, each), most)
