"""How right the detectors are: every named one against labelled curves, simulated families, and the online rule.

The labelled set and how it was labelled: tests/analysis/labelled/label.py. The families are those of statistics.md
section 1.3, drawn afresh here; in a cell stands the share of runs called eureka, and the median error of the step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import ruptures
from scipy.signal import lfilter

from analysis.detect import DETECTORS, detect_events, events_of
from analysis.digest import digest
from analysis.interval import binomial_interval
from tests.analysis.curves import long_family, short_run, tables
from tests.analysis.labelled.label import CURVES, FAMILIES, LABELS, kappa
from tests.benchmarks.timing import keep, machine, table

TITLE = "Detector: right, and when"
KERNEL = "KernelCPD(linear), ruptures"


# -- what the labels are compared with -----------------------------------------------------------


def kernel_steps(bins: pl.DataFrame, *, runs: pl.DataFrame, penalty: float = 6.0) -> pl.DataFrame:
    """Change points of the log medians; an event is the largest fall between levels that are at most a doubling apart.

    It counts if it takes half of what was left to the floor, which is the fairest use that we found: the change points
    alone are in every run, and a fall of several bins is often cut into several.
    """
    floors = dict(runs.select("run_id", pl.col("level.loss_floor").fill_null(0.0)).iter_rows())
    found = []
    for part in bins.partition_by("run_id", maintain_order=True):
        value, at = np.maximum(part["value"].to_numpy(), 1e-9), part["at_step"].to_numpy()
        if len(value) < 8:
            continue
        noise = np.median(np.abs(np.diff(np.log(value)))) ** 2 + 1e-12
        cuts = (
            ruptures.KernelCPD(kernel="linear", min_size=3)
            .fit(np.log(value))
            .predict(pen=penalty * noise * np.log(len(value)))
        )
        bounds = [0, *cuts]
        means = [float(np.median(value[a:b])) for a, b in pairwise(bounds)]
        falls = [
            (means[i] - means[j], i, j)
            for i in range(len(means)) for j in range(i + 1, len(means)) if at[bounds[j]] <= 2 * at[bounds[i + 1]]
        ]  # fmt: skip
        gap, i, j = max(falls, default=(0.0, 0, 0))
        if gap > 0 and gap >= 0.5 * (means[i] - floors[part["run_id"][0]]):
            cut = next(k for k in range(i + 1, j + 1) if means[k] <= means[i] - gap / 2)
            found.append((part["run_id"][0], float(np.sqrt(at[bounds[cut] - 1] * at[bounds[cut]]))))
    return pl.DataFrame(found, schema={"run_id": pl.String, "eureka_step": pl.Float64}, orient="row")


def named_steps(name: str, *, bins: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Where a registered detector sees a eureka."""
    events = events_of(bins, runs=runs, detector=DETECTORS[name])
    return events.filter(pl.col("status") == "eureka").select("run_id", "eureka_step")


# -- the labelled set ----------------------------------------------------------------------------


def scored(found: pl.DataFrame, labels: pl.DataFrame) -> list[str]:
    """Precision and recall against rater A, then where the raters agree; and errors of the step."""
    seen = labels.join(found, on="run_id", how="left")
    cells = []
    for part in (seen, seen.filter("agreed")):
        is_true, is_seen = part["kind_a"] == "eureka", part["eureka_step"].is_not_null()
        hits = int((is_true & is_seen).sum())
        cells += [_share(hits, int(is_seen.sum())), _share(hits, int(is_true.sum()))]
    both = seen.filter(
        (pl.col("kind_a") == "eureka") & (pl.col("kind_b") == "eureka") & pl.col("eureka_step").is_not_null()
    )
    is_drawn = pl.col("source").str.starts_with("simulated")
    for rows, truth in (
        (both.filter(is_drawn), "step_a"),
        (both.filter(~is_drawn), "step_b"),
        (both.filter(~is_drawn), "step_a"),
    ):
        error = rows.select((pl.col("eureka_step") / pl.col(truth)).log().abs().median()).item()
        cells.append("–" if error is None else f"{error:.3f}")
    return [str(labels.height), *cells]


