"""`boundary`: where does learning switch on? Finds the line on which P(eureka by T) has a given value.

    search:
      name: boundary
      space: {optim.lr: {log_range: [1e-4, 1e-1]}, model.attention.temperature: {log_range: [0.5, 2]}}
      objective: {p_eureka: {by_step: 800}}
      configs: 120
      options: {chance: 0.5}

It begins with points spread evenly over one to three ranges, then asks where a further run tells most about the line:
a Gaussian process (`analysis/surface.py`) gives the logit of P a mean and a variance everywhere, and the next point is
the one that takes most off the variance near the line. A batch counts what it has asked, and what is still training,
as known in variance but not in value. A share of the points goes on being spread evenly, since an island that nobody
visits has no line. Every point has seeds of its own: with the same ones everywhere, the line would be that of
these seeds.

Source: the criterion is the targeted integrated variance of Picheny et al. 2010, J. Mech. Des. 132:071008; straddle is
that of Bryan et al. 2005, NIPS 18:163.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import expit, logit
from scipy.stats import norm, qmc

from analysis.errors import AnalysisError
from analysis.models.optional import package
from analysis.surface import fit_process
from orchestrator.search.options import read_options
from orchestrator.search.proposal import Answer, BadOption, Proposal
from orchestrator.search.settings import Asked
from orchestrator.search.space import Setting, Space
from workloads.fields import Frozen

Array = npt.NDArray[np.float64]
MOST_AXES = 3
CANDIDATES = (256, 1024, 2048)  # by axes
SPREAD = math.sqrt(12.0)  # of the unit interval, so that coordinates have a standard deviation of 1
SEARCHED_AGAIN = 1.4  # the kernel is searched anew when there are so many times the points
SURE = 6.0  # logits beyond which P is as good as 0 or 1


class Options(Frozen):
    """What `options:` of this search may hold.

    Attributes:
        chance: P on the line [fraction].
        start: points spread evenly before the first guess.
        spread_share: of the points after them that are spread evenly, too [fraction].
        criterion: `variance` near the line after the point; or `straddle`, 1.96 sd - |distance to the line| at it.
        wrong_share: over when no more of the space is expected on the wrong side [fraction]; None is never.
    """

    chance: float = Field(0.5, gt=0.0, lt=1.0)
    start: int = Field(24, ge=4)
    spread_share: float = Field(0.1, ge=0.0, le=1.0)
    criterion: Literal["variance", "straddle"] = "variance"
    wrong_share: float | None = Field(None, gt=0.0, lt=0.5)


class Boundary:
    """The strategy.

    Args:
        axes: one to three ranges.
        by_step: T of P [steps].
        replicates: runs a point.
        options: see there.
        seed: of the even spread.
    """

    revisits = False  # a point that is asked again is a point of the budget

    def __init__(self, axes: Sequence[Setting], *, by_step: float, replicates: int, options: Options, seed: int = 0):
        self.axes, self.by_step, self.replicates, self.options = tuple(axes), by_step, replicates, options
        self._seed = seed
        self._asked: dict[int, Array] = {}  # trial -> where, in the unit cube
        self._told: dict[int, tuple[int, int]] = {}  # trial -> (events, runs that say something)
        self._kernel: Any = None
        self._searched_at = 0
        self._fitted: tuple[int, Process] | None = None

    # -- the protocol ------------------------------------------------------------------------

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """Points for so many runs, one at least; nothing while the answers that it begins with are awaited."""
        if self.is_over:
            return []
        n, left = max(1, most_runs // self.replicates), self.options.start - len(self._asked)
        process = None if left > 0 else self.process()
        pending = [at for trial, at in self._asked.items() if trial not in self._told]
        if process is None:
            n = min(n, left) if left > 0 else 0 if pending else n
        pick = None if process is None else Pick(process, self.candidates(), pending, options=self.options)
        return [self._propose(pick) for _ in range(n)]

    def _propose(self, pick: Pick | None) -> Proposal:
        trial = max([-1, *self._asked]) + 1  # those of a warm start are below zero
        at = self._even(trial) if pick is None or self._is_spread(trial) else pick.best()
        if pick is not None:
            pick.know(at)
        params = self._params(at)
        self._asked[trial] = self._unit(params)
        replicates = range(trial * self.replicates, (trial + 1) * self.replicates)
        return Proposal(trial=trial, params=params, replicates=replicates)

    def recall(self, proposal: Proposal) -> None:
        """It was asked before the search was started again."""
        self._asked[proposal.trial] = self._unit(proposal.params)

    def tell(self, answer: Answer) -> None:
        """How many of a point's runs had their event by T; failed ones say nothing."""
        self.recall(answer.proposal)
        told = [one for one in answer.outcomes if one.status != "failed"]
        events = sum(one.event_step is not None and one.event_step <= self.by_step for one in told)
        self._told[answer.proposal.trial] = (events, len(told))

    @property
    def is_over(self) -> bool:
        """The line is known as well as asked; the budget is the driver's."""
        wanted = self.options.wrong_share
        if wanted is None or len(self._told) < self.options.start:
            return False
        process = self.process()
        return process is not None and process.wrong_share(self.candidates()) <= wanted

    # -- what is known -----------------------------------------------------------------------

    def process(self) -> Process | None:
        """The process through what was told; None before the start is told, or while all runs say the same."""
        trials = sorted(trial for trial, (_, runs) in self._told.items() if runs)
        counts = np.array([self._told[trial] for trial in trials], dtype=float).reshape(-1, 2)
        events, runs = counts.T
        if 2 * len(trials) < self.options.start or events.sum() in (0, runs.sum()):
            return None
        if self._fitted is None or self._fitted[0] != len(trials):
            x = SPREAD * np.array([self._asked[trial] for trial in trials])
            is_new = len(trials) >= SEARCHED_AGAIN * self._searched_at
            kernel = None if is_new else self._kernel
            latent, self._kernel = fit_process(
                x, events / runs, runs, kernel=kernel, prior=line_prior(len(self.axes)), seed=self._seed, restarts=0
            )
            if is_new:
                self._searched_at = len(trials)
            level = float(logit(self.options.chance))
            self._fitted = len(trials), Process(latent, self._kernel, x, runs, level=level, replicates=self.replicates)
        return self._fitted[1]

    def candidates(self) -> Array:
        """Where the next point may be, in the unit cube; another set after each answer."""
        sobol = qmc.Sobol(len(self.axes), seed=np.random.default_rng([self._seed, len(self._told), 1]))
        return np.asarray(sobol.random(CANDIDATES[len(self.axes) - 1]))

    def _even(self, trial: int) -> Array:
        """The point of an evenly spread sequence that has that number."""
        sobol = qmc.Sobol(len(self.axes), seed=np.random.default_rng([self._seed, 0]))
        return np.asarray((sobol.fast_forward(trial) if trial else sobol).random(1)[0])

    def _is_spread(self, trial: int) -> bool:
        share = self.options.spread_share
        return math.floor((trial + 1) * share) > math.floor(trial * share)

    def _params(self, at: Array) -> Mapping[str, float]:
        return {axis.field: _value(axis, float(unit)) for axis, unit in zip(self.axes, at, strict=True)}

    def _unit(self, params: Mapping[str, Any]) -> Array:
        return np.array([_position(axis, float(params[axis.field])) for axis in self.axes])


