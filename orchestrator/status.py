"""Where each sweep of a store stands: what is planned, what the ledger has, what failed and why.

`Standing.events` comes from the ledger's online rule, so that it costs no reading of curves and can
be refreshed every second; what estimates use is the detector's word, which `judged` adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.usual import DEFAULT_DETECTOR, judge_of
from orchestrator.errors import BadRequest
from workloads.errors import near_miss

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from analysis.store import Store

LEDGER_COLUMNS = ("run_id", "status", "reason", "online_event_step", "steps", "budget.steps")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of a sweep's training is done.

    Attributes:
        steps_done: trained by runs that ended, or saved by those that did not [run-steps].
        steps_left: to train, as the command that trains the sweep expects; without one, if every run spends its
            budget [run-steps].
        is_running: a command trains the sweep now.
        run_steps_per_s: its speed lately; None where none trains, or it has not trained long enough [run-steps/s].
        seconds_left: as it expects; None likewise [s].
    """

    steps_done: int
    steps_left: int
    is_running: bool = False
    run_steps_per_s: float | None = None
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        """Of the training that is done [fraction]."""
        whole = self.steps_done + self.steps_left
        return self.steps_done / whole if whole else 1.0

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {"share": round(self.share, 6), **asdict(self)}


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
        progress: how much of the training is done; None where nothing was planned.
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
    progress: Progress | None = None

    @property
    def done(self) -> int:
        """Runs that have their row."""
        return self.finished + self.diverged + self.failed

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        failures = [{"reason": reason, "runs": n} for reason, n in self.failures]
        progress = self.progress and self.progress.record()
        return {**asdict(self), "done": self.done, "failures": failures, "progress": progress}


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
    from analysis.places.place import is_there

    return open_store(path) if is_there(path) else None


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
    from orchestrator.published import read

    ledger = _ledger(store.runs_table(columns=list(LEDGER_COLUMNS)))
    saved = {run: step for run, (_, step) in store.checkpoints.furthest().items()}
    words = {name: read(store.sweep_dir(name)) for name in names}
    found = [standing(store.sweep(name), ledger=ledger, saved=saved, word=words[name]) for name in names]
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


def standing(
    record: Mapping[str, Any],
    *,
    ledger: Mapping[str, Mapping[str, Any]],
    saved: Mapping[str, int],
    word: Mapping[str, Any] | None = None,
) -> Standing:
    """Counts of one sweep.

    Args:
        record: what `Sweep.record` gave.
        ledger: run_id -> its row's LEDGER_COLUMNS, as far as it has them.
        saved: run_id -> step of runs that have a saved state.
        word: what the command that trains it says; None where none does.
    """
    planned = dict.fromkeys(record["runs"])
    rows = [ledger[run] for run in planned if run in ledger]
    by_status = Counter(row["status"] for row in rows)
    reasons = Counter(_one_line(row["reason"]) for row in rows if row["status"] == "failed")
    under_way = [saved[run] for run in planned if run in saved and run not in ledger]
    begun = len(under_way)
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
        progress=with_work(of_ended(record, rows=rows), under_way=under_way, word=word) if planned else None,
    )


def of_ended(record: Mapping[str, Any], *, rows: Sequence[Mapping[str, Any]]) -> Progress:
    """What the runs that ended are of a sweep's training.

    Args:
        record: what `Sweep.record` gave.
        rows: ledger rows of those runs, with `steps` and `budget.steps` as far as they are known.
    """
    ended = sum(row.get("budget.steps") or row.get("steps") or 0 for row in rows)
    done = sum(row.get("steps") or 0 for row in rows)
    return Progress(steps_done=done, steps_left=max(0, round(budget_steps(record) - ended)))


def with_work(progress: Progress, *, under_way: Iterable[int], word: Mapping[str, Any] | None) -> Progress:
    """The same with the saved steps of runs under way [steps]; what a command that trains says goes before budgets."""
    steps = sum(under_way)
    done = progress.steps_done + steps
    if word is None or word.get("is_lost"):
        return replace(progress, steps_done=done, steps_left=max(0, progress.steps_left - steps))
    left = max(0, round(_number(word, "run_steps_total_estimate") - _number(word, "run_steps_done")))
    seconds = None if word.get("seconds_left") is None else _number(word, "seconds_left")
    pace = _number(word, "run_steps_per_s") or None
    return Progress(steps_done=done, steps_left=left, is_running=True, run_steps_per_s=pace, seconds_left=seconds)


def budget_steps(record: Mapping[str, Any]) -> float:
    """Budgets of all runs that a sweep plans: each value of an axis comes equally often [run-steps]."""
    runs, of_axis = len(set(record["runs"])), record.get("axes", {}).get("budget.steps")
    if of_axis:
        return runs * sum(of_axis) / len(of_axis)
    base = record.get("base") or {}
    own = (base.get("budget") or {}).get("steps") if isinstance(base.get("budget") or {}, Mapping) else None
    return float(runs * (own if isinstance(own, int) else record.get("horizon_steps") or 0))


def judged(standing: Standing, *, record: Mapping[str, Any], events: pl.DataFrame) -> Standing:
    """A standing with what a detector says of the sweep's runs."""
    import polars as pl

    own = events.filter(pl.col("run_id").is_in(list(record["runs"])))
    detector = str(own["detector"][0]) if len(own) else None
    return replace(standing, detected=dict(Counter(own["status"].to_list())), detector=detector)


def all_judged(store: Store, standings: Sequence[Standing], *, detector: str | None) -> list[Standing]:
    """Standings with what a detector says, or each sweep's own where none is given; each is asked once for all runs."""
    records = [store.sweep(one.sweep) for one in standings]
    by = [detector or judge_of(record) for record in records]
    found: list[Standing] = list(standings)
    for name in dict.fromkeys(by):
        own = [i for i, each in enumerate(by) if each == name]
        runs = dict.fromkeys(run for i in own for run in records[i]["runs"])
        events = events_table(store, detector=name, runs=list(runs))
        for i in own:
            found[i] = judged(standings[i], record=records[i], events=events)
    return found


def events_table(store: Store, *, detector: str | None = None, runs: Sequence[str] | None = None) -> pl.DataFrame:
    """EVENTS of a store's runs, or of those named; by the usual detector unless one is given.

    Raises:
        NoSuchDetector: listing those there are.
    """
    from analysis.detect import stored_events

    return stored_events(store, run_ids=runs, detector=detector or DEFAULT_DETECTOR)


def _ledger(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["run_id"]: row for row in table.to_pylist()}


def _number(word: Mapping[str, Any], name: str) -> float:
    """A number of a command's word; another eureka may have written it."""
    value = word.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _one_line(reason: str | None) -> str:
    """The last line of a reason: of a traceback, the exception."""
    lines = (reason or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