def _share(hits: int, n: int) -> str:
    if n == 0:
        return "–"
    low, high = binomial_interval(hits, n=n)
    return f"{hits / n:.3f} [{low:.2f}, {high:.2f}]"


def labelled_scores() -> str:
    labels = pl.read_parquet(LABELS)
    curves = pl.read_parquet(CURVES).with_columns(pl.col("value").cast(pl.Float64))
    rows = []
    for name, detector in DETECTORS.items():
        bins = curves.filter(pl.col("metric") == detector.metric).drop("metric")
        runs = labels if detector.metric == "loss" else labels.filter(pl.col("level.accuracy_plateau").is_not_null())
        rows.append([name, detector.metric, *scored(named_steps(name, bins=bins, runs=runs), runs)])
    bins = curves.filter(pl.col("metric") == "loss").drop("metric")
    rows.append([KERNEL, "loss", *scored(kernel_steps(bins, runs=labels), labels)])
    header = ["detector", "reads", "curves", "precision", "recall", "precision, raters agree", "recall, raters agree"]
    header += ["error, simulated", "error, real, loss", "error, real, accuracy"]
    two = [["eureka" if kind == "eureka" else "other" for kind in labels[column]] for column in ("kind_a", "kind_b")]
    kinds = [labels[column].to_list() for column in ("kind_a", "kind_b")]
    real = labels.filter(~pl.col("source").str.starts_with("simulated")).height
    note = (
        f"{labels.height} curves, {real} of them real runs; {(labels['kind_a'] == 'eureka').sum()} eureka by rater A. "
        f"Raters' kappa: {kappa(*two):.3f} of eureka or not, {kappa(*kinds):.3f} of the kind; "
        f"{(~labels['agreed']).sum()} disagreements of kind. "
        "Precision and recall of `eureka` with Wilson's 95% interval, against rater A. Error: median |log t50 error| "
        "of runs that both raters and the detector call eureka; of real runs against the step at which the loss "
        "(rater B) or the accuracy (rater A) was half-way. Rules of the literature name an onset or a level, not t50."
    )
    return f"{note}\n\n{table(header, rows)}"


# -- agreement with the rule that stops runs -----------------------------------------------------


def online_agreement() -> str:
    labels = pl.read_parquet(LABELS).filter(pl.col("source").str.starts_with("two_step"))
    bins = (
        pl.read_parquet(CURVES)
        .filter(pl.col("metric") == "loss")
        .drop("metric")
        .with_columns(pl.col("value").cast(pl.Float64))
    )
    rows = []
    for name in ("contrast-1", "level-1"):
        seen = labels.join(named_steps(name, bins=bins, runs=labels), on="run_id", how="left")
        online, ours = seen["online_event_step"].is_not_null(), seen["eureka_step"].is_not_null()
        ratio = seen.select((pl.col("eureka_step") / pl.col("online_event_step")).log()).to_series().drop_nulls()
        low, middle, high = (ratio.quantile(share) for share in (0.05, 0.5, 0.95))
        counts = [online & ours, online & ~ours, ~online & ours, ~online & ~ours]
        rows.append([name, *(str(int(part.sum())) for part in counts), f"{middle:+.3f} ({low:+.3f} to {high:+.3f})"])
    header = ["", "both", "online only", "this only", "neither", "log step over online step, median (5–95%)"]
    return f"Agreement with the online rule on {labels.height} runs of the engine.\n\n{table(header, rows)}"


# -- simulated families --------------------------------------------------------------------------


def crossing(curve: np.ndarray, *, decay: float | None, sustained: bool) -> float:
    """First step below half of the plateau, of the raw or smoothed loss; for good, if so asked [steps]."""
    smooth = curve if decay is None else lfilter([decay], [1, decay - 1], curve, zi=[(1 - decay) * curve[0]])[0]
    below = smooth < 0.5 * 2.3
    if sustained:
        if not below[-1]:
            return np.nan
        return float(np.flatnonzero(~below).max(initial=-1) + 2)
    return float(np.argmax(below) + 1) if below.any() else np.nan