class Process:
    """A fitted process over coordinates; `level` is the logit on the line."""

    def __init__(
        self, latent: Callable[[Array], tuple[Array, Array]], kernel: Any, x: Array, runs: Array, *, level: float,
        replicates: int,
    ):  # fmt: skip
        self.latent, self.kernel, self.x, self.level, self.replicates = latent, kernel, x, level, replicates
        mean, _ = latent(x)
        noise = 1.0 / (runs * _information(mean))
        self._lower = np.linalg.cholesky(kernel(x) + np.diag(noise + 1e-9))

    def covariance(self, at: Array, other: Array) -> Array:
        """Of the logits at two sets of points of the unit cube, given what is known."""
        left, right = (np.linalg.solve(self._lower, self.kernel(self.x, SPREAD * each)) for each in (at, other))
        return np.asarray(self.kernel(SPREAD * at, SPREAD * other) - left.T @ right)

    def mean(self, at: Array) -> Array:
        """Of the logits at points of the unit cube."""
        return self.latent(SPREAD * at)[0]

    def wrong_share(self, at: Array) -> float:
        """Expected share of the points whose side of the line is mistaken [fraction]."""
        mean, sd = self.latent(SPREAD * at)
        return float(norm.cdf(-np.abs(mean - self.level) / np.maximum(sd, 1e-9)).mean())


