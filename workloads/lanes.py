"""The buffers of K lanes, and one step of all of them.

A lane is one row of every buffer: weights, gradients, optimiser state, data of the block of steps at hand, settings of
those steps, event rule, metrics. What a step needs is on the device before it begins, so a step is a function of these
buffers alone; on a GPU it is captured once and replayed without the host (`capture.py`). Which run a lane holds,
and when it ends, is the cohort's business (`cohort.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workloads.program import build_program, drawn_for
from workloads.rows import Layout
from workloads.streams import BLOCK_STEPS, generator
from workloads.tasks.task import composed, drawn_from, world_of
from workloads.update import RowOptimiser, Turn, columns_of
from workloads.watch import Watch

if TYPE_CHECKING:
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch

RING_STEPS = 256
AVERAGE = "average/"  # before the names of averaged weights in snapshots
ROW_DEVICES = ("cpu",)  # where rows are stepped one by one; elsewhere whole buffers are, from the table's columns

Arrays = dict[str, np.ndarray]


class Lanes:
    """Room for `width` runs of one shape.

    Args:
        spec: any run of the shape.
        width: lanes K.
        device: where they are.

    Attributes:
        rows, grads: weights and gradients `(K, P)`.
        trained: 1 where a run's weights train, 0 where they are frozen `(K, P)`; None where all runs train whole.
        average: moving average of the weights `(K, P)`; None where no run asks for one. `decays` of it `(K, 1)`.
        blocks: data of each lane's block of steps, `(K, BLOCK_STEPS, batch, …)` by name.
        table: settings of those steps, `(K, BLOCK_STEPS, controls and optimiser columns)`.
        steps: each lane's own step `(K,)`.
        ring: metrics of the last steps `(RING_STEPS, K, M)`, of which `filled` are waiting to be fetched.
    """

    def __init__(self, spec: RunSpec, *, width: int, device: torch.device):
        self.spec, self.width, self.device = spec, width, device
        self.task = spec.task
        self.model = spec.model.build(spec.task.shapes())
        self.layout = Layout(self.model, is_split=spec.trainable is not None)
        self.columns = (*spec.task.METRICS, "grad_norm")
        self.control_names = tuple(_controls(spec, 0))
        self.rows = torch.zeros(width, self.layout.width, device=device)
        self.grads = torch.zeros_like(self.rows)
        self.trained = torch.ones_like(self.rows) if spec.trainable else None
        self.average = torch.zeros_like(self.rows) if spec.average else None
        self.decays = torch.zeros(width, 1, device=device)
        self.optimiser = RowOptimiser(spec.optim.name, self.rows, self.layout.segments)
        self.watch = Watch(width, device)
        self.steps = torch.zeros(width, dtype=torch.float64, device=device)
        self.starts = torch.arange(0, width * BLOCK_STEPS, BLOCK_STEPS, device=device)
        self.ring = torch.zeros(RING_STEPS, width, len(self.columns), device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.filled = 0
        settings = len(self.control_names) + len(self._columns(spec, 0))
        self.table = torch.zeros(width, BLOCK_STEPS, settings, device=device)
        self.blocks: Batch = {
            name: torch.zeros(width, *values.shape, dtype=values.dtype, device=device)
            for name, values in self._sample(spec, self.world(spec), 0).items()
        }
        self.program = build_program(self)

    # -- one step ----------------------------------------------------------------------------

    def tick(self, turns: Sequence[Turn]) -> None:
        """One step of every lane that `turns` lists; the others' rows do not move (or nobody looks at them)."""
        self.step_on_device(turns)
        self.filled += 1

    def step_on_device(self, turns: Sequence[Turn]) -> None:
        """The step's arithmetic; on a GPU it reads no turns, so that it can be captured."""
        scores = self.program(self, turns)
        with torch.no_grad():
            if self.trained is not None:
                self.grads.mul_(self.trained)
            norms = torch.linalg.vector_norm(self.grads, dim=1)
            if self.device.type in ROW_DEVICES:
                self.optimiser.step_rows(self.rows, self.grads, norms, turns)
            else:
                columns = self.now(self.table)[:, len(self.control_names) :]
                self.optimiser.step_columns(self.rows, self.grads, norms, columns)
            if self.average is not None:
                self.average.mul_(self.decays).add_(self.rows * (1.0 - self.decays))
            self.watch.update(scores[:, 0], self.steps)
            self.ring.index_copy_(0, self.cursor, torch.cat([scores, norms[:, None]], dim=1)[None])
            self.steps += 1.0
            self.cursor += 1

    def now(self, block: Tensor) -> Tensor:
        """Each lane's part of a block `(K, BLOCK_STEPS, …)` that its step needs: `(K, …)`."""
        index = self.starts + self.steps.remainder(BLOCK_STEPS).long()
        return block.flatten(0, 1).index_select(0, index)

    def batch(self) -> Batch:
        """The data of every lane's step."""
        return composed(self.task, {name: self.now(block) for name, block in self.blocks.items()})

    def controls(self) -> dict[str, Tensor]:
        """What the models' specs change from step to step, one value a lane."""
        values = self.now(self.table)
        return {name: values[:, i] for i, name in enumerate(self.control_names)}

    # -- what lanes are given ----------------------------------------------------------------

    def world(self, spec: RunSpec) -> Batch:
        """What stays fixed for a whole run."""
        return world_of(spec, generator(spec.seed.data, "world", device=self.device))

    def draw(self, lane: int, spec: RunSpec, world: Batch, *, step: int) -> None:
        """Data and settings of the block of steps that holds `step`."""
        block = step // BLOCK_STEPS
        for name, values in self._sample(spec, world, block).items():
            self.blocks[name][lane] = values
        steps = range(block * BLOCK_STEPS, (block + 1) * BLOCK_STEPS)
        table = [[*_controls(spec, at).values(), *self._columns(spec, at)] for at in steps]
        self.table[lane] = torch.tensor(table)

    def _columns(self, spec: RunSpec, step: int) -> tuple[float, ...]:
        if self.device.type in ROW_DEVICES:
            return ()  # rows are stepped by the spec itself
        frozen = self.layout.frozen(spec.trainable)
        return columns_of(spec.optim, self.layout.segments, step=step, budget_steps=spec.budget.steps, frozen=frozen)

    def _sample(self, spec: RunSpec, world: Batch, block: int) -> Batch:
        rng = generator(spec.seed.data, "batches", block, device=self.device)
        first = block * BLOCK_STEPS
        drawn = drawn_from(spec.task, world, rng, first_step=first, steps=BLOCK_STEPS, batch=spec.budget.batch)
        if drawn_for(spec.model):
            rng = generator(spec.seed.data, "model", block, device=self.device)
            drawn = drawn | spec.model.draws(rng, steps=BLOCK_STEPS, batch=spec.budget.batch)
        return drawn

    def start(self, lane: int, spec: RunSpec, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Give a lane to a run at its first step, with those weights of another run that its spec asks for."""
        self.rows[lane] = self.layout.initial_row(spec.seed.init, std=spec.model.init_std, device=self.device)
        if spec.start_from is not None and weights is not None:
            self.layout.overlay(self.rows[lane], weights, fresh=spec.start_from.fresh)
        for buffer in self.optimiser.state.values():
            buffer[lane].zero_()
        if self.average is not None:
            self.average[lane] = self.rows[lane]
        self._settle(lane, spec, step=0)

    def weights(self, lane: int) -> Arrays:
        """A lane's weights by parameter, and their moving average, if there is one, as `average/…`."""
        kept = self.layout.named(self.rows[lane])
        averaged = {} if self.average is None else self.layout.named(self.average[lane])
        return kept | {f"{AVERAGE}{name}": values for name, values in averaged.items()}

    def read(self, lane: int) -> Arrays:
        """A lane's state as arrays of its own."""
        arrays = {
            "layout": np.array([self.layout.width, self.layout.parameters]),
            "row": self.rows[lane].cpu().numpy().copy(),
            "watch": self.watch.state[:, lane].cpu().numpy().copy(),
        }
        for name, buffer in self.optimiser.state.items():
            arrays[f"optim.{name}"] = buffer[lane].cpu().numpy().copy()
        if self.average is not None:
            arrays["average"] = self.average[lane].cpu().numpy().copy()
        return arrays

    def write(self, lane: int, spec: RunSpec, arrays: Mapping[str, np.ndarray], *, step: int) -> None:
        """Give a lane to a run at a later step, from what `read` gave."""
        self.rows[lane] = torch.from_numpy(arrays["row"])
        for name, buffer in self.optimiser.state.items():
            buffer[lane] = torch.from_numpy(arrays[f"optim.{name}"])
        if self.average is not None:
            self.average[lane] = torch.from_numpy(arrays["average"])
        self._settle(lane, spec, step=step, watch=torch.from_numpy(arrays["watch"]))

    def _settle(self, lane: int, spec: RunSpec, *, step: int, watch: Tensor | None = None) -> None:
        self.watch.set(lane, spec, watch)
        self.steps[lane] = step
        if spec.average is not None:
            self.decays[lane] = spec.average.decay
        if self.trained is not None:
            self._freeze(lane, spec)
        self.grads[lane].zero_()  # a diverged run leaves NaN between the parameters, where no gradient is written

    def _freeze(self, lane: int, spec: RunSpec) -> None:
        assert self.trained is not None
        frozen = self.layout.frozen(spec.trainable)
        self.optimiser.frozen[lane] = frozen
        self.trained[lane].fill_(1.0)
        for index in frozen:
            segment = self.layout.segments[index]
            self.trained[lane, segment.start : segment.stop] = 0.0

    # -- what lanes give ---------------------------------------------------------------------

    def fetch(self) -> np.ndarray:
        """The metrics of the steps since the last call `(steps, K, M)`."""
        block = self.ring[: self.filled].cpu().numpy().copy()
        self.filled = 0
        self.cursor.zero_()
        return block

    def narrowed(self, keep: Sequence[int]) -> Lanes:
        """Those lanes alone, in new buffers; rows are copied, so no run notices. Fetch first."""
        fewer = Lanes(self.spec, width=len(keep), device=self.device)
        kept = list(keep)
        for mine, theirs in zip(fewer._by_lane(), self._by_lane(), strict=True):
            mine.copy_(theirs[kept])
        fewer.watch.state.copy_(self.watch.state[:, kept])
        fewer.watch.rule.copy_(self.watch.rule[:, kept])
        fewer.optimiser.frozen = [self.optimiser.frozen[k] for k in kept]
        return fewer

    def _by_lane(self) -> list[Tensor]:
        masks = [buffer for buffer in (self.trained, self.average) if buffer is not None]
        return [
            self.rows,
            self.decays,
            self.steps,
            self.table,
            *masks,
            *self.blocks.values(),
            *self.optimiser.state.values(),
        ]


def _controls(spec: RunSpec, step: int) -> dict[str, float]:
    values: dict[str, float] = spec.model.controls(step=step, budget_steps=spec.budget.steps)
    return values
