"""A sweep as the analysis sees it: its runs, their events with the settings joined on, and what was planned."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import polars as pl

from analysis import frames
from analysis.detect import DETECTORS, EVENTS_SCHEMA, Detector, detector_named, events_of
from analysis.digest import DIGEST_SCHEMA
from analysis.digest import digest as digest_of
from analysis.kept_events import known_events
from analysis.mapping_axes import below, with_mapping_axes
from analysis.store import Store
from analysis.trials import Search, search_of
from analysis.usual import DEFAULT_DETECTOR, judge_of


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a report reads, loaded once.

    Attributes:
        name: the sweep's name.
        question: what it asks.
        axes: columns of `runs` that vary over the sweep, in its order.
        runs: committed RUNS rows of the sweep; an axis over mappings that no one column tells apart has its own.
        metrics: their METRICS rows, unread; what needs no single steps reads `digest`.
        digest: of the detector's metric, about a hundred bins a run.
        events: their EVENTS rows, with the axes joined on; text axes are Enums in the sweep's order.
        planned: how many runs the sweep plans [runs].
        horizon_steps: the largest budget [steps].
        detector: what made the events.
        replicates: runs planned a config [runs].
        record: the sweep's record in the store.
        search: what a search asked, and what came of it; None where the sweep is none.
        asked: columns besides the axes in which the configs of a search differ, drawn from ranges most of them.
    """

    name: str
    question: str
    axes: tuple[str, ...]
    runs: pl.DataFrame
    metrics: pl.LazyFrame
    digest: pl.DataFrame
    events: pl.DataFrame
    planned: int
    horizon_steps: int
    detector: Detector
    replicates: int = 1
    record: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    asked: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Columns that tell the sweep's configs apart: what a table of configs has, where figures lay out axes."""
        return (*self.axes, *self.asked)

    @property
    def waiting(self) -> int:
        """Runs planned that have no RUNS row yet [runs]."""
        return max(self.planned - self.runs.height, 0)

    @property
    def shown_axes(self) -> tuple[str, ...]:
        """The two axes that figures lay out; results are pooled over any others."""
        return self.axes[:2]

    @property
    def pooled_axes(self) -> tuple[str, ...]:
        """The axes that figures pool over."""
        return self.axes[2:]

    def levels(self, axis: str) -> list[Any]:
        """Values of an axis among the committed runs, in order."""
        return self.events.get_column(axis).unique().sort(nulls_last=True).to_list()

    def level_of(self, level: str | float | None) -> pl.Expr:
        """A task level as the detector has it, a RUNS column or a number, as an expression on `runs` [metric]."""
        if isinstance(level, str):
            return pl.col(level).cast(pl.Float64) if level in self.runs.columns else pl.lit(None, dtype=pl.Float64)
        return pl.lit(level, dtype=pl.Float64)

    @cached_property
    def planned_cells(self) -> pl.DataFrame | None:
        """The axes of every planned config, with `planned` runs each; None where the plan is no full grid."""
        axes = {
            name: _distinct(values)
            for name, values in self.record.get("axes", {}).items()
            if len(_distinct(values)) > 1
        }
        is_grid = set(axes) == set(self.axes) and prod(map(len, axes.values())) * self.replicates == self.planned
        if not is_grid or not self.axes or self.asked:
            return None
        dtypes = pl.Schema({axis: self.events.schema[axis] for axis in self.axes})
        try:
            rows = list(product(*(axes[axis] for axis in self.axes)))
            cells = pl.DataFrame(rows, schema=dict.fromkeys(self.axes), orient="row").cast(dtypes)
        except (pl.exceptions.PolarsError, TypeError):
            return None  # the values are not those of the columns: an axis over whole mappings, say
        return cells.with_columns(planned=pl.lit(self.replicates, dtype=pl.Int64))


