"""A search as its report sees it: the table of trials, what was scored, and how the settings vary.

Read from the store alone: Optuna need not be there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

PARAM, VALUE, LOW, HIGH = "param:", "value:", "low:", "high:"
FEWEST_TRIALS = 2


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was asked, and what came of it.

    Attributes:
        trials: the TRIALS table, in order.
        record: the search as the sweep's record has it.
    """

    trials: pl.DataFrame
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Who asked."""
        return str(self.record.get("name", "search"))

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options, as given."""
        return self.record.get("options") or {}

    @cached_property
    def objectives(self) -> dict[str, bool]:
        """Label -> whether more is better."""
        return {one["label"]: one["goal"] == "maximize" for one in self.record.get("objectives", ())}

    def by_step(self, label: str) -> int | None:
        """The step that an objective looks at; None is the whole run."""
        steps = {one["label"]: one.get("by_step") for one in self.record.get("objectives", ())}
        return steps.get(label)

    @cached_property
    def fields(self) -> list[str]:
        """Settings of the space of which the trials hold two values or more."""
        names = [name for name in self.trials.columns if name.startswith(PARAM)]
        return [name.removeprefix(PARAM) for name in names if self.trials[name].n_unique() > 1]

    def is_log(self, field: str) -> bool:
        """Whether a setting's range is logarithmic."""
        return "log_range" in self.record.get("space", {}).get(field, {})

    def told(self, label: str) -> pl.DataFrame:
        """Trials with a value of an objective, as told: plus value, low, high."""
        if VALUE + label not in self.trials.columns:
            return self.trials.clear()
        names = {f"{part}{label}": part.rstrip(":") for part in (VALUE, LOW, HIGH)}
        rows = self.trials.filter((pl.col("state") == "complete") & pl.col(VALUE + label).is_finite())
        return rows.sort("told_at", "trial").rename(names)


def search_of(trials: pl.DataFrame | None, record: Mapping[str, Any]) -> Search | None:
    """The search of a sweep's record; None where it has none, or nothing was asked yet."""
    found = record.get("search")
    if trials is None or trials.is_empty() or not isinstance(found, Mapping):
        return None
    return Search(trials=trials.sort("trial"), record=found)
