"""A row of a search's study, and the table of them that the store keeps for everybody who has no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from orchestrator.search.objectives import Score
from orchestrator.search.proposal import Proposal
from orchestrator.search.space import Setting, Space


@dataclass(kw_only=True)
class Trial:
    """A row of the study.

    Attributes:
        number: from 0.
        state: `running`, `complete` or `failed`.
        params: dotted field -> value.
        config_id: of the config; empty where the values make none.
        replicates: numbers asked for.
        round: how many times the strategy had been asked; 0 for a warm start.
        asked_at, told_at: UTC.
        scores: by label.
        runs, events: ended runs it was told from, and those of them with an event.
        reason: why it failed.
        is_warm: told from what the store had.
        own: the number that its strategy gave it, where that counts for itself.
    """

    number: int
    state: str
    params: dict[str, Any]
    config_id: str = ""
    replicates: range = range(0)
    round: int = 0
    asked_at: datetime | None = None
    told_at: datetime | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    runs: int = 0
    events: int = 0
    reason: str = ""
    is_warm: bool = False
    own: int | None = None

    @property
    def proposal(self) -> Proposal:
        """What was asked."""
        return Proposal(trial=self.number, params=self.params, replicates=self.replicates)


def trials_table(trials: Sequence[Trial], *, space: Space, labels: Sequence[str]) -> pa.Table:
    """TRIALS: one row a trial, in order.

    Columns: trial, state, config_id, asked_at, told_at, round, runs, events [runs], reason, warm; `param:` and the
    field for each setting, null where it is not there; `value:`, `low:`, `high:` and the label for each score, null
    where it has none.
    """
    utc = pa.timestamp("us", tz="UTC")
    columns: dict[str, pa.Array] = {
        "trial": pa.array([one.number for one in trials], pa.int64()),
        "state": pa.array([one.state for one in trials], pa.string()),
        "config_id": pa.array([one.config_id for one in trials], pa.string()),
        "asked_at": pa.array([one.asked_at for one in trials], utc),
        "told_at": pa.array([one.told_at for one in trials], utc),
        "round": pa.array([one.round for one in trials], pa.int64()),
        "runs": pa.array([one.runs for one in trials], pa.int64()),
        "events": pa.array([one.events for one in trials], pa.int64()),
        "reason": pa.array([one.reason for one in trials], pa.string()),
        "warm": pa.array([one.is_warm for one in trials], pa.bool_()),
    }
    for setting in space.settings:
        values = [one.params.get(setting.field) for one in trials]
        labelled = [None if value is None else setting.label(value) for value in values]
        kind = column_type(setting)
        if kind == pa.string():
            labelled = [None if value is None else str(value) for value in labelled]
        columns[f"param:{setting.field}"] = pa.array(labelled, kind)
    for label in labels:
        told: list[Any] = [one.scores.get(label) for one in trials]
        for part in ("value", "low", "high"):
            columns[f"{part}:{label}"] = pa.array([score and getattr(score, part) for score in told], pa.float64())
    return pa.table(columns)


def column_type(setting: Setting) -> pa.DataType:
    """The type of a setting's column."""
    if setting.kind != "choice":
        return pa.int64() if setting.kind == "int" else pa.float64()
    kinds = {type(value) for value in setting.choices}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()
