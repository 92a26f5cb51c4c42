"""A sweep that looks like a real one, from simulated curves: 3 temperatures by 4 learning rates by 8 replicates."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa
from curves import short_run

from analysis.schema import RUNS
from analysis.store import Store
from analysis.study import Study, study_of

LEVELS = {
    "level.loss_chance": 1.386,
    "level.loss_plateau": 0.95,
    "level.loss_floor": 0.01,
    "level.accuracy_chance": 0.25,
    "level.accuracy_plateau": 0.5,
    "level.accuracy_ceiling": 1.0,
}
AXES: dict[str, list[Any]] = {"model.attention.temperature": [0.5, 1.0, 2.0], "optim.lr": [1e-4, 3e-4, 1e-3, 3e-3]}


def simulate(
    axes: Mapping[str, Sequence[Any]] = AXES,
    *,
    replicates: int = 8,
    seed: int = 0,
    outcomes: str | None = None,
    lost: int = 5,
    failed: int = 2,
    steps: int = 1500,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """RUNS, METRICS and a sweep's record; `outcomes` fixes every run's: e eureka, c censored, d diverged, f failed."""
    rng = np.random.default_rng(seed)
    rows, curves, ids = [], [], []
    for index, (point, replicate) in enumerate(product(product(*axes.values()), range(replicates))):
        settings = dict(zip(axes, point, strict=True))
        lr, temperature = settings.get("optim.lr", 1e-3), settings.get("model.attention.temperature", 1.0)
        hot = np.log(float(lr) / 1e-3)
        way = outcomes[index % len(outcomes)] if outcomes else _way(rng, hot=hot, temperature=float(temperature))
        at = float(
            np.clip(rng.lognormal(np.log(550) - 0.35 * hot + 0.25 * (float(temperature) - 1), 0.3), 220, steps - 200)
        )
        run_id = f"{rng.integers(2**63):016x}"
        curve = short_run(rng, at=at if way == "e" else None, steps=steps)
        if way == "d":
            end = int(rng.integers(150, 700))
            curve = np.append(curve[:end], [3.0, 40.0, np.nan])
        ids.append(run_id)
        reason = {
            "e": "event",
            "c": "budget",
            "d": f"loss became nan at step {len(curve) - 1}",
            "f": "RuntimeError: out of memory",
        }[way]
        status = {"d": "diverged", "f": "failed"}.get(way, "finished")
        rows.append(
            {
                "run_id": run_id, "config_id": f"{crc32(repr(point).encode()):016x}", "shape_key": "0" * 16,
                "status": status, "reason": reason, "steps": 0 if way == "f" else len(curve),
                "online_event_step": int(at) + 20 if way == "e" else None, "spec": "{}",
                "cohort": "c0", "width": 8, "device": "cpu",
                "host": "here", "versions": '{"eureka": "0.1"}', "seconds": 1.5,
                "task.name": "two_step", "budget.steps": steps,
                "seed.init": replicate, "seed.data": replicate, **LEVELS, **settings,
            }
        )  # fmt: skip
        if way != "f":
            values = curve.astype(np.float32)
            step = np.arange(len(curve), dtype=np.int32)
            accuracy = np.clip(1 - values / 1.9, 0, 1).astype(np.float32)
            curves.append(
                pl.DataFrame(
                    {"run_id": [run_id] * len(curve), "block": "b0", "step": step, "loss": values, "accuracy": accuracy}
                )
            )
    keep = rng.permutation(len(rows))[lost:] if not outcomes else np.arange(len(rows))
    kept = pl.DataFrame(rows, infer_schema_length=None)[sorted(keep)]
    if failed and not outcomes:
        gone = kept["run_id"].sample(failed, seed=seed).implode()
        kept = kept.with_columns(
            status=pl.when(pl.col("run_id").is_in(gone)).then(pl.lit("failed")).otherwise("status"),
            reason=pl.when(pl.col("run_id").is_in(gone))
            .then(pl.lit("RuntimeError: out of memory"))
            .otherwise("reason"),
        )
    record = {
        "name": "softness", "question": "Does a softer softmax bring the eureka-moment forward?",
        "axes": {k: list(v) for k, v in axes.items()},
        "base": {"task": {"name": "two_step"}}, "replicates": replicates, "runs": ids, "horizon_steps": steps,
        "yaml": "question: Does a softer softmax bring the eureka-moment forward?\nreplicates: 8\n",
    }  # fmt: skip
    metrics = (
        pl.concat(curves)
        if curves
        else pl.DataFrame(schema={"run_id": pl.String, "block": pl.String, "step": pl.Int32, "loss": pl.Float32})
    )
    return kept, metrics.filter(pl.col("run_id").is_in(kept["run_id"].implode())), record


def _way(rng: np.random.Generator, *, hot: float, temperature: float) -> str:
    if hot > 1 and rng.random() < 0.3:
        return "d"
    return "e" if rng.random() < 1 / (1 + np.exp(-(1.2 + 1.1 * hot - 1.5 * (temperature - 1)))) else "c"


def demo_study(*args: Any, **options: Any) -> Study:
    """A study straight from the frames."""
    runs, metrics, record = simulate(*args, **options)
    return study_of(runs, metrics=metrics.lazy(), record=record)


def demo_store(path: Path, *args: Any, question: str | None = None, **options: Any) -> Store:
    """The same, written through the store: what a worker would leave."""
    runs, metrics, record = simulate(*args, **options)
    store = Store.create(path)
    curves = [part.drop("block").to_arrow() for part in metrics.partition_by("run_id", maintain_order=True)]
    if runs.height:
        fixed = {column.name for column in RUNS}
        types = {name: dtype.to_python() for name, dtype in runs.schema.items() if name not in fixed}
        store.commit(runs.to_dicts(), [curve.cast(_curve_schema(curve)) for curve in curves], types=types)
    store.save_sweep(record | ({"question": question} if question is not None else {}))
    return store


def _curve_schema(curve: pa.Table) -> pa.Schema:
    return pa.schema([pa.field(field.name, _plain(field.type)) for field in curve.schema])


def _plain(dtype: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype) else dtype
