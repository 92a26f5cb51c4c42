"""Where each sweep of a store stands: what is planned, what the ledger has, what failed and why.

`Standing.events` comes from the ledger's online rule, so that it costs no reading of curves and can
be refreshed every second; what estimates use is the detector's word, which `judged` adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.usual import DEFAULT_DETECTOR, judge_of
from orchestrator.errors import BadRequest
from workloads.errors import near_miss

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from analysis.store import Store

LEDGER_COLUMNS = ("run_id", "status", "reason", "online_event_step")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One sweep's counts [runs].

    Attributes:
        sweep: its name.
        planned: runs that its last command asked for.
        finished: rows that ended by themselves: budget spent, or stopped after the event.
        diverged: rows whose loss left the finite.
        failed: rows that a crash ended.
        begun: no row yet, but a saved state.
        waiting: neither row nor saved state.
        events: rows in which the online rule saw the event.
        detected: EVENTS rows by status; None where curves were not read.
        detector: who judged `detected`.
        failures: each reason and how many rows give it, most common first.
        trials: of a search, by state; None for other sweeps.
        is_open: a search that has not ended: more may be planned.
    """

    sweep: str
    planned: int
    finished: int
    diverged: int
    failed: int
    begun: int
    waiting: int
    events: int
    detected: dict[str, int] | None = None
    detector: str | None = None
    failures: tuple[tuple[str, int], ...] = ()
    trials: dict[str, int] | None = None
    is_open: bool = False

    @property
    def done(self) -> int:
        """Runs that have their row."""
        return self.finished + self.diverged + self.failed

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        failures = [{"reason": reason, "runs": n} for reason, n in self.failures]
        return {**asdict(self), "done": self.done, "failures": failures}


def open_store(path: str) -> Store:
    """The store at a path.

    Raises:
        StoreError: there is none.
    """
    from analysis.store import Store

    return Store(path)


def store_or_none(path: str) -> Store | None:
    """The store at a path; None where nothing is there yet.

    Raises:
        StoreError: something is there, and it is not a store.
    """
    from analysis.store import local_path

    return open_store(path) if local_path(path).exists() else None


def chosen_sweeps(store: Store, *, name: str | None = None, names: Sequence[str] = ()) -> list[str]:
    """The named sweep, or those named, or all of a store's.

    Raises:
        BadRequest: there is none of a name, or none at all.
    """
    there = store.sweeps()
    wanted = [*names, *([] if name is None else [name])]
    if not wanted and not there:
        raise BadRequest(f"{store.path}: holds no sweep yet; `eureka run SWEEP --store {store.path}` adds one")
    for each in wanted:
        if each not in there:
            hint = near_miss(each, there)
            way_out = f". {hint}" if hint else ""
            listed = ", ".join(there) or "none yet"
            raise BadRequest(f"{store.path}: sweep: got {each!r}; expected one of {listed}{way_out}")
    return list(dict.fromkeys(wanted)) or there


def standings(store: Store, *, names: Sequence[str]) -> list[Standing]:
    """Counts of each sweep, from its record and the ledger."""
    ledger = _ledger(store.runs_table())
    saved = set(store.saved_states())
    found = [standing(store.sweep(name), ledger=ledger, saved=saved) for name in names]
    return [replace(one, trials=trial_counts(store, sweep=one.sweep)) for one in found]


def trial_counts(store: Store, *, sweep: str) -> dict[str, int] | None:
    """Trials of a search by state, from the store's table, those of a warm start apart; None where there is none."""
    table = store.trials(sweep)
    if table is None:
        return None
    counts = {"complete": 0, "failed": 0, "running": 0, "warm": 0}
    for state, is_warm in zip(table["state"].to_pylist(), table["warm"].to_pylist(), strict=True):
        counts["warm" if is_warm else state] += 1
    return counts


def standing(record: Mapping[str, Any], *, ledger: Mapping[str, Mapping[str, Any]], saved: set[str]) -> Standing:
    """Counts of one sweep.

    Args:
        record: what `Sweep.record` gave.
        ledger: run_id -> its row's LEDGER_COLUMNS.
        saved: runs that have a saved state.
    """
    planned = dict.fromkeys(record["runs"])
    rows = [ledger[run] for run in planned if run in ledger]
    by_status = Counter(row["status"] for row in rows)
    reasons = Counter(_one_line(row["reason"]) for row in rows if row["status"] == "failed")
    begun = sum(run in saved and run not in ledger for run in planned)
    return Standing(
        sweep=record["name"],
        planned=len(planned),
        finished=by_status["finished"],
        diverged=by_status["diverged"],
        failed=by_status["failed"],
        begun=begun,
        waiting=len(planned) - len(rows) - begun,
        events=sum(row["online_event_step"] is not None for row in rows),
        failures=tuple(reasons.most_common()),
        is_open=bool(record.get("open")),
    )


def judged(standing: Standing, *, record: Mapping[str, Any], events: pl.DataFrame) -> Standing:
    """A standing with what a detector says of the sweep's runs."""
    import polars as pl

    own = events.filter(pl.col("run_id").is_in(list(record["runs"])))
    detector = str(own["detector"][0]) if len(own) else None
    return replace(standing, detected=dict(Counter(own["status"].to_list())), detector=detector)


def judged_by(store: Store, standing: Standing, *, detector: str | None) -> Standing:
    """A standing with what a detector says, or the sweep's own where none is given."""
    record = store.sweep(standing.sweep)
    events = events_table(store, detector=detector or judge_of(record), runs=record["runs"])
    return judged(standing, record=record, events=events)


def events_table(store: Store, *, detector: str | None = None, runs: Sequence[str] | None = None) -> pl.DataFrame:
    """EVENTS of a store's runs, or of those named; by the usual detector unless one is given.

    Raises:
        NoSuchDetector: listing those there are.
    """
    from analysis.detect import stored_events

    return stored_events(store, run_ids=runs, detector=detector or DEFAULT_DETECTOR)


def _ledger(table: pa.Table) -> dict[str, dict[str, Any]]:
    rows: Iterator[dict[str, Any]] = iter(table.select(list(LEDGER_COLUMNS)).to_pylist())
    return {row["run_id"]: row for row in rows}


def _one_line(reason: str | None) -> str:
    """The last line of a reason: of a traceback, the exception."""
    lines = (reason or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
