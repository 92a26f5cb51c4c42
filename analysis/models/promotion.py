"""Another shape of a never-fraction: with F the law of a clock, S(t) = never ** F(t).

In the mixture model a run either can have its eureka or cannot, from the start. Here every run waits for the first of
a random number of clocks, which may be none: hazards stay proportional in `never`. Where both shapes fit, what they
say of P(ever) should agree; `chance_ever` speaks for the mixture alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from analysis.errors import NoRuns
from analysis.models.families import Family
from analysis.models.times import Times

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PromotionFit:
    """A maximum of the likelihood.

    Attributes:
        theta: logit of P(never), location and log scale of log steps.
        value: log-likelihood there.
        converged: whether the gradient vanishes there.
    """

    theta: Array
    value: float
    converged: bool

    @property
    def ever(self) -> float:
        """P(a eureka, ever) [fraction]."""
        return float(1 / (1 + np.exp(self.theta[0])))


def promotion(times: Times, *, family: Family) -> PromotionFit:
    """The likeliest never-fraction and law of the clocks, the same for all runs; lost runs are never.

    Raises:
        NoRuns: fewer than two eurekas.

    Source: Yakovlev and Tsodikov 1996, Stochastic Models of Tumor Latency, World Scientific; Lambert 2007, Stata J.
        7:351 ("non-mixture").
    Checked by: test_cure.py::test_non_mixture_weibull_cure_is_statas
    """
    if times.n_events < 2:
        raise NoRuns(f"times: got {times.n_events} eurekas in {times.n} runs; expected two or more")
    exact, lost = times.is_event & times.is_exact, times.is_lost
    between, waiting = times.is_event & ~times.is_exact, ~times.is_event & ~lost
    with np.errstate(divide="ignore"):
        low, high, entry = np.log(times.low), np.log(times.high), np.log(times.entry)

    def downhill(theta: Array) -> float:
        never = -np.logaddexp(0.0, -theta[0])  # log P(never)
        scale = np.exp(np.clip(theta[2], -12.0, 12.0))

        def share(log_steps: Array) -> Array:
            with np.errstate(invalid="ignore"):
                return np.asarray(np.exp(family.log_cdf((log_steps - theta[1]) / scale)))

        z = (low[exact] - theta[1]) / scale
        hazard = np.log(-never) + family.log_density(z) - np.log(scale) - low[exact]
        total = float((hazard + never * share(low[exact])).sum() + never * share(low[waiting]).sum())
        kept = never * share(low[between]), never * share(high[between])
        total += float((kept[0] + np.log(-np.expm1(np.minimum(kept[1] - kept[0], -1e-300)))).sum())
        total += float(never * lost.sum() - never * share(entry[times.entry > 0]).sum())
        return -total if np.isfinite(total) else 1e12

    came = np.log(np.maximum(times.high[times.is_event], 1e-300))
    share_never = np.clip(1 - times.n_events / times.n, 0.05, 0.95)
    best = None
    for wider in (1.0, 2.0):
        start = np.array([np.log(share_never / (1 - share_never)), came.mean(), np.log(max(came.std(), 0.1) * wider)])
        rough = minimize(downhill, start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-6, "fatol": 1e-9})
        found = minimize(downhill, rough.x, method="BFGS")
        best = found if best is None or found.fun < best.fun else best
    assert best is not None
    flat = bool(np.abs(best.jac).max() < 1e-3 * times.n**0.5)
    return PromotionFit(theta=np.asarray(best.x), value=-float(best.fun), converged=flat)
