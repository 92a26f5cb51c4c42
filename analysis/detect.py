"""Which runs had their eureka-moment, and when: METRICS and RUNS in, EVENTS out, one row a run.

A eureka-moment is a plateau, then a fall that takes at least half of what was left to the floor, no longer than the
wait for it (completion at most twice the step of onset), starting from a plateau that was flat and had been seen,
and that lasts. `contrast-1` asks for all of that; `level-1` is the second witness, which only asks when the metric
was half-way to the floor for good. P(eureka) and P(solved) are different quantities: a `gradual` run is solved and
had no eureka.

A diverged run keeps its eureka if it came first and held to the divergence: it got there, then died. Otherwise it is a
competing exit. A `failed` run has no say in any estimate, and stays in the counts.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import polars as pl

from analysis.digest import digest as digest_of
from analysis.drops import OVER, Contrast, find_drops, smoothed
from analysis.errors import AnalysisError, NoSuchColumn, NoSuchDetector

EVENTS_SCHEMA: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "config_id": pl.String(),
    "status": pl.String(),  # eureka, censored, diverged, failed
    "kind": pl.String(),  # eureka, gradual, transient, in_transition, none, diverged, failed
    "after_step": pl.Int64(),  # eureka lies in (after_step, by_step] [steps]
    "by_step": pl.Int64(),
    "onset_step": pl.Float64(),  # a tenth of the gap has fallen [steps]
    "eureka_step": pl.Float64(),  # half of it [steps]
    "completion_step": pl.Float64(),  # nine tenths [steps]
    "plateau_level": pl.Float64(),  # just before the largest fall [metric]
    "final_level": pl.Float64(),  # just after the event; without one, over the last three bins [metric]
    "abruptness": pl.Float64(),  # 1 / log2(rise_ratio): falls per octave of steps [1/octave]
    "rise_ratio": pl.Float64(),  # completion_step / onset_step [1]
    "relative_gap": pl.Float64(),  # fall / (plateau - floor) [1]
    "drift": pl.Float64(),  # fall in the octave before onset, or since the fall before, in gaps [1]
    "n_drops": pl.Int64(),  # falls of a tenth of the way to the floor or more, the first descent included [falls]
    "solved_step": pl.Float64(),  # first sustained crossing of half-way from task plateau to floor [steps]
    "censored_step": pl.Int64(),  # censored runs: observed this long without a eureka [steps]
    "end_step": pl.Int64(),  # recorded steps, whatever the status; where a diverged run left [steps]
    "detectable_step": pl.Float64(),  # a fall with a later midpoint could not have been confirmed here [steps]
    "detector": pl.String(),
}


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A named, versioned definition of the event; a changed threshold is a new name.

    Attributes:
        name: what EVENTS and captions call it.
        method: contrast, the definition above; level, the sustained crossing alone.
        metric: the METRICS column it reads.
        falls: whether learning lowers the metric.
        floor: the best value the task allows: a RUNS column, a number, or None for the lowest bin of each run.
        plateau: the task's plateau, likewise; None leaves out the test that the fall leads past half-way from it.
        bin_steps: the narrowest bin [steps].
        contrast: how falls are found.
        least_gap: the fall over what was left to the floor, at least [1].
        most_rise: completion_step over onset_step, at most [1].
        most_drift: fall in the octave before onset, in gaps, at most [1].
        least_plateau_ratio: onset over the end of the fall before it, at least [1].
        least_plateau_bins: bins of plateau between the two, at least [bins].
        settled_bins: bins from completion to the run's end, at least; with 16-step bins, 64 steps [bins].
        solved_share: how far down from plateau to floor counts as solved [1].
        usual_rise: a typical rise ratio, for detectable_step [1].

    Source: statistics.md section 1.2; validated by tests/analysis/test_detect.py on the curve families of 1.3.
    """

    name: str
    method: Literal["contrast", "level"] = "contrast"
    metric: str = "loss"
    falls: bool = True
    floor: str | float | None = "level.loss_floor"
    plateau: str | float | None = "level.loss_plateau"
    bin_steps: int = 16
    contrast: Contrast = field(default_factory=Contrast)
    least_gap: float = 0.5
    most_rise: float = 2.0
    most_drift: float = 0.25
    least_plateau_ratio: float = 1.5
    least_plateau_bins: int = 3
    settled_bins: int = 4
    solved_share: float = 0.5
    usual_rise: float = 1.24


