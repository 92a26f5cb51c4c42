"""Attention maps of one run at chosen steps: trained again, since a run's bits depend on its spec alone.

    python -m workloads.maps SPEC.json maps.npz 0 500 1000     a RUNS row's `spec`, the file to write, the steps

Maps are too large for the tables of metrics; here they cost the run a second time and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from workloads.cohort import Cohort
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec, resolve
from workloads.streams import BLOCK_STEPS, generator
from workloads.tasks.task import composed


def attention_maps(
    spec: RunSpec, *, at_steps: Sequence[int], examples: int = 1, device: str = "cpu"
) -> dict[int, list[np.ndarray]]:
    """What a run attends to after so many updates, always on its first examples.

    Args:
        spec: the run.
        at_steps: updates made before each look, below the run's budget [optimiser steps].
        examples: of the batch of step 0.
        device: where to train.

    Returns:
        By step, the weights of each layer `(examples, H, queries, T)`.
    """
    cohort = Cohort([spec], width=1, device=device)
    cohort.poll_steps = 1
    wanted, found = set(at_steps), {}
    rng = generator(spec.seed.data, "batches", 0, device=cohort.device)
    drawn = spec.task.sample(cohort.lanes.world(spec), rng, steps=BLOCK_STEPS, batch=spec.budget.batch)
    first = composed(spec.task, {name: values[None, 0, :examples] for name, values in drawn.items()})
    x = first["x"]  # (1, examples, …)
    while cohort.running:
        step = cohort.slots[0].step  # type: ignore[union-attr]  # one member runs
        if step in wanted:
            found[step] = _look(spec, cohort, x)
        if found.keys() == wanted:
            break
        cohort.advance(ticks=1)
    return found


def _look(spec: RunSpec, cohort: Cohort, x: torch.Tensor) -> list[np.ndarray]:
    model, seen = spec.model.build(spec.task.shapes()), Seen()
    Layout(model).bind(cohort.lanes.rows[:1], trained=False)
    controls = spec.model.controls(step=cohort.slots[0].step, budget_steps=spec.budget.steps)  # type: ignore[union-attr]
    with torch.no_grad():
        model(x, seen=seen, **{name: torch.tensor([value], device=x.device) for name, value in controls.items()})
    return [weights[0].cpu().numpy().copy() for weights in seen.attention]


if __name__ == "__main__":
    given, made, *steps = sys.argv[1:]
    maps = attention_maps(resolve(json.loads(Path(given).read_text())), at_steps=[int(s) for s in steps])
    named = {f"step_{step}_layer_{i + 1}": m for step, layers in maps.items() for i, m in enumerate(layers)}
    np.savez(made, allow_pickle=False, **named)
