"""What the pages show, kept up to date by one thread while somebody looks.

A request asks for news, waits a moment for them, and takes the latest `Seen` of its sweep, which is never changed
again. So a page is answered at once whatever the store holds: of a large one, first counts, then more and more
runs judged. Nothing is written anywhere.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from time import monotonic
from typing import Any

import polars as pl

from analysis.checkpoints import Saved, furthest_in
from analysis.detectors import DETECTORS
from analysis.digest import DIGEST_SCHEMA
from analysis.errors import AnalysisError, StoreError
from analysis.estimate import config_table
from analysis.files import read_json
from analysis.places.object_path import File
from analysis.store import Store
from analysis.study import Study, study_of
from analysis.usual import DEFAULT_DETECTOR, judge_of
from orchestrator import published
from orchestrator.errors import BadRequest
from orchestrator.serve.ledger import Ledger
from orchestrator.status import LEDGER_COLUMNS, Standing, chosen_sweeps, standing, with_work

FIRST_S, WAIT_S = 1.0, 0.3  # a request waits so long for the first news, and for later ones, then takes what there is
REST = 4.0  # a view that took t seconds to make is left as it is for so many t


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One sweep at one moment.

    Attributes:
        name, record: of the sweep.
        standing: its counts, as `eureka status` has them.
        runs: ended runs with their EVENTS and axes, the latest last [one row a run].
        configs: the table of estimates [one row a config].
        axes: the settings that vary.
        judged: runs with EVENTS.
        unread: ledger files not read yet.
        word: what the command that trains it says; None where none does.
        cohorts: those at work.
        saved: how far unfinished runs have come [steps].
        members: every run that it plans.
        problems: what could not be read, a line each.
    """

    name: str
    record: Mapping[str, Any]
    standing: Standing
    runs: pl.DataFrame
    configs: pl.DataFrame
    axes: tuple[str, ...]
    judged: int
    unread: int
    word: Mapping[str, Any] | None
    cohorts: list[dict[str, Any]]
    saved: Mapping[str, int]
    members: frozenset[str]
    problems: tuple[str, ...] = ()


