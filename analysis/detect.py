"""Which runs had their eureka-moment, and when: curves and RUNS in, EVENTS out, one row a run.

A digest of each curve (`bins.py`) is searched for falls (`drops.py`), the falls are judged (`falls.py`), the witness
asks when the metric was half-way to the floor for good (`levels.py`), and here how the run ended is folded in.

A diverged run keeps its eureka if it came first and held to the divergence: it got there, then died. Otherwise it is a
competing exit. A `failed` run has no say in any estimate, and stays in the counts.
"""

from collections.abc import Collection, Sequence

import polars as pl

from analysis import frames, rules
from analysis.detectors import DETECTORS, Detector, detector_named
from analysis.digest import digest as digest_of
from analysis.falls import falls, judged, with_verdicts
from analysis.levels import crossings, facts, require_levels
from analysis.panel import OVER, Panel, panel
from analysis.schema import RUNS
from analysis.store import Store
from analysis.usual import DEFAULT_DETECTOR

__all__ = [
    "DETECTORS",
    "EVENTS_SCHEMA",
    "Detector",
    "detect_events",
    "detector_named",
    "drops_of",
    "events_of",
    "stored_events",
]

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
    "plateau_ratio": pl.Float64(),  # onset over the end of the fall before it, or over the first step [1]
    "drift": pl.Float64(),  # fall in the octave before onset, or since the fall before, in gaps [1]
    "breakthroughness": pl.Float64(),  # how much of the run's change is in few steps, BIG-bench's score [1]
    "n_drops": pl.Int64(),  # falls of a tenth of the way to the floor or more, the first descent included [falls]
    "solved_step": pl.Float64(),  # first sustained crossing of half-way from task plateau to floor [steps]
    "censored_step": pl.Int64(),  # censored runs: observed this long without a eureka [steps]
    "end_step": pl.Int64(),  # recorded steps, whatever the status; where a diverged run left [steps]
    "detectable_step": pl.Float64(),  # a fall with a later midpoint could not have been confirmed here [steps]
    "detector": pl.String(),
}


_FEWEST_RISES = 5  # eurekas that a measured rise ratio is the median of
DROPS_SCHEMA: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "nth": pl.Int64(),  # in time; 0 is mostly the first descent
    "verdict": pl.String(),  # eureka, relapse, in_transition, or none of these: fall
    **{
        name: pl.Float64()
        for name in ("onset_step", "eureka_step", "completion_step", "plateau_level", "after_level", "relative_gap",
                     "rise_ratio", "plateau_ratio", "drift")
    },
}  # fmt: skip


def detect_events(
    metrics: pl.LazyFrame, *, runs: pl.DataFrame, detector: str | Detector = DEFAULT_DETECTOR
) -> pl.DataFrame:
    """EVENTS of the given runs from their METRICS rows; `stored_events` reads the store's digests instead.

    Args:
        metrics: METRICS rows; rows of other runs are ignored.
        runs: RUNS rows.
        detector: a registered name, or a Detector: your own, or a registered one `reading` another metric.

    Returns:
        One row a run, in the order of `runs`, with the columns of EVENTS_SCHEMA.

    Raises:
        NoSuchDetector, NoSuchColumn: a name that is not there.
        AnalysisError: a finished run has no finite value of the metric.

    Checked by: test_detect.py, on simulated families with known answers
    """
    chosen = detector_named(detector) if isinstance(detector, str) else detector
    binned = digest_of(metrics, runs=runs, metric=chosen.metric, bin_steps=chosen.bin_steps)
    return events_of(binned, runs=runs, detector=chosen)


def stored_events(
    store: Store, *, run_ids: Collection[str] | None = None, detector: str | Detector = DEFAULT_DETECTOR
) -> pl.DataFrame:
    """EVENTS of a store's runs (of these only, where given) from the digests that it keeps; see `detect_events`.

    What a registered detector said of a run is kept in the store, so that only runs that are new are judged.

    Returns:
        One row a committed run, sorted by run_id; none for a store without runs.

    Raises:
        As `detect_events`, and StoreError for a damaged store.

    Checked by: test_detect_store.py::test_events_from_stored_digests_are_those_of_the_curves
    """
    from analysis.kept_events import known_events  # which builds on this file

    chosen = detector_named(detector) if isinstance(detector, str) else detector
    rows = frames.runs(store, run_ids=run_ids, columns=_columns_for(chosen))
    if rows.is_empty():
        return pl.DataFrame(schema=EVENTS_SCHEMA)
    return known_events(store, runs=rows, detector=chosen)


