"""A store with runs of every outcome, written as workers write it; some of its texts mean harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.rows import curve
from analysis.store import Store

HOSTILE = "<script>document.title='owned'</script>"
STEPS = 600
LEVELS = {"level.loss_plateau": 0.95, "level.loss_floor": 0.0, "level.accuracy_plateau": 0.5,
          "level.accuracy_ceiling": 1.0}  # fmt: skip
TYPES = {"optim.lr": float, "model.attention.name": str, "seed.init": int}
GRID = [(lr, name) for lr in (1e-4, 1e-3) for name in ("softmax", HOSTILE)]
NOTHING = np.zeros(0, np.int64)


def run_id(number: int) -> str:
    return f"{number:02x}{'0' * 14}"


def row_of(number: int, status: str) -> dict[str, object]:
    lr, name = GRID[number % len(GRID)]
    reason = {"finished": "budget", "diverged": "loss became nan at step 300", "failed": f"ValueError: {HOSTILE}"}
    steps = {"finished": STEPS, "diverged": 300, "failed": 0}[status]
    more = {"traceback": f"Traceback (most recent call last):\n{reason['failed']}"} if status == "failed" else {}
    return {
        "run_id": run_id(number), "config_id": f"config{number % len(GRID)}", "shape_key": "s", "status": status,
        "reason": reason[status], "steps": steps, "online_event_step": 200 if number % 2 else None, "seconds": 1.0,
        "cohort": "c0ffee", "host": "here", "optim.lr": lr, "model.attention.name": name,
        "seed.init": number // len(GRID), **LEVELS, **more,
    }  # fmt: skip


def values_of(number: int, steps: int) -> dict[str, np.ndarray]:
    """Odd runs fall at about step 250; a spike of one step must be seen at any zoom."""
    rng, t = np.random.default_rng(number), np.arange(steps)
    share = 1 / (1 + np.exp((t - 250 - number) / 8.0)) if number % 2 else np.ones(steps)
    loss = np.maximum(0.94 * share + 0.01 + rng.normal(0, 0.01, steps), 0.001)
    if steps > 120:
        loss[100] = 7.0
    return {"loss": loss.astype(np.float32), "accuracy": (1 - 0.5 * share).astype(np.float32)}


def add_runs(store: Store, numbers: Sequence[int], *, status: str = "finished") -> None:
    """Commit some runs as one block."""
    rows = [row_of(number, status) for number in numbers]
    curves = [
        curve(row["run_id"], values_of(number, row["steps"]), NOTHING, {})
        for number, row in zip(numbers, rows, strict=True)
        if row["steps"]
    ]
    store.commit(rows, curves, types=TYPES)


def plan_runs(store: Store, *, planned: int, name: str = "shown", question: str = f"Is {HOSTILE} text?") -> None:
    """File a sweep of the first so many runs."""
    axes = {"optim.lr": [1e-4, 1e-3], "model.attention.name": ["softmax", HOSTILE]}
    store.save_sweep(
        {"name": name, "question": question, "axes": axes, "zipped": [], "replicates": -(-planned // len(GRID)),
         "runs": [run_id(number) for number in range(planned)], "horizon_steps": STEPS, "yaml": ""}
    )  # fmt: skip


def shown_store(path: Path) -> Store:
    """Twelve finished runs, two diverged, two failed, four to come."""
    store = Store.create(path)
    plan_runs(store, planned=20)
    for numbers, status in ((range(6), "finished"), (range(6, 12), "finished"), ((12, 13), "diverged")):
        add_runs(store, list(numbers), status=status)
    add_runs(store, [14, 15], status="failed")
    return store