CROSSINGS: dict[str, Callable[[np.ndarray], float]] = {
    "raw < ½P": lambda curve: crossing(curve, decay=None, sustained=False),
    "EMA < ½P": lambda curve: crossing(curve, decay=0.01, sustained=False),
    "EMA < ½P for good": lambda curve: crossing(curve, decay=0.01, sustained=True),
}


def family_row(name: str, *, sd: float, n: int) -> list[str]:
    rng = np.random.default_rng([11, int(100 * sd), *name.encode()])
    curves, truth = zip(*(long_family(name, sd=sd)(rng) for _ in range(n)), strict=True)
    runs, metrics = tables(curves)
    runs = runs.with_columns(truth=pl.Series(truth))
    bins = digest(metrics, runs=runs)
    at = np.array(truth)
    cells = [_cell(np.array([rule(curve) for curve in curves]), at) for rule in CROSSINGS.values()]
    contrast = detect_events(metrics, runs=runs).filter(pl.col("status") == "eureka").select("run_id", "eureka_step")
    for found in (contrast, kernel_steps(bins, runs=runs)):
        steps = runs.join(found, on="run_id", how="left", maintain_order="left")["eureka_step"]
        cells.append(_cell(steps.fill_null(np.nan).to_numpy(), at))
    return [name, f"{sd}", *cells]


def _cell(steps: np.ndarray, truth: np.ndarray) -> str:
    seen = np.isfinite(steps)
    if not np.isfinite(truth).any():
        return f"{seen.mean():.2f}"
    error = np.median(np.abs(np.log(steps[seen] / truth[seen]))) if seen.any() else np.nan
    return f"{seen.mean():.2f} ({error:.3f})"


def families(*, n: int) -> str:
    rows = [family_row(name, sd=sd, n=n) for name in FAMILIES for sd in (0.1, 0.4)]
    note = (
        f"{n} runs a cell of 20,000 steps, noise of the given sd; no task plateau given. In a cell, the share called "
        "eureka (median |log error| of the step); where the curve has no midpoint, a share of false alarms."
    )
    return f"{note}\n\n{table(['curve', 'σ', *CROSSINGS, 'contrast-1', KERNEL], rows)}"


def short_runs(*, n: int) -> str:
    """Runs such as this project trains: short, and stopped 200 steps after their event."""
    widths, rows = (40, 100, 200), []
    for at in (200, 250, 300, 400, 600, 1300, None):
        cells = []
        for width in widths:
            rng = np.random.default_rng([12, at or 0, width])
            curves = [short_run(rng, at=at, width=width, sd=0.1) for _ in range(n)]
            runs, metrics = tables(curves, floor=0.01, plateau=0.95)
            found = detect_events(metrics, runs=runs).filter(pl.col("status") == "eureka")["eureka_step"]
            error = "" if at is None or not len(found) else f" ({(found - at).abs().median():.0f})"
            cells.append(f"{len(found) / n:.2f}{error}")
        rows.append(["none" if at is None else str(at), *cells])
    note = f"{n} short runs a cell, σ .1, stopped 200 steps after the fall: share called eureka (median error, steps)."
    return f"{note}\n\n{table(['midpoint', *(f'fall of {width} steps' for width in widths)], rows)}"


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer simulated runs")
    options.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    given = options.parse_args(argv)
    n = 20 if given.quick else 200
    command = "`python -m tests.benchmarks.bench_detector`"
    text = "\n\n".join(
        [f"{command}; {machine()}.", labelled_scores(), online_agreement(), families(n=n), short_runs(n=n)]
    )
    print(text)
    if given.write:
        keep(TITLE, text)


if __name__ == "__main__":
    main()