def _columns_for(detector: Detector) -> list[str]:
    """What a detector reads of RUNS, and every level that a refusal would list."""
    levels = [level for level in (detector.floor, detector.plateau) if isinstance(level, str)]
    known = [column.name for column in RUNS if column.name.startswith("level.")]
    return list(dict.fromkeys(["run_id", "block", "config_id", "status", "steps", *known, *levels]))


def events_of(digest: pl.DataFrame, *, runs: pl.DataFrame, detector: Detector) -> pl.DataFrame:
    """EVENTS from a digest already made; see `detect_events`."""
    falling = _falling(digest, by=detector)
    known = facts(falling, runs=runs, by=detector)
    if detector.method == "contrast":
        rows = judged(falls(falling, known, by=detector), known, by=detector)
    elif detector.method == "level":
        require_levels(known, by=detector)
        rows = crossings(known)
    else:
        rows = rules.judged(falling, known, by=detector)
    return as_events(
        rows.join(rules.breakthroughness(falling), on=OVER, how="left", maintain_order="left"), by=detector
    )


def _falling(digest: pl.DataFrame, *, by: Detector) -> Panel:
    return panel(digest if by.falls else digest.with_columns(value=-pl.col("value")))


def with_measured_rise(events: pl.DataFrame, *, detector: Detector, by: Sequence[str] = ()) -> pl.DataFrame:
    """EVENTS whose `detectable_step` uses the rise ratio that its own task shows, not the detector's usual one.

    A fall has as far to go after its midpoint as it had before it, so half of the rise ratio's octaves must fit between
    a midpoint and the bins that confirm it. The measured ratio is the median over the eurekas of a group; a group
    with fewer than five keeps the usual one. Kept out of `events_of`, where no run may depend on its company.

    Args:
        events: EVENTS rows, with the grouping columns.
        detector: what made them.
        by: the groups, `task.name` in a store of several tasks.

    Source: statistics.md section 1.2, detectable censoring time.
    Checked by: test_detect_drops.py::test_a_slower_task_is_detectable_for_a_shorter_time
    """
    had = pl.col("rise_ratio").filter(pl.col("status") == "eureka")
    measured = pl.when(had.count() >= _FEWEST_RISES).then(had.median()).otherwise(detector.usual_rise)
    measured = measured.over(list(by)) if by else measured
    return events.with_columns(detectable_step=pl.col("detectable_step") * (detector.usual_rise / measured).sqrt())


def drops_of(digest: pl.DataFrame, *, runs: pl.DataFrame, detector: Detector) -> pl.DataFrame:
    """Every fall of every run in the order of time, with the ratios it is judged by and the verdict.

    Args:
        digest: of the detector's metric.
        runs: RUNS rows.
        detector: a contrast detector.

    Returns:
        One row a (run, fall) with the columns of DROPS_SCHEMA.

    Checked by: test_detect_drops.py::test_every_fall_has_a_row_in_the_order_of_time
    """
    falling = _falling(digest, by=detector)
    sign = 1.0 if detector.falls else -1.0
    found = with_verdicts(falls(falling, facts(falling, runs=runs, by=detector), by=detector), by=detector)
    verdict = (
        pl.when("is_eureka").then(pl.lit("eureka")).when("is_relapse").then(pl.lit("relapse"))
        .when("is_falling").then(pl.lit("in_transition")).otherwise(pl.lit("fall"))
    )  # fmt: skip
    ordered = found.sort(OVER, "eureka_step").with_columns(
        nth=pl.int_range(pl.len()).over(OVER), verdict=verdict,
        plateau_level=sign * pl.col("plateau_level"), after_level=sign * pl.col("after_level"),
    )  # fmt: skip
    return ordered.select(pl.col(name).cast(dtype) for name, dtype in DROPS_SCHEMA.items())


def as_events(judged: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
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
