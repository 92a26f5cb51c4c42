"""P(eureka by T) as a smooth function of numeric settings, where it crosses one half, and how sure that is.

A Gaussian process over the axes (logarithms of those that span more than a factor of ten), in logits. Where points
have several runs, each gives its empirical logit with its own variance; where they have one, the runs themselves are
classified. Both know that noise is binomial; neither knows a seed from a setting, so runs of one point count as
independent. A surface is believed as far as its calibration table shows: predicted for points it had not seen,
against what they did.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import expit, logit

from analysis.errors import AnalysisError, NoSuchColumn
from analysis.interval import binomial_interval, normal_quantile
from analysis.life_table import effective_runs, life_table
from analysis.models.optional import package
from analysis.results import Result

Array = npt.NDArray[np.float64]
FEWEST_POINTS = 8
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
WIDE_SPAN = 10.0
WORKING_TURNS = 8
RESTARTS = 2


@dataclass(frozen=True)
class Scale:
    """How an axis becomes a coordinate: its logarithm or itself, less `middle`, over `spread`."""

    name: str
    is_log: bool
    middle: float
    spread: float
    low: float
    high: float

    def forward(self, values: Array) -> Array:
        """Values of the setting as coordinates."""
        return np.asarray(((np.log(values) if self.is_log else values) - self.middle) / self.spread)

    def levels(self, points: int) -> Array:
        """That many values over the axis, even in its coordinate."""
        ends = np.log([self.low, self.high]) if self.is_log else np.array([self.low, self.high])
        even = np.linspace(ends[0], ends[1], points)
        return np.clip(np.exp(even), self.low, self.high) if self.is_log else even


@dataclass(frozen=True, kw_only=True)
class Surface(Result):
    """A fitted surface; its table is the calibration: predicted for unseen points against observed.

    Attributes:
        axes: the settings, in order.
        points: what it was fitted to: the axes, chance, n_effective.
        at_step: T [steps].
        level: two-sided coverage of the bands [fraction].
    """

    axes: tuple[Scale, ...]
    points: pl.DataFrame
    at_step: float
    level: float
    latent: Any

    def predict(self, settings: pl.DataFrame) -> pl.DataFrame:
        """Adds chance, chance_lo, chance_hi [fraction] to settings: of P itself, not of a share of runs."""
        for scale in self.axes:
            if scale.name not in settings.columns:
                raise NoSuchColumn(f"surface: got no column {scale.name!r}; expected one for every axis")
        coordinates = _coordinates(settings, self.axes)
        mean, sd = self.latent(coordinates)
        z = normal_quantile(self.level)
        columns = {"chance": expit(mean), "chance_lo": expit(mean - z * sd), "chance_hi": expit(mean + z * sd)}
        return settings.with_columns(**{name: pl.Series(values) for name, values in columns.items()})

    def grid(self, *, points: int = 41) -> pl.DataFrame:
        """The surface over a square of the first two axes, the others at their middle: axes, chance, _lo, _hi."""
        levels = [scale.levels(points) for scale in self.axes[:2]]
        mesh = np.meshgrid(*levels, indexing="ij")
        frame = pl.DataFrame({scale.name: side.ravel() for scale, side in zip(self.axes, mesh, strict=False)})
        held = {scale.name: pl.lit(float(scale.levels(3)[1])) for scale in self.axes[2:]}
        return self.predict(frame.with_columns(**held))

    def contour(self, *, chance: float = 0.5, points: int = 61) -> pl.DataFrame:
        """Where P crosses `chance`, and the edges of the band in which it may: a row a vertex.

        Returns:
            line: `estimate`, or `lo`, `hi` (where the interval's lower, upper end crosses: beyond `lo` P is surely
            above); piece: number of the connected line; then the first two axes.
        """
        contourpy = package("contourpy", extra="surface", wanted_by="contour")
        if len(self.axes) < 2:
            raise AnalysisError(f"surface: axes: got {len(self.axes)}; expected two or more, to draw a line between")
        x, y = (scale.levels(points) for scale in self.axes[:2])
        grid = self.grid(points=points)
        rows: list[tuple[str, int, float, float]] = []
        for line, column in (("estimate", "chance"), ("lo", "chance_lo"), ("hi", "chance_hi")):
            height = logit(np.clip(grid[column].to_numpy(), 1e-9, 1 - 1e-9)).reshape(points, points)
            u, v = (np.log(side) if scale.is_log else side for side, scale in zip((x, y), self.axes, strict=False))
            lines = contourpy.contour_generator(u, v, height.T).lines(float(logit(chance)))
            for piece, vertices in enumerate(lines):
                at = [np.exp(vertices[:, i]) if self.axes[i].is_log else vertices[:, i] for i in (0, 1)]
                rows += [(line, piece, float(a), float(b)) for a, b in zip(*at, strict=True)]
        names = [scale.name for scale in self.axes[:2]]
        schema = {"line": pl.String, "piece": pl.Int64, names[0]: pl.Float64, names[1]: pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")


def fit_surface(
    events: pl.DataFrame, *, axes: Sequence[str], at_step: float,
    method: Literal["auto", "logits", "classes"] = "auto", level: float = 0.95, seed: int = 0,
) -> Surface:  # fmt: skip
    """Fit P(eureka by T) over numeric settings.

    Args:
        events: EVENTS rows with the settings joined on [one row a run].
        axes: numeric settings.
        at_step: T [steps].
        method: logits, of points with several runs; classes, of single runs; auto: by the median runs a point.
        level: two-sided coverage of the bands [fraction].
        seed: of the search for the process's length scales, and of the folds.

    Returns:
        A Surface.

    Raises:
        MissingPackage: scikit-learn is not installed (extra `surface`).
        AnalysisError: fewer than 8 points with a known P, an axis that is constant or no number, all runs alike.

    Source: Rasmussen and Williams 2006, sections 2.2 and 3.4. Computed by scikit-learn.
    Checked by: test_surface.py; coverage/RESULTS.md
    """
    if method not in ("auto", "logits", "classes"):
        raise AnalysisError(f"surface: method: got {method!r}; expected auto, logits or classes")
    scales = tuple(_scale(events, axis) for axis in axes)
    points = _points(events, axes=axes, at_step=at_step)
    if points.height < FEWEST_POINTS:
        got = f"got {points.height} points with a known P by step {at_step:g}; expected {FEWEST_POINTS} or more"
        raise AnalysisError(f"surface: {got}. A table by config says as much")
    if points["chance"].n_unique() < 2:
        raise AnalysisError(f"surface: got P = {points['chance'][0]:g} at every point; expected a P that varies")
    coordinates = _coordinates(points, scales)
    share, runs = points["chance"].to_numpy(), points["n_effective"].to_numpy()
    by_logits = method == "logits" or (method == "auto" and _has_replicates(runs))
    fitted = _fit_logits if by_logits else _fit_classes
    latent, kernel = fitted(coordinates, share, runs, kernel=None, seed=seed)
    unseen = _unseen(coordinates, share, runs, fitted=fitted, kernel=kernel, seed=seed)
    table = _calibration(unseen, share, runs, level=level)
    facts = {
        "points": points.height,
        "runs": round(float(runs.sum())),
        "step": at_step,
        "level": level,
        "by": "logits of points" if by_logits else "single runs",
        "process": " ".join(str(kernel).split()),
    }
    return Surface(
        title=f"P(eureka by step {at_step:,.0f}) over {', '.join(axes)}: calibration on unseen points",
        table=table,
        facts=facts,
        notes=_notes(table, events, axes=axes),
        axes=scales,
        points=points,
        at_step=at_step,
        level=level,
        latent=latent,
    )


def _scale(events: pl.DataFrame, axis: str) -> Scale:
    if axis not in events.columns:
        raise NoSuchColumn(
            f"surface: axes: got {axis!r}; expected a column of the events, or a setting joined from RUNS"
        )
    if not events.schema[axis].is_numeric():
        raise AnalysisError(
            f"surface: axes: {axis}: got {events.schema[axis]}; expected numbers. Fit one surface a value"
        )
    values = events[axis].drop_nulls().cast(pl.Float64).to_numpy()
    if not len(values) or values.min() == values.max():
        got = "no value" if not len(values) else f"{values[0]:g} in every run"
        raise AnalysisError(f"surface: axes: {axis}: got {got}; expected a setting that varies. Leave it out")
    is_log = bool(values.min() > 0 and values.max() / values.min() >= WIDE_SPAN)
    seen = np.log(values) if is_log else values
    return Scale(axis, is_log, float(seen.mean()), float(seen.std()), float(values.min()), float(values.max()))


def _points(events: pl.DataFrame, *, axes: Sequence[str], at_step: float) -> pl.DataFrame:
    """One row a point with a known P by T: axes, chance [fraction], n_effective [runs]."""
    rows = events.drop_nulls(list(axes))
    groups, table = life_table(rows, by=axes)
    known = (pl.col("step").max() >= at_step) | (pl.col("watched").last() <= 1e-9)
    begun = pl.col("step") <= at_step
    read = table.group_by(groups, maintain_order=True).agg(
        pl.col("chance", "variance", "entered").filter(begun).last(),
        pl.col("n").first(),
        early=pl.col("n_censored").filter(pl.col("step") < at_step).sum(),
        is_known=known,
    )
    read = read.with_columns(n_effective=effective_runs()).filter(pl.col("is_known") & (pl.col("n_effective") > 0))
    return read.select(*axes, "chance", "n_effective")


def _coordinates(frame: pl.DataFrame, scales: Sequence[Scale]) -> Array:
    return np.column_stack([scale.forward(frame[scale.name].cast(pl.Float64).to_numpy()) for scale in scales])


def fit_process(
    coordinates: Array,
    share: Array,
    runs: Array,
    *,
    kernel: Any = None,
    prior: Any = None,
    seed: int = 0,
    restarts: int = RESTARTS,
) -> tuple[Callable[[Array], tuple[Array, Array]], Any]:
    """The process behind a surface, for points already in coordinates of spread 1, as a search has them.

    Args:
        coordinates: of each point `(points, axes)`.
        share: of its runs that had the event [fraction].
        runs: of each point.
        kernel: an earlier fit's, to be kept; None searches one.
        prior: where, and within which bounds, it is searched; None is wide.
        seed: of the search.
        restarts: of the search, beside its first attempt.

    Returns:
        latent(coordinates) -> (mean, standard deviation) of the logit of P; the kernel.

    Raises:
        MissingPackage: scikit-learn is not installed (extra `surface`).
    """
    fitted = _fit_logits if _has_replicates(runs) else _fit_classes
    return fitted(coordinates, share, runs, kernel=kernel, prior=prior, seed=seed, restarts=restarts)


def _has_replicates(runs: Array) -> bool:
    return float(np.median(runs)) > 1.5


def _kernel(dimensions: int) -> Any:
    kernels = package("sklearn.gaussian_process.kernels", extra="surface", wanted_by="surface")
    smooth = kernels.Matern(length_scale=np.ones(dimensions), length_scale_bounds=(0.2, 20.0), nu=2.5)
    return kernels.ConstantKernel(4.0, (0.25, 100.0)) * smooth


def _fit_logits(
    coordinates: Array,
    share: Array,
    runs: Array,
    *,
    kernel: Any,
    prior: Any = None,
    seed: int,
    restarts: int = RESTARTS,
) -> tuple[Any, Any]:
    """Process on logits; returns latent(x) -> (mean, sd), and the kernel found. A given kernel is kept.

    Empirical logits begin it; they lean towards one half, so the response and its variance are then worked out at the
    fitted P, again and again, which ends at the mode of the binomial likelihood (Laplace's approximation).
    """
    process = package("sklearn.gaussian_process", extra="surface", wanted_by="surface")
    yes, no = share * runs + 0.5, (1 - share) * runs + 0.5
    height, noise = np.log(yes / no), 1 / yes + 1 / no
    middle = float(np.average(height, weights=1 / noise))
    is_given = kernel is not None
    for turn in range(WORKING_TURNS):
        is_searched = not is_given and turn < 2
        search = {"n_restarts_optimizer": restarts} if is_searched else {"optimizer": None}
        gp = process.GaussianProcessRegressor(
            kernel or prior or _kernel(coordinates.shape[1]), alpha=noise, random_state=seed, **search
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length scale at its bound: said by the calibration, if it matters
            gp.fit(coordinates, height - middle)
        kernel = gp.kernel_
        fitted = np.clip(gp.predict(coordinates) + middle, -6.0, 6.0)
        chance = expit(fitted)
        noise = 1 / (runs * chance * (1 - chance))
        height = fitted + (share - chance) / (chance * (1 - chance))

    def latent(at: Array) -> tuple[Array, Array]:
        mean, sd = gp.predict(at, return_std=True)
        return mean + middle, sd

    return latent, kernel


def _fit_classes(
    coordinates: Array,
    share: Array,
    runs: Array,
    *,
    kernel: Any,
    prior: Any = None,
    seed: int,
    restarts: int = RESTARTS,
) -> tuple[Any, Any]:
    """Process on single runs, as `_fit_logits`; a point of several runs stands as often."""
    process = package("sklearn.gaussian_process", extra="surface", wanted_by="surface")
    times = np.maximum(np.round(runs), 1).astype(int)
    yes = np.round(share * times).astype(int)
    x = np.repeat(coordinates, times, axis=0)
    y = np.concatenate([np.arange(total) < k for total, k in zip(times, yes, strict=True)]).astype(int)
    search = {"n_restarts_optimizer": restarts} if kernel is None else {"optimizer": None}
    gp = process.GaussianProcessClassifier(
        kernel or prior or _kernel(coordinates.shape[1]), random_state=seed, **search
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gp.fit(x, y)

    def latent(at: Array) -> tuple[Array, Array]:
        mean, variance = gp.latent_mean_and_variance(at)
        return mean, np.sqrt(np.maximum(variance, 0.0))

    return latent, gp.base_estimator_.kernel_


def _unseen(
    coordinates: Array, share: Array, runs: Array, *, fitted: Any, kernel: Any, seed: int, folds: int = 10
) -> Array:
    """P at each point from the points of the other folds [fraction]."""
    order = np.random.default_rng(seed).permutation(len(share))
    chance = np.full(len(share), np.nan)
    for fold in range(min(folds, len(share))):
        left_out = order[fold::folds]
        kept = np.setdiff1d(order, left_out)
        if len(np.unique(share[kept])) < 2:
            continue
        latent, _ = fitted(coordinates[kept], share[kept], runs[kept], kernel=kernel, seed=seed)
        mean, sd = latent(coordinates[left_out])
        chance[left_out] = expit(
            mean / np.sqrt(1 + np.pi * sd**2 / 8)
        )  # of a run there: the logits' spread averaged over
    return chance


def _calibration(unseen: Array, share: Array, runs: Array, *, level: float) -> pl.DataFrame:
    rows = []
    for low, high in pairwise(BINS):
        inside = (unseen >= low) & ((unseen < high) | (high == 1.0))
        n = float(runs[inside].sum())
        if n <= 0:
            continue
        observed, predicted = (float(np.average(each[inside], weights=runs[inside])) for each in (share, unseen))
        ends = binomial_interval(round(observed * n), n=max(round(n), 1), level=level)
        rows.append((f"{low:g} to {high:g}", predicted, observed, *ends, int(inside.sum()), round(n)))
    schema = {"predicted chance": pl.String, "predicted": pl.Float64, "observed": pl.Float64, "lo": pl.Float64,
              "hi": pl.Float64, "points": pl.Int64, "n": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _notes(table: pl.DataFrame, events: pl.DataFrame, *, axes: Sequence[str]) -> tuple[str, ...]:
    notes = []
    off = table.filter((pl.col("predicted") < pl.col("lo")) | (pl.col("predicted") > pl.col("hi")))
    if off.height:
        where = ", ".join(off["predicted chance"].to_list())
        notes.append(
            f"Where it predicts {where}, unseen points did otherwise: do not read the surface to that precision."
        )
    if "config_id" in events.columns and events["config_id"].n_unique() > events.select(axes).n_unique():
        notes.append("Other settings vary too, and are pooled over.")
    return tuple(notes)


def chance_at(surface: Surface, **settings: float) -> Mapping[str, float]:
    """P with its band at one setting; dotted names by `**{"optim.lr": 1e-3}`."""
    return surface.predict(pl.DataFrame([settings])).select("chance", "chance_lo", "chance_hi").row(0, named=True)