class Pick:
    """Chooses among candidates, one after the other.

    Args:
        process: what is known.
        candidates: points of the unit cube.
        pending: points whose answers are awaited: known in variance, not in value.
        options: the criterion.
    """

    def __init__(self, process: Process, candidates: Array, pending: Sequence[Array], *, options: Options):
        self._process, self._at, self._options = process, candidates, options
        self._mean = process.mean(candidates)
        self._covariance = process.covariance(candidates, candidates)
        for at in pending:
            self.know(at)

    def know(self, at: Array) -> None:
        """Count a point as asked."""
        nearest = int(np.square(self._at - at).sum(1).argmin())
        self._learn(nearest)

    def _learn(self, index: int) -> None:
        column = self._covariance[:, index].copy()
        self._covariance -= np.outer(column, column) / (column[index] + self._noise()[index])

    def best(self) -> Array:
        """The point that tells most."""
        sd = np.sqrt(np.maximum(np.diag(self._covariance), 1e-12))
        off = (self._mean - self._process.level) / sd
        if self._options.criterion == "straddle":
            return self._at[int((1.96 * sd - np.abs(off) * sd).argmax())]
        weight = norm.pdf(off) / sd  # how likely the line is to pass there
        gain = weight @ np.square(self._covariance) / (sd**2 + self._noise())
        return self._at[int(gain.argmax())]

    def _noise(self) -> Array:
        """Variance of what a point's runs say about its logit."""
        return 1.0 / (self._process.replicates * _information(self._mean))


def line_prior(axes: int) -> Any:
    """What there is a line in: P comes near 0 and 1, over no less than a seventh of a range.

    Points that gather at the line say little of how steep it is, and with wider bounds a fit to them is poorer.
    """
    kernels = package("sklearn.gaussian_process.kernels", extra="surface", wanted_by="boundary")
    smooth = kernels.Matern(length_scale=np.ones(axes), length_scale_bounds=(0.5, 5.0), nu=2.5)
    return kernels.ConstantKernel(16.0, (4.0, 100.0)) * smooth


def _information(mean: Array) -> Array:
    """Of one run about the logit: P(1-P)."""
    chance = expit(np.clip(mean, -SURE, SURE))
    return np.asarray(chance * (1 - chance))


def _value(axis: Setting, unit: float) -> float:
    if axis.is_log:
        value = math.exp(math.log(axis.low) + unit * (math.log(axis.high) - math.log(axis.low)))
    else:
        value = axis.low + unit * (axis.high - axis.low)
    return min(axis.high, max(axis.low, float(f"{value:.6g}")))


def _position(axis: Setting, value: float) -> float:
    if axis.is_log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


def build_boundary(asked: Asked, space: Space, seed: int) -> Boundary:
    """As a sweep file asks for it.

    Raises:
        BadOption: the space is not one to three ranges, the objective no probability, or there is no end to it.
    """
    options = read_options(Options, asked.settings.options)
    for setting in space.settings:
        if setting.is_finite or setting.when:
            what = "a setting that is not always there" if setting.when else "a list of values"
            raise BadOption(f"got {what}; expected a range: a line lies between values", path=("space", setting.field))
    if not 1 <= len(space.settings) <= MOST_AXES:
        raise BadOption(f"got {len(space.settings)} ranges; expected 1 to {MOST_AXES}", path=("space",))
    [objective] = asked.objectives if len(asked.objectives) == 1 else (None,)
    if objective is None or objective.kind != "p_eureka":
        got = ", ".join(one.kind for one in asked.objectives)
        raise BadOption(f"got {got}; expected p_eureka alone, whose line is looked for", path=("objective",))
    if not isinstance(space.replicates, int):
        raise BadOption("got crossed replicates; expected one number: every point has seeds of its own", path=("name",))
    try:
        line_prior(1)
    except AnalysisError as error:  # no scikit-learn
        raise BadOption(str(error), path=("name",)) from None
    settings = asked.settings
    if settings.configs is None and settings.run_steps is None and settings.hours is None and not options.wrong_share:
        raise BadOption("got no budget; expected configs, run_steps, hours or options.wrong_share", path=("name",))
    by_step = objective.by_step or int(space.base["budget"]["steps"])
    return Boundary(space.settings, by_step=by_step, replicates=space.n_replicates, options=options, seed=seed)