def open_study(store: Store, *, sweep: str, detector: str | Detector | None = None) -> Study:
    """Load a sweep and detect its events; by the sweep's own detector unless another is given, else `contrast-1`.

    Raises:
        AnalysisError: no such sweep or detector, or a store that cannot be read.
    """
    record = store.sweep(sweep)
    run_ids: list[str] = list(dict.fromkeys(record["runs"]))
    detector = detector or judge_of(record)
    chosen = detector_named(detector) if isinstance(detector, str) else detector
    rows = frames.runs(store, run_ids=run_ids)
    metrics = frames.metrics(store, run_ids=run_ids)
    digest = frames.digest(store, metric=chosen.metric, run_ids=run_ids, bin_steps=chosen.bin_steps)
    events = known_events(store, runs=rows, detector=chosen, digest=digest) if rows.height else None
    asked = store.trials(sweep)
    trials = None if asked is None else pl.DataFrame(pl.from_arrow(asked))
    record = record | {"runs": run_ids}
    return study_of(rows, metrics=metrics, digest=digest, events=events, record=record, detector=chosen, trials=trials)


def study_of(
    runs: pl.DataFrame,
    *,
    metrics: pl.LazyFrame,
    record: Mapping[str, Any],
    detector: Detector = DETECTORS[DEFAULT_DETECTOR],
    digest: pl.DataFrame | None = None,
    events: pl.DataFrame | None = None,
    trials: pl.DataFrame | None = None,
) -> Study:
    """A study from frames.

    Args:
        runs: RUNS rows.
        metrics: their METRICS rows; read here only where there is no digest.
        record: needs name, question, axes, runs, replicates and horizon_steps.
        detector: what finds the events.
        digest: of the detector's metric, where there is one already.
        events: what the detector says of the runs, where it was asked already.
        trials: TRIALS rows of a search.
    """
    if not runs.height:
        events, digest = pl.DataFrame(schema=EVENTS_SCHEMA), pl.DataFrame(schema=DIGEST_SCHEMA)
    else:
        if digest is None:
            digest = digest_of(metrics, runs=runs, metric=detector.metric, bin_steps=detector.bin_steps)
        events = events_of(digest, runs=runs, detector=detector) if events is None else events
    declared: Mapping[str, Sequence[Any]] = record.get("axes", {})
    runs = with_mapping_axes(runs, declared=declared)
    axes = _varying(declared, runs=runs, zipped=record.get("zipped", ()))
    search = search_of(trials, record)
    asked = tuple(name for name in (search.fields if search else ()) if name in runs.columns and name not in axes)
    settings = runs.select("run_id", *(_ordered(runs, name, declared.get(name, ())) for name in (*axes, *asked)))
    return Study(
        name=str(record["name"]),
        question=str(record.get("question", "")).strip(),
        axes=axes,
        runs=runs,
        metrics=metrics,
        digest=digest,
        events=events.join(settings, on="run_id", how="left", maintain_order="left"),
        planned=len(record["runs"]),
        horizon_steps=int(record["horizon_steps"]),
        detector=detector,
        replicates=int(record.get("replicates", 1)),
        record=record,
        search=search,
        asked=asked,
    )


def _varying(
    declared: Mapping[str, Sequence[Any]], *, runs: pl.DataFrame, zipped: Collection[Sequence[str]]
) -> tuple[str, ...]:
    """Columns that stand for the declared axes; of an axis over whole mappings, that of its name, or of its words.

    Of fields that move together the first stands for those that it determines.
    """
    followers = {name for group in zipped for name in list(group)[1:] if _determines(group[0], name, runs=runs)}
    columns: list[str] = []
    for axis, values in declared.items():
        if axis in followers:
            continue
        if axis in runs.columns:
            columns += [axis] if len(_distinct(values)) > 1 or runs[axis].n_unique() > 1 else []
        elif not runs.is_empty():
            columns += below(axis, runs=runs)
    return tuple(dict.fromkeys(columns))


def _determines(leader: str, follower: str, *, runs: pl.DataFrame) -> bool:
    """Whether equal values of the one mean equal values of the other."""
    if not {leader, follower} <= set(runs.columns):
        return True
    return runs.select(leader, follower).n_unique() == runs[leader].n_unique()


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Values in order, each once (they may be lists or mappings)."""
    return [value for i, value in enumerate(values) if value not in values[:i]]


def _ordered(runs: pl.DataFrame, axis: str, declared: Sequence[Any]) -> pl.Expr:
    """The axis, text as an Enum in the declared order, so that sorting it is the sweep's order."""
    if runs.schema[axis] != pl.String:
        return pl.col(axis)
    there = runs[axis].drop_nulls().unique().sort().to_list()
    order = [value for value in declared if isinstance(value, str)]
    return pl.col(axis).cast(pl.Enum(list(dict.fromkeys([*order, *there]))))