class Live:
    """A store that is looked at.

    Args:
        store: the store.
        only: the one sweep to show; None shows all.
    """

    def __init__(self, store: Store, *, only: str | None = None):
        self.store, self.only = store, only
        self.ledger = Ledger(store, detector=DETECTORS[DEFAULT_DETECTOR])
        self._ledgers = {DEFAULT_DETECTOR: self.ledger}  # by detector
        self.sweeps: dict[str, Seen] = {}
        self.trouble = ""
        self._keys: dict[str, tuple[Any, ...]] = {}
        self._counted: dict[str, tuple[tuple[int, int], Standing]] = {}
        self._rest_until: dict[str, float] = {}
        self._states: dict[str, Saved] = {}
        self._asked = self._served = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._asked = 1
        self._thread.start()

    def stop(self) -> None:
        """End, as soon as the file being read is."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    @property
    def is_ready(self) -> bool:
        """Whether the store has been looked at, or cannot be."""
        return self._served > 0

    def news(self, *, first_s: float = FIRST_S) -> dict[str, Seen]:
        """Every sweep as it is now; after a while, as it last was.

        Args:
            first_s: how long to wait where nothing was read yet [s].
        """
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._served >= ticket, timeout=WAIT_S if self.is_ready else first_s)
            return self.sweeps

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._asked > self._served or self._has_more)
                if self._is_over:
                    return
                ticket = self._asked
            self.trouble = _trouble_of(self.look, last=self.trouble)
            with self._changed:
                self._served = max(self._served, ticket)
                self._changed.notify_all()
            for ledger in self._ledgers.values():
                self.trouble = self.trouble or _trouble_of(ledger.judge_some, last="")

    @property
    def _has_more(self) -> bool:
        return not self.trouble and any(one.unread > 0 or one.pending > 0 for one in self._ledgers.values())

    def events_of(self, run_id: str) -> pl.DataFrame:
        """EVENTS of a run, by the detector of a sweep that holds it; no row where it was not judged yet."""
        record = next((seen.record for seen in self.sweeps.values() if run_id in seen.members), {})
        return self._ledger_of(record).events.filter(pl.col("run_id") == run_id)

    def _ledger_of(self, record: Mapping[str, Any]) -> Ledger:
        """The ledger as a sweep's own detector judges it; a detector that this eureka does not know is passed over."""
        detector = DETECTORS.get(judge_of(record), DETECTORS[DEFAULT_DETECTOR])
        if detector.name not in self._ledgers:
            made = Ledger(self.store, detector=detector)
            made.read_new()
            self._ledgers = {**self._ledgers, detector.name: made}  # another thread may be going through them
        return self._ledgers[detector.name]

    def look(self) -> None:
        """Read what is new, and make the views that it changes."""
        Store(self.store.path)  # says so where the store has gone
        names = self.store.sweeps() if self.only is None else chosen_sweeps(self.store, name=self.only)
        for ledger in self._ledgers.values():
            ledger.read_new()
        self._states = self.store.checkpoints.by_cohort()
        saved = {run: step for run, (_, step) in furthest_in(self._states).items()}
        made = {}
        for name in names:
            try:
                made[name] = self._seen(name, saved)
            except StoreError as error:  # a record that is not one
                if name in self.sweeps:
                    made[name] = replace(self.sweeps[name], problems=(str(error),))
        self.sweeps = made

    def _seen(self, name: str, saved: Mapping[str, int]) -> Seen:
        """A sweep's view; only what is cheap is made again while little has changed."""
        folder = self.store.sweep_dir(name)
        stamp = (folder / "sweep.json").stat().st_mtime_ns
        record = _record(self.store, name, stamp)
        ledger = self._ledger_of(record)
        before, key = self.sweeps.get(name), (stamp, ledger.version, ledger.unread)
        if before is None or (self._keys.get(name) != key and monotonic() >= self._rest_until.get(name, 0.0)):
            began = monotonic()
            before = self._made(name, record, counts=self._counts(name, record, stamp))
            self._keys[name], self._rest_until[name] = key, monotonic() + REST * (monotonic() - began)
        word = published.read(folder)
        wanted = _members(self.store, name, stamp)
        done = set(before.runs.filter(pl.col("run_id").is_in(list(saved)))["run_id"])
        own = {run: step for run, step in saved.items() if run in wanted and run not in done}
        waiting = before.standing.planned - before.standing.done - len(own)
        progress = before.standing.progress
        if progress is not None:
            progress = with_work(progress, under_way=own.values(), word=word)
        return replace(
            before,
            standing=replace(before.standing, begun=len(own), waiting=waiting, progress=progress),
            word=word,
            saved=own,
            members=wanted,
            cohorts=self._cohorts(name, before.runs, word),
            problems=tuple(self.ledger.problems.values())[:5],
        )

    def _counts(self, name: str, record: Mapping[str, Any], stamp: int) -> Standing:
        """The ledger's rows counted as `eureka status` does; left as they are while only judgements come in."""
        key, known = (stamp, self.ledger.rows_version), self._counted.get(name)
        if known is None or known[0] != key:
            wanted = pl.Series(list(_members(self.store, name, stamp)), dtype=pl.String)
            columns = [name for name in LEDGER_COLUMNS if name in self.ledger.rows.columns]
            rows = self.ledger.rows.select(columns).filter(pl.col("run_id").is_in(wanted.implode()))
            by_run = {row["run_id"]: row for row in rows.to_dicts()}
            known = self._counted[name] = (key, standing(record, ledger=by_run, saved={}))
        return known[1]

    def _made(self, name: str, record: Mapping[str, Any], *, counts: Standing) -> Seen:
        """What the ledger and the judgements say of a sweep."""
        ledger = self._ledger_of(record)
        wanted = pl.DataFrame({"run_id": list(dict.fromkeys(record["runs"]))}, schema={"run_id": pl.String})
        rows = ledger.rows.join(wanted, on="run_id", how="semi")
        study = _study(rows, record)
        settings = study.events.select("config_id", *study.axes)
        events = ledger.events.join(wanted, on="run_id", how="semi").join(settings, on="config_id", how="left")
        found = config_table(
            events, axes=study.axes, at_step=study.horizon_steps, planned=study.planned_cells
        )  # fmt: skip
        judged = {str(key): n for key, n in events["status"].value_counts().iter_rows()}
        own = ["run_id", "config_id", "status", "reason", "steps", "block", "cohort", "host", "ended_at"]
        of_curve = ["run_id", "event", "kind", "eureka_step", "after_step", "by_step", "final_value"]
        runs = (
            rows.select(own)
            .join(ledger.events.rename({"status": "event"}).select(of_curve), on="run_id", how="left")
            .join(settings, on="config_id", how="left")
            .sort("ended_at", "run_id")
        )
        return Seen(
            name=name,
            record=record,
            standing=replace(counts, detected=judged, detector=ledger.detector.name),
            runs=runs,
            configs=found,
            axes=study.axes,
            judged=len(events),
            unread=ledger.unread,
            word=None,
            cohorts=[],
            saved={},
            members=frozenset(),
        )

    def _cohorts(self, name: str, runs: pl.DataFrame, word: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Cohorts that the running command has given out: members, slots, what has ended and what is in slots."""
        if word is None or word["is_lost"]:
            return []
        found: dict[str, dict[str, Any]] = {}
        there: Iterable[File] = (self.store.sweep_dir(name) / "cohorts").glob("*.json")
        for path in sorted(there, key=str):
            try:
                stamp = path.stat().st_mtime
                if stamp < word["began_at"]:  # of a command that was killed
                    continue
                size = _cohort(path, stamp)
            except (StoreError, OSError, ValueError, KeyError):
                continue
            base, _, hand = path.stem.partition("-")
            one = found.setdefault(base, {"cohort": base, "members": 0, "slots": 0, "device": size[2], "since": stamp})
            one["members"] += size[0]
            one["slots"] = max(one["slots"], size[1])
            one["since"] = one["since"] if hand else stamp
        ended = runs.filter(pl.col("cohort").is_in(list(found)))
        of_cohort = {str(key[0]): part for key, part in ended.partition_by("cohort", as_dict=True).items()}
        done = set(ended["run_id"])
        for base, one in found.items():
            part, ((_, stamp_ns), saved) = of_cohort.get(base), self._states.get(base, ((0, 0), {}))
            inside = {run: step for run, step in saved.items() if run not in done}
            one["ended"] = 0 if part is None else len(part)
            one["host"] = "" if part is None else str(part["host"][-1] or "")
            one["in_slots"] = dict(sorted(inside.items())[: one["slots"]])
            at = None if part is None else part["ended_at"][-1]
            last = at.timestamp() if at else 0.0
            one["heard_at"] = max(last, stamp_ns / 1e9) or None
        return [one for one in found.values() if one["members"]]  # all of another's may have been sent elsewhere


def _trouble_of(work: Callable[[], object], *, last: str) -> str:
    """What went wrong in some work, in a line; nothing that does may end the page, and a fault of ours is told once."""
    try:
        work()
    except (AnalysisError, BadRequest, OSError) as error:
        return str(error)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        if found != last:
            traceback.print_exc()
        return found
    return ""


def _study(rows: pl.DataFrame, record: Mapping[str, Any]) -> Study:
    """The sweep's axes and plan; one run a config tells them, and called failed it needs no curve for that."""
    one = rows.unique("config_id", keep="first", maintain_order=True).with_columns(status=pl.lit("failed"))
    try:
        return study_of(one, metrics=pl.LazyFrame(), record=record, digest=pl.DataFrame(schema=DIGEST_SCHEMA))
    except AnalysisError:  # an axis that no row has: then nothing is laid out by axes
        bare = {**record, "axes": {}}
        return study_of(one, metrics=pl.LazyFrame(), record=bare, digest=pl.DataFrame(schema=DIGEST_SCHEMA))


@lru_cache(maxsize=64)
def _record(store: Store, name: str, stamp: int) -> Mapping[str, Any]:
    """A sweep's record, read again when its file is another."""
    return store.sweep(name)


@lru_cache(maxsize=64)
def _members(store: Store, name: str, stamp: int) -> frozenset[str]:
    return frozenset(_record(store, name, stamp)["runs"])


@lru_cache(maxsize=4096)
def _cohort(path: File, stamp: float) -> tuple[int, int, str]:
    """A cohort file's members, slots and device."""
    record = read_json(path)
    return len(record["members"]), int(record["width"]), str(record["device"])
