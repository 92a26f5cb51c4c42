"""The ledger as a search reads it: each row once, as the outcome of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from analysis.errors import StoreError
from analysis.files import read_parquet
from analysis.store import Store
from orchestrator.search.proposal import Outcome

COLUMNS = ["run_id", "config_id", "status", "steps", "online_event_step", "budget.steps", "block"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a search needs of a RUNS row."""

    run_id: str
    config_id: str
    status: str
    steps: int
    event_step: int | None
    budget: int
    block: str

    def outcome(self, *, replicate: int, final_loss: float | None = None) -> Outcome:
        """It as a replicate of a proposal."""
        return Outcome(
            replicate=replicate,
            status=self.status,
            event_step=self.event_step,
            steps=self.steps,
            budget=self.budget,
            final_loss=final_loss,
        )


class Rows:
    """All rows of a store's ledger, by run; reads only files that are new.

    Args:
        store: whose.
    """

    def __init__(self, store: Store):
        self._store = store
        self._seen: set[str] = set()
        self.by_run: dict[str, Row] = {}

    def refresh(self) -> list[str]:
        """Read what is new; gives the runs that were not there before."""
        found: list[str] = []
        for path in self._store.files("runs"):
            if path.name in self._seen:
                continue
            try:
                rows = read_parquet(path, columns=COLUMNS).to_pylist()
            except StoreError:  # merged into another file just now
                if path.exists():
                    raise
                continue
            self._seen.add(path.name)
            for row in map(_row, rows):
                if row.run_id not in self.by_run:
                    found.append(row.run_id)
                self.by_run[row.run_id] = row
        return found

    def by_config(self) -> dict[str, list[str]]:
        """Runs of each config, in order."""
        found: dict[str, list[str]] = {}
        for run in sorted(self.by_run):
            found.setdefault(self.by_run[run].config_id, []).append(run)
        return found

    def outcomes(self, runs: Sequence[str], *, losses: Mapping[str, float]) -> list[Outcome]:
        """Stored runs of a config as its replicates, whatever their seeds."""
        return [self.by_run[run].outcome(replicate=i, final_loss=losses.get(run)) for i, run in enumerate(runs)]

    def final_losses(self, runs: Iterable[str]) -> dict[str, float]:
        """The loss of runs at their end: the last bin of their digest; runs without one are left out [nats]."""
        wanted = [self.by_run[run] for run in runs if run in self.by_run and self.by_run[run].status != "failed"]
        found: dict[str, float] = {}
        for block in sorted({row.block for row in wanted}):
            here = {row.run_id for row in wanted if row.block == block}
            with contextlib.suppress(StoreError):
                found |= self._ends(block, runs=here)
        return found

    def _ends(self, block: str, *, runs: set[str]) -> dict[str, float]:
        path = self._store.digest_path(block)
        if not path.exists():  # merged since: its rows have another block now
            for row in _rows_of(self._store, runs):
                if self._store.digest_path(row["block"]).exists():
                    return self._ends(row["block"], runs=runs)
            return {}
        table = read_parquet(path, columns=["run_id", "metric", "bin", "value"])
        table = table.filter(pc.and_(pc.equal(table["metric"], "loss"), pc.is_in(table["run_id"], _array(runs))))
        last: dict[str, tuple[int, float]] = {}
        for row in table.to_pylist():
            if row["run_id"] not in last or row["bin"] >= last[row["run_id"]][0]:
                last[row["run_id"]] = (row["bin"], float(row["value"]))
        return {run: value for run, (_, value) in last.items()}


def _row(row: dict[str, Any]) -> Row:
    return Row(
        run_id=row["run_id"],
        config_id=row["config_id"],
        status=row["status"],
        steps=row["steps"] or 0,
        event_step=row["online_event_step"],
        budget=row["budget.steps"],
        block=row["block"],
    )


def _rows_of(store: Store, runs: set[str]) -> list[dict[str, Any]]:
    table = store.runs_table(columns=["run_id", "block"])
    rows: list[dict[str, Any]] = table.filter(pc.is_in(table["run_id"], _array(runs))).to_pylist()
    return rows


def _array(runs: set[str]) -> Any:
    import pyarrow as pa

    return pa.array(sorted(runs), pa.string())
