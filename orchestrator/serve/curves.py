"""One run's curve at any zoom: of each pixel column its lowest and its highest value, so that no spike is lost.

Of a run that has ended the curve is read from METRICS, that run's rows alone; of one that is under way, from the saved
state of its cohort, as far as that goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from analysis.errors import StoreError
from analysis.files import read_arrays, read_schema
from analysis.places.object_path import File
from analysis.schema import METRICS_KEYS
from analysis.store import Store
from analysis.vouched import verified
from orchestrator.serve.ledger import run_digest

MOST_COLUMNS = 4000


@dataclass(frozen=True)
class Curve:
    """A metric over steps, ascending; only finite values."""

    step: np.ndarray
    value: np.ndarray

    def window(self, *, low: float, high: float, columns: int) -> Curve:
        """The part from `low` to `high`, as at most two points a column: its lowest and its highest, in their order.

        A point beyond each end comes along, so that lines reach the window's sides.
        """
        first = max(int(np.searchsorted(self.step, low)) - 1, 0)
        last = min(int(np.searchsorted(self.step, high, side="right")) + 1, len(self.step))
        step, value = self.step[first:last], self.value[first:last]
        if len(step) <= 2 * columns:
            return Curve(step, value)
        column = np.clip((step - low) / max(high - low, 1) * columns, 0, columns - 1).astype(np.int64)
        starts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
        order = np.lexsort((value, column))
        ends = np.r_[starts[1:], len(column)] - 1
        keep = np.unique(np.concatenate([order[starts], order[ends], [0, len(step) - 1]]))
        return Curve(step[keep], value[keep])

    def record(self) -> dict[str, list[float]]:
        """For JSON: seven digits are what the store has."""
        return {"step": self.step.tolist(), "value": [float(f"{value:.7g}") for value in self.value.tolist()]}


def metrics_of(store: Store, *, block: str) -> list[str]:
    """Metrics that the runs of a block have, in the order of their columns; none where no curve is."""
    try:
        return [name for name in read_schema(store.metrics_path(block)).names if name not in METRICS_KEYS]
    except StoreError:
        return []


@lru_cache(maxsize=32)
def stored_curve(path: File, run_id: str, metric: str) -> Curve:
    """A committed run's curve.

    Raises:
        StoreError: it cannot be read.
    """
    rows = pl.scan_parquet(verified(path)).filter(pl.col("run_id").cast(pl.String) == run_id).select("step", metric)
    try:
        found = rows.filter(pl.col(metric).is_finite()).sort("step").collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path}: not readable ({str(error).splitlines()[0]})") from None
    return Curve(found["step"].to_numpy(), found[metric].to_numpy())


def saved_curve(store: Store, run_id: str) -> Curve | None:
    """The first metric of a run under way, as far as it was saved; None where it was not."""
    for path in store.files("checkpoints", ".npz"):
        try:
            with read_arrays(path) as arrays:
                if f"{run_id}/history" in arrays.files:
                    values: Any = arrays[f"{run_id}/history"][:, 0]
                    is_finite = np.isfinite(values)
                    return Curve(np.arange(len(values))[is_finite], values[is_finite])
        except StoreError:
            continue
    return None


@lru_cache(maxsize=512)
def digest_of(store: Store, block: str, run_id: str, steps: int) -> dict[str, Curve]:
    """Every metric of a run as about a hundred medians.

    Raises:
        StoreError: it cannot be read.
    """
    one = pl.DataFrame({"run_id": [run_id], "steps": [steps]})
    found = run_digest(store, block, runs=one).sort("metric", "bin").partition_by("metric", as_dict=True)
    return {
        str(key[0]): Curve(part["at_step"].to_numpy(), part["value"].to_numpy()) for key, part in found.items()
    }  # fmt: skip


def polyline(curve: Curve, *, width: float, height: float, steps: float) -> str:
    """Points of an SVG polyline of a curve, from 0 to `steps` across; lower values lower."""
    if not len(curve.step):
        return ""
    low, high = float(curve.value.min()), float(curve.value.max())
    x = curve.step / max(steps, 1) * width
    y = (high - curve.value) / ((high - low) or 1.0) * (height - 2) + 1
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
