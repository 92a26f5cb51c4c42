"""Snapshots of runs of one shape, side by side in one model, and the examples that they are asked about.

Snapshots are rows, as runs in training are: an intervention is written for K of them and computes all at once. Which
examples a snapshot is shown depends on the probe's seed and its run's task alone, so runs of one task, and steps of
one run, answer the same questions; training never draws from these streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from workloads.errors import WorkloadError, near_miss
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec
from workloads.streams import generator
from workloads.tasks.task import composed

if TYPE_CHECKING:
    from workloads.tasks.task import Batch

CPU = torch.device("cpu")
Arrays = Mapping[str, np.ndarray]


class Unfit(WorkloadError):
    """A run cannot take what the probe asks of it."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run's weights after `step` updates, and, for what compares two steps, those after `other_step`."""

    spec: RunSpec
    step: int
    weights: Arrays
    other_step: int | None = None
    other: Arrays | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number of each snapshot.

    Attributes:
        metric: what was measured.
        values: of each snapshot `(K,)`.
        layer, head: where, from 0; None where it is of the whole model.
        item: which of several, in words.
    """

    metric: str
    values: Tensor
    layer: int | None = None
    head: int | None = None
    item: str = ""


class Bench:
    """K snapshots of one shape, ready to answer.

    Args:
        subjects: the snapshots.
        examples: how many each is shown.
        seed: of the examples, and of what interventions draw.
        task: settings of the task that are others than in training.

    Raises:
        UnfitWeights: weights are another model's.
    """

    def __init__(self, subjects: Sequence[Subject], *, examples: int, seed: int, task: Mapping[str, Any] | None = None):
        self.subjects, self.examples, self.seed = tuple(subjects), examples, seed
        self.spec = subjects[0].spec
        self.tasks = [other_task(subject.spec, task or {}) for subject in subjects]
        self.model: Any = self.spec.model.build(self.spec.task.shapes())
        self.layout = Layout(self.model)
        self.rows = torch.stack([self._row(subject.weights) for subject in subjects])
        self.controls = self._controls()
        self.batch = self.drawn("examples", examples=examples)
        self.bind(self.rows)

    def _row(self, weights: Arrays) -> Tensor:
        row = torch.zeros(self.layout.width)
        self.layout.overlay(row, weights, fresh="")
        return row

    def others(self) -> Tensor:
        """Rows of the other step of each subject `(K, P)`."""
        return torch.stack([self._row(subject.other or {}) for subject in self.subjects])

    def _controls(self) -> dict[str, Tensor]:
        """What models are told at the step of the snapshot, one value each."""
        each = [s.spec.model.controls(step=s.step, budget_steps=s.spec.budget.steps) for s in self.subjects]
        return {name: torch.tensor([float(values[name]) for values in each]) for name in each[0]}

    def drawn(self, purpose: str, *, examples: int) -> Batch:
        """Examples of each subject's task, never seen in training: every tensor `(K, examples, …)`."""
        batches = []
        for subject, task in zip(self.subjects, self.tasks, strict=True):
            world = task.world(generator(subject.spec.seed.data, "world", device=CPU))
            rng = generator(self.seed, f"probe/{purpose}", device=CPU)
            drawn = task.sample(world, rng, steps=1, batch=examples)
            batches.append(composed(task, {name: values[0] for name, values in drawn.items()}))
        return {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def bind(self, rows: Tensor) -> None:
        """Give the model these weights `(K, P)`; what follows is about them."""
        self.layout.bind(rows, trained=False)

    def answers(self, batch: Batch | None = None, *, seen: Seen | None = None) -> Tensor:
        """What the snapshots say to a batch, to the bench's own unless given."""
        with torch.no_grad():
            output: Tensor = self.model((batch or self.batch)["x"], seen=seen, **self.controls)
        return output

    def scores(self, output: Tensor, batch: Batch | None = None) -> dict[str, Tensor]:
        """The task's metrics of answers `(K,)` each, and its further readings of them."""
        batch = batch or self.batch
        task = self.spec.task
        found = {name: values for name, values in task.objective(output, batch).items() if name in task.METRICS}
        further: Batch = task.readings(output, batch) if hasattr(task, "readings") else {}
        return {**found, **further}

    def attention(self, batch: Batch | None = None) -> list[Tensor]:
        """Each layer's weights of attention `(K, B, H, queries, T)`."""
        seen = Seen()
        self.answers(batch, seen=seen)
        return seen.attention


def other_task(spec: RunSpec, settings: Mapping[str, Any]) -> Any:
    """A run's task with some settings changed.

    Raises:
        Unfit: there is no such setting, its value will not do, or examples get another shape.
    """
    if not settings:
        return spec.task
    try:
        task = type(spec.task).model_validate(spec.task.model_dump() | dict(settings))
    except ValidationError as error:
        fault = error.errors()[0]
        where = "".join(f".{part}" for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = list(type(spec.task).model_fields)
            said = (
                f"got an unknown key; expected one of {', '.join(known)}. {near_miss(fault['loc'][-1], known)}".rstrip()
            )
        elif fault["type"] == "value_error":
            said = f"expected {fault['ctx']['error']}"
        else:
            said = f"got {fault['input']!r}; expected {fault['msg'].removeprefix('Input should be ')}"
        raise Unfit(f"task{where}: {said}") from None
    if task.shapes() != spec.task.shapes():
        raise Unfit(f"task: got {', '.join(settings)}; expected settings that leave the shape of examples as it is")
    return task