_ACCURACY = {
    "metric": "accuracy",
    "falls": False,
    "floor": "level.accuracy_ceiling",
    "plateau": "level.accuracy_plateau",
}
DETECTORS: dict[str, Detector] = {
    each.name: each
    for each in (
        Detector(name="contrast-1"),
        Detector(name="level-1", method="level"),
        Detector(name="contrast-accuracy-1", **_ACCURACY),  # type: ignore[arg-type]
        Detector(name="level-accuracy-1", method="level", **_ACCURACY),  # type: ignore[arg-type]
    )
}


def detector_named(name: str) -> Detector:
    """The registered detector of that name.

    Raises:
        NoSuchDetector: there is none; the message lists what there is.
    """
    if name not in DETECTORS:
        raise NoSuchDetector(f"detector: got {name!r}; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]


def detect_events(
    metrics: pl.LazyFrame,
    *,
    runs: pl.DataFrame,
    detector: str | Detector = "contrast-1",
    metric: str | None = None,
    floor: str | float | None = None,
) -> pl.DataFrame:
    """EVENTS of the given runs.

    Args:
        metrics: METRICS rows; rows of other runs are ignored.
        runs: RUNS rows.
        detector: a registered name, or a Detector of your own.
        metric: another METRICS column that falls (the detector's name gains `:metric`).
        floor: that metric's best value, a RUNS column or a number.

    Returns:
        One row a run, in the order of `runs`, with the columns of EVENTS_SCHEMA.

    Raises:
        NoSuchDetector, NoSuchColumn: a name that is not there.
        AnalysisError: a finished run has no finite value of the metric.

    Checked by: test_detect.py, on simulated families with known answers
    """
    chosen = detector_named(detector) if isinstance(detector, str) else detector
    if metric is not None:
        chosen = replace(chosen, name=f"{chosen.name}:{metric}", metric=metric, floor=floor, plateau=None, falls=True)
    binned = digest_of(metrics, runs=runs, metric=chosen.metric, bin_steps=chosen.bin_steps)
    return events_of(binned, runs=runs, detector=chosen)


def events_of(digest: pl.DataFrame, *, runs: pl.DataFrame, detector: Detector) -> pl.DataFrame:
    """EVENTS from a digest already made; see `detect`."""
    if not detector.falls:
        digest = digest.with_columns(value=-pl.col("value"))
    facts = _facts(digest, runs=runs, by=detector)
    _require_values(facts, metric=detector.metric)
    if detector.method == "level":
        _require_levels(facts, by=detector)
    judged = (
        _crossings(facts)
        if detector.method == "level"
        else _judged(_falls(digest, facts, by=detector), facts, by=detector)
    )
    return _events(judged, by=detector)


def _facts(digest: pl.DataFrame, *, runs: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """One row a run: its identity, the task's levels, the first sustained crossing, and its last level."""
    sign = 1.0 if by.falls else -1.0
    known = runs.select(
        "run_id",
        "config_id",
        run_status=pl.col("status"),
        end_step=pl.col("steps").cast(pl.Int64),
        floor=sign * _level(by.floor, runs=runs),
        plateau=sign * _level(by.plateau, runs=runs),
    )
    bins = smoothed(digest).join(known, on=OVER)
    reference = pl.col("plateau").fill_null(pl.col("level").first().over(OVER))
    bins = bins.with_columns(
        solved_level=reference
        - by.solved_share * (reference - pl.col("floor")),  # null where the task has no known floor
        floor=pl.col("floor").fill_null(pl.col("level").min().over(OVER)),
    )
    ahead = pl.col("level").rolling_max(by.settled_bins).shift(1 - by.settled_bins).over(OVER)  # null near the end
    bins = bins.with_columns(below=(ahead <= pl.col("solved_level")).fill_null(False))
    first = bins.filter("below").group_by(OVER).agg(first_below=pl.col("bin").min())
    crossed = (
        bins.join(first, on=OVER)
        .filter(pl.col("bin").is_between(pl.col("first_below") - 1, pl.col("first_below")))
        .sort(OVER, "bin")
        .group_by(OVER)
        .agg(
            solved_after=pl.col("at_step").first(),
            solved_step=_between(pl.col("at_step"), pl.col("level"), pl.col("solved_level").first()),
            solved_by=pl.col("at_step").last(),
        )
    )
    ends = bins.group_by(OVER).agg(
        pl.col("floor", "solved_level", "n_bins").first(),
        first_step=pl.col("at_step").first(),
        last_level=pl.col("value").tail(3).median(),
        detectable_step=pl.col("at_step").tail(by.settled_bins).first() / by.usual_rise**0.5,
    )
    return known.drop("floor").join(ends, on=OVER, how="left").join(crossed, on=OVER, how="left", maintain_order="left")


def _between(at_step: pl.Expr, level: pl.Expr, height: pl.Expr) -> pl.Expr:
    """Where two neighbouring bins cross a height; the bin itself when there is no bin before it."""
    fall = level.first() - level.last()
    share = pl.when(fall > 0).then((level.first() - height) / fall).otherwise(1.0).clip(0.0, 1.0)
    return at_step.first() * (at_step.last() / at_step.first()) ** share


def _level(level: str | float | None, *, runs: pl.DataFrame) -> pl.Expr:
    if not isinstance(level, str):
        return pl.lit(level, dtype=pl.Float64)
    if level not in runs.columns:
        known = [name for name in runs.columns if name.startswith("level.")]
        raise NoSuchColumn(f"RUNS: level: got {level!r}; expected one of {', '.join(known) or 'none recorded'}")
    return pl.col(level).cast(pl.Float64)


def _require_values(facts: pl.DataFrame, *, metric: str) -> None:
    bare = facts.filter((pl.col("run_status") == "finished") & pl.col("n_bins").is_null())["run_id"].to_list()
    if bare:
        way_out = "detect on another metric, or leave them out of `runs`"
        raise AnalysisError(
            f"METRICS: {metric}: {len(bare)} finished runs have no finite value (first {bare[0]}); {way_out}"
        )


def _falls(digest: pl.DataFrame, facts: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Every fall of every run with the ratios that it is judged by."""
    drops = find_drops(digest, by=by.contrast).join(facts, on=OVER)
    return _with_drift(_with_previous_end(drops), digest).with_columns(
        relative_gap=pl.col("gap")
        / pl.when(pl.col("plateau_level") > pl.col("floor")).then(pl.col("plateau_level") - pl.col("floor")),
        rise_ratio=pl.col("completion_step") / pl.col("onset_step"),
    )


def _require_levels(facts: pl.DataFrame, *, by: Detector) -> None:
    bare = facts.filter(pl.col("n_bins").is_not_null() & pl.col("solved_level").is_null())["run_id"].to_list()
    if bare:
        raise AnalysisError(
            f"RUNS: {by.floor}: {len(bare)} runs have none (first {bare[0]}); {by.name} needs it, contrast-1 does not"
        )


def _judged(falls: pl.DataFrame, facts: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Facts, the fall that counts most, and what kind of curve the run's falls make it."""
    halfway = pl.col("gap") * 0.5
    far = (pl.col("relative_gap") >= by.least_gap) & (
        pl.col("plateau").is_null()
        | pl.col("solved_level").is_null()
        | (pl.col("after_level") <= pl.col("solved_level"))
    )
    abrupt = (
        (pl.col("rise_ratio") <= by.most_rise)
        & (pl.col("drift") <= by.most_drift)
        & (pl.col("onset_step") >= by.least_plateau_ratio * pl.col("previous_end"))
        & (pl.col("onset_bin") - pl.col("previous_bin") >= by.least_plateau_bins)
    )
    settled = pl.col("bins_after") >= by.settled_bins
    holds = pl.col("median_after") < pl.col("plateau_level") - halfway
    held_to_end = (pl.col("last_level") < pl.col("plateau_level") - 0.8 * halfway) | (
        pl.col("run_status") == "diverged"
    )
    falls = falls.with_columns(
        is_eureka=(far & abrupt & settled & holds & held_to_end).fill_null(False),
        is_relapse=(far & abrupt & settled & ~(holds & held_to_end)).fill_null(False),
        is_falling=(
            (pl.col("relative_gap") >= 0.2) & abrupt & ~settled & (pl.col("run_status") != "diverged")
        ).fill_null(False),
    )
    best = (
        falls.sort("is_eureka", "gap", "eureka_step", descending=[True, True, False])
        .group_by(OVER, maintain_order=True)
        .agg(
            pl.col(
                "after_step", "by_step", "onset_step", "eureka_step", "completion_step", "plateau_level",
                "after_level", "rise_ratio", "relative_gap", "drift",
            ).first(),
            pl.col("is_eureka", "is_relapse", "is_falling").any(),
            n_drops=(pl.col("relative_gap") >= 0.1).sum().cast(pl.Int64),
        )
    )  # fmt: skip
    flags = pl.col("is_eureka", "is_relapse", "is_falling").fill_null(False)
    rows = facts.join(best, on=OVER, how="left", maintain_order="left").with_columns(
        flags, pl.col("n_drops").fill_null(0)
    )
    was_solved = pl.col("solved_step").is_not_null()
    is_solved = was_solved & (pl.col("last_level") <= pl.col("solved_level"))
    kind = (
        pl.when(pl.col("is_falling"))
        .then(pl.lit("in_transition"))
        .when(pl.col("is_relapse") | (was_solved & ~is_solved))
        .then(pl.lit("transient"))
        .when(is_solved)
        .then(pl.lit("gradual"))
        .otherwise(pl.lit("none"))
    )
    return rows.with_columns(kind=kind)


def _with_previous_end(falls: pl.DataFrame) -> pl.DataFrame:
    """Adds where the last fall of a quarter of the size ended before each: `previous_end` [steps], `previous_bin`."""
    end = pl.coalesce("completion_step", "eureka_step")
    others = falls.select(
        OVER, other=pl.col("eureka_step"), other_gap=pl.col("gap"), other_end=end, other_bin=pl.col("completion_bin")
    )
    earlier = (
        falls.select(OVER, "eureka_step", "gap")
        .join(others, on=OVER)
        .filter((pl.col("other") < pl.col("eureka_step")) & (pl.col("other_gap") >= 0.25 * pl.col("gap")))
        .group_by(OVER, "eureka_step")
        .agg(previous_end=pl.col("other_end").max(), previous_bin=pl.col("other_bin").max())
    )
    return falls.join(earlier, on=[OVER, "eureka_step"], how="left").with_columns(
        pl.col("previous_end").fill_null(pl.col("first_step")), pl.col("previous_bin").fill_null(0)
    )


def _with_drift(falls: pl.DataFrame, digest: pl.DataFrame) -> pl.DataFrame:
    """Adds `drift`: how far the metric fell in the octave before onset, or since the fall before that, in gaps [1]."""
    since = pl.max_horizontal(pl.col("onset_step") / 2, "previous_end")
    levels = smoothed(digest).select(OVER, "bin", "at_step", "level")
    then = (
        falls.select(OVER, "eureka_step", since=since)
        .join(levels, on=OVER)
        .sort(OVER, "bin")
        .group_by(OVER, "eureka_step")
        .agg(level_then=pl.col("level").filter(pl.col("at_step") >= pl.col("since")).first())
    )
    drift = (pl.col("level_then") - pl.col("plateau_level")) / pl.col("gap")
    return falls.join(then, on=[OVER, "eureka_step"], how="left").with_columns(drift=drift)


def _crossings(facts: pl.DataFrame) -> pl.DataFrame:
    """The same columns from the level crossing alone: the midpoint is the crossing, and the fall is not measured."""
    last_is_below = (pl.col("last_level") <= pl.col("solved_level")) | (pl.col("run_status") == "diverged")
    crossed = pl.col("solved_step").is_not_null()
    unknown = ("onset_step", "completion_step", "plateau_level", "rise_ratio", "relative_gap", "drift")
    return facts.with_columns(
        *(pl.lit(None, dtype=pl.Float64).alias(name) for name in unknown),
        is_eureka=crossed & last_is_below,
        kind=pl.when(crossed & ~last_is_below).then(pl.lit("transient")).otherwise(pl.lit("none")),
        after_step=pl.col("solved_after").floor(),
        by_step=pl.col("solved_by").ceil(),
        eureka_step=pl.col("solved_step"),
        after_level=pl.col("last_level"),
        n_drops=crossed.cast(pl.Int64),
    )


def _events(judged: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Folds in how the run ended, blanks what only an event has, and restores the metric's sign."""
    failed, diverged = pl.col("run_status") == "failed", pl.col("run_status") == "diverged"
    had_it = pl.col("is_eureka").fill_null(False) & ~failed

    def ended(otherwise: pl.Expr) -> pl.Expr:
        return (
            pl.when(failed).then(pl.lit("failed")).when(had_it).then(pl.lit("eureka"))
            .when(diverged).then(pl.lit("diverged")).otherwise(otherwise)
        )  # fmt: skip

    only_events = ("after_step", "by_step", "onset_step", "eureka_step", "completion_step")
    sign = 1.0 if by.falls else -1.0
    rows = judged.with_columns(status=ended(pl.lit("censored")), kind=ended(pl.col("kind"))).with_columns(
        *(pl.when(had_it).then(name).alias(name) for name in only_events),
        abruptness=1 / pl.col("rise_ratio").log(2),
        plateau_level=sign * pl.col("plateau_level"),
        final_level=sign * pl.when(had_it).then("after_level").otherwise("last_level"),
        censored_step=pl.when(pl.col("status") == "censored").then("end_step"),
        detector=pl.lit(by.name),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in EVENTS_SCHEMA.items())
