"""The cohort engine: K runs of one shape trained as one program, slots refilled from a member list.

Every tick each occupied slot takes one step of its own run. When a member ends, its slot takes the
next member by writing one row; once the list is empty the cohort narrows (on CPU) so that no lane
idles. Nothing that a run computes depends on which slot or company it has.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from workloads.errors import UnreadableState
from workloads.layers import attention_entropy
from workloads.rows import Layout
from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS, generator
from workloads.update import RowOptimiser, clip
from workloads.watch import Verdict, Watch, end_steps

RING_STEPS = 256
CUDA_POLL_STEPS = 32

Arrays = dict[str, np.ndarray]
Lookup = Callable[[str], Mapping[str, np.ndarray] | None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that ended.

    Attributes:
        status: `finished` or `diverged`.
        reason: why it ended where it did.
        steps: optimiser steps trained, which is the number of rows in `metrics`.
        event_step: where the online rule saw the event; None if it did not.
        metrics: one float32 array a metric [steps].
        measured_steps: at which steps the dearer measures were taken.
        measures: one float32 array a measure [measured steps].
        seconds: the run's share of the cohort's time [s].
        width: slots of the cohort when the run ended.
    """

    spec: RunSpec
    status: str
    reason: str
    steps: int
    event_step: int | None
    metrics: Arrays
    measured_steps: np.ndarray
    measures: Arrays
    seconds: float
    width: int


@dataclass
class Slot:
    """One lane's member: its spec, its own step counter, and what it has recorded."""

    spec: RunSpec
    world: dict[str, Tensor]
    step: int = 0
    history: list[np.ndarray] = field(default_factory=list)  # (steps, metrics) pieces
    measured: list[tuple[int, list[float]]] = field(default_factory=list)
    seconds: float = 0.0


class Cohort:
    """Trains its members; `advance` returns those that ended.

    Args:
        members: runs of one shape_key, in the order in which slots take them.
        width: slots; never more than members.
        device: where to train.
        saved: gives the saved state of a run, or None; see `state`.
        on_unreadable: told of saved states that do not fit; the run then starts afresh.
    """

    def __init__(
        self,
        members: Sequence[RunSpec],
        *,
        width: int,
        device: torch.device | str = "cpu",
        saved: Lookup = lambda run_id: None,
        on_unreadable: Callable[[UnreadableState], None] = lambda error: None,
    ):
        assert len({spec.shape_key for spec in members}) == 1, "a cohort has members of one shape"
        self.device = torch.device(device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # two threads a process measured 2–45 times slower; one order of sums
        torch.set_float32_matmul_precision("highest")
        self.waiting = deque(members)
        self.saved, self.on_unreadable = saved, on_unreadable
        first = members[0]
        self.task = first.task
        self.shapes = self.task.shapes()
        self.model = first.model.build(self.shapes)
        self.layout = Layout(self.model)
        self.columns = (*self.task.METRICS, "grad_norm")
        self.measure_names = (*self.task.MEASURES, "attention_entropy")
        self.run_steps = 0
        self.poll_steps = 1 if self.device.type == "cpu" else CUDA_POLL_STEPS
        self._probe: tuple[torch.nn.Module, Layout] | None = None
        self.slots: list[Slot | None]
        self.blocks: dict[str, Tensor]
        self.stale: set[int]
        self._allocate(min(width, len(members)), optimiser=first.optim.name)
        for slot in range(self.width):
            self._refill(slot)

    # -- what a caller sees ------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Slots, empty ones included."""
        return len(self.slots)

    @property
    def running(self) -> list[RunSpec]:
        """Members that hold a slot."""
        return [slot.spec for slot in self.slots if slot is not None]

    def advance(self, *, seconds: float = float("inf"), ticks: int | None = None) -> list[Outcome]:
        """Train until members end, the time is up, or the ticks are done.

        Returns:
            The members that ended, in the order in which they did; empty when none has yet.
        """
        until = time.monotonic() + seconds
        ended: list[Outcome] = []
        while self.running and not ended and time.monotonic() < until and ticks != 0:
            for _ in range(self.poll_steps if ticks is None else min(self.poll_steps, ticks)):
                self._tick()
                ticks = None if ticks is None else ticks - 1
            ended = self._collect()
        return ended

    def state(self) -> dict[str, Arrays]:
        """Everything that the running members need to go on exactly, by run_id."""
        self._flush()
        return {slot.spec.run_id: self._row_state(k, slot) for k, slot in enumerate(self.slots) if slot is not None}

    def events(self) -> int:
        """Running members whose event the online rule has seen."""
        verdicts = self.watch.verdicts()
        return sum(slot is not None and v.event_step is not None for slot, v in zip(self.slots, verdicts, strict=True))

    # -- one tick ----------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.filled == len(self.ring):
            self._flush()
        batch = self._feed()
        self._measure(batch)
        alive = [(k, slot) for k, slot in enumerate(self.slots) if slot is not None]
        scores = self.task.objective(self.model(batch["x"], **self._controls()), batch)
        gradients = torch.autograd.grad(scores["loss"].sum(), self.parameters)
        with torch.no_grad():
            torch._foreach_copy_(self.gradients, gradients)  # `backward` would warn that rows are not its layout
            norms = torch.linalg.vector_norm(self.grads, dim=1)
            turns = [(k, slot.spec.optim, slot.step, slot.spec.budget.steps) for k, slot in alive]
            clip(self.grads, norms, turns)
            self.optimiser.step(self.rows, self.grads, turns)
            loss = scores["loss"].detach()
            self.watch.update(loss, self.steps)
            torch.stack(
                [*(scores[name].detach() for name in self.task.METRICS), norms], dim=1, out=self.ring[self.filled]
            )
            self.steps += 1.0
        self.filled += 1
        self.run_steps += len(alive)
        for _, slot in alive:
            slot.step += 1

    def _feed(self) -> dict[str, Tensor]:
        """The tick's batch of every slot, `(K, B, …)`; draws the blocks that begin now."""
        where = []
        for k, slot in enumerate(self.slots):
            offset = 0 if slot is None else slot.step % BLOCK_STEPS
            if slot is not None and (offset == 0 or k in self.stale):
                self._draw(k, slot)
            where.append(k * BLOCK_STEPS + offset)
        self.stale.clear()
        index = torch.tensor(where, device=self.device)
        return {name: block.flatten(0, 1).index_select(0, index) for name, block in self.blocks.items()}

    def _draw(self, k: int, slot: Slot) -> None:
        spec = slot.spec
        rng = generator(spec.seed.data, "batches", slot.step // BLOCK_STEPS, device=self.device)
        drawn = spec.task.sample(slot.world, rng, steps=BLOCK_STEPS, batch=spec.budget.batch)
        if not self.blocks:
            self.blocks = {name: torch.zeros(self.width, *values.shape, dtype=values.dtype, device=self.device)
                           for name, values in drawn.items()}  # fmt: skip
        for name, values in drawn.items():
            self.blocks[name][k] = values

    def _controls(self, only: Sequence[int] | None = None) -> dict[str, Tensor]:
        """What the models' specs change from step to step, one value a slot."""
        slots = [self.slots[k] for k in (range(self.width) if only is None else only)]
        values = [
            slot.spec.model.controls(step=slot.step, budget_steps=slot.spec.budget.steps) if slot else None
            for slot in slots
        ]
        some = next(value for value in values if value is not None)
        return {name: torch.tensor([(value or some)[name] for value in values], device=self.device) for name in some}

    def _measure(self, batch: dict[str, Tensor]) -> None:
        """The dearer measures of the members whose cadence falls on this step."""
        due = [k for k, slot in enumerate(self.slots) if slot is not None and _is_due(slot)]
        if not due:
            return
        if self._probe is None:
            model = self.slots[due[0]].spec.model.build(self.shapes)  # type: ignore[union-attr]
            self._probe = (model, Layout(model))
        model, layout = self._probe
        layout.bind(self.rows[due], trained=False)
        maps: list[Tensor] = []
        picked = {name: values[due] for name, values in batch.items()}
        with torch.no_grad():
            model(picked["x"], maps=maps, **self._controls(due))
            taken = self.task.measures(maps, picked)
            taken["attention_entropy"] = torch.stack([attention_entropy(weights) for weights in maps]).mean(0)
        table = torch.stack([taken[name] for name in self.measure_names], dim=1).tolist()
        for k, values in zip(due, table, strict=True):
            slot = self.slots[k]
            assert slot is not None
            slot.measured.append((slot.step, values))

    # -- members come and go -----------------------------------------------------------------

    def _collect(self) -> list[Outcome]:
        """Members that have ended; their slots are refilled, or dropped when nobody waits."""
        verdicts = self.watch.verdicts()
        over = [k for k, slot in enumerate(self.slots) if slot and slot.step >= end_steps(slot.spec, verdicts[k])]
        if not over:
            return []
        self._flush()
        outcomes = []
        for k in over:
            slot = self.slots[k]
            assert slot is not None
            outcomes.append(self._outcome(slot, verdicts[k]))
            self.slots[k] = None
            self._refill(k)
        if self.device.type == "cpu":
            self._narrow()
        return outcomes

    def _outcome(self, slot: Slot, verdict: Verdict) -> Outcome:
        steps = end_steps(slot.spec, verdict)
        history = np.concatenate(slot.history)[:steps]
        measured = [(step, values) for step, values in slot.measured if step < steps]
        table = np.array([values for _, values in measured], dtype=np.float32).reshape(
            len(measured), len(self.measure_names)
        )
        status, reason = "finished", "budget"
        if verdict.diverged_step == steps - 1:
            status = "diverged"
            reason = f"loss became {_plainly(history[-1, 0])} at step {verdict.diverged_step}"
        elif steps < slot.spec.budget.steps:
            reason = "event"
        seen = verdict.event_step is not None and verdict.event_step < steps
        return Outcome(
            spec=slot.spec,
            status=status,
            reason=reason,
            steps=steps,
            event_step=verdict.event_step if seen else None,
            metrics={name: history[:, column].copy() for column, name in enumerate(self.columns)},
            measured_steps=np.array([step for step, _ in measured], dtype=np.int32),
            measures={name: table[:, i].copy() for i, name in enumerate(self.measure_names)},
            seconds=slot.seconds,
            width=self.width,
        )

    def _refill(self, k: int) -> None:
        """Give slot k to the next member, from its saved state if it has one."""
        if not self.waiting:
            return
        spec = self.waiting.popleft()
        world = spec.task.world(generator(spec.seed.data, "world", device=self.device))
        slot = Slot(spec, world)
        saved = self.saved(spec.run_id)
        if saved is not None:
            try:
                self._restore(k, slot, saved)
            except UnreadableState as error:
                self.on_unreadable(error)
                slot, saved = Slot(spec, world), None
        if saved is None:
            self.rows[k] = self.layout.initial_row(spec.seed.init, std=spec.model.init_std, device=self.device)
            for buffer in self.optimiser.state.values():
                buffer[k].zero_()
            self.watch.set(k, spec)
        self.steps[k] = slot.step
        self.slots[k] = slot
        self.stale.add(k)

    def _narrow(self) -> None:
        """Drop empty slots: rows are copied, so no run notices."""
        keep = [k for k, slot in enumerate(self.slots) if slot is not None]
        if not keep or len(keep) == self.width:
            return
        slots, rows, steps = [self.slots[k] for k in keep], self.rows[keep], self.steps[keep]
        optim = {name: buffer[keep] for name, buffer in self.optimiser.state.items()}
        state, rule = self.watch.state[:, keep], self.watch.rule[:, keep]
        blocks = {name: block[keep] for name, block in self.blocks.items()}
        stale = {keep.index(k) for k in self.stale if k in keep}
        self._allocate(len(keep), optimiser=self.optimiser.name)
        self.slots[:] = slots
        self.rows.copy_(rows)
        self.steps.copy_(steps)
        for name, buffer in optim.items():
            self.optimiser.state[name].copy_(buffer)
        self.watch.state.copy_(state)
        self.watch.rule.copy_(rule)
        self.blocks, self.stale = blocks, stale

    def _allocate(self, width: int, *, optimiser: str) -> None:
        """Buffers for so many slots; the model's parameters become views of them."""
        self.slots = [None] * width
        self.rows = torch.zeros(width, self.layout.width, device=self.device)
        self.grads = torch.zeros_like(self.rows)
        self.optimiser = RowOptimiser(optimiser, self.rows)
        self.steps = torch.zeros(width, dtype=torch.float64, device=self.device)
        self.watch = Watch(width, self.device)
        self.ring = torch.zeros(RING_STEPS, width, len(self.columns), device=self.device)
        self.filled, self.since = 0, time.perf_counter()
        self.blocks, self.stale = {}, set()
        self.parameters = self.layout.bind(self.rows, trained=True)
        self.gradients = self.layout.views(self.grads)

    # -- the metric ring and saved states ----------------------------------------------------

    def _flush(self) -> None:
        """Copy the ring to the host and hand each member its part."""
        if not self.filled:
            return
        block = self.ring[: self.filled].cpu().numpy().copy()
        elapsed, self.since = time.perf_counter() - self.since, time.perf_counter()
        for k, slot in enumerate(self.slots):
            if slot is not None:
                slot.history.append(block[:, k])
                slot.seconds += elapsed / len(self.running)
        self.filled = 0

    def _row_state(self, k: int, slot: Slot) -> Arrays:
        arrays = {
            "layout": np.array([self.layout.width, self.layout.parameters]),
            "step": np.array(slot.step),
            "seconds": np.array(slot.seconds),
            "row": self.rows[k].cpu().numpy().copy(),
            "watch": self.watch.state[:, k].cpu().numpy().copy(),
            "history": np.concatenate(slot.history or [np.zeros((0, len(self.columns)), np.float32)]),
            "measured_steps": np.array([step for step, _ in slot.measured], dtype=np.int64),
            "measured": np.array([values for _, values in slot.measured], dtype=np.float64),
        }
        for name, buffer in self.optimiser.state.items():
            arrays[f"optim.{name}"] = buffer[k].cpu().numpy().copy()
        return arrays

    def _restore(self, k: int, slot: Slot, saved: Mapping[str, np.ndarray]) -> None:
        """Fill slot k from what `_row_state` wrote.

        Raises:
            UnreadableState: it was written for another layout, or is incomplete.
        """
        who = f"run {slot.spec.run_id[:8]}"
        try:
            slot.step, slot.seconds = int(saved["step"]), float(saved["seconds"])
            history = np.asarray(saved["history"], dtype=np.float32)
            layout = [self.layout.width, self.layout.parameters]
            if saved["layout"].tolist() != layout or history.shape != (slot.step, len(self.columns)):
                raise UnreadableState(f"{who}: saved state has another layout; it starts afresh")
            self.rows[k] = torch.from_numpy(saved["row"])
            for name, buffer in self.optimiser.state.items():
                buffer[k] = torch.from_numpy(saved[f"optim.{name}"])
            self.watch.set(k, slot.spec, torch.from_numpy(saved["watch"]))
            slot.history = [history]
            steps = saved["measured_steps"].tolist()
            slot.measured = list(zip(steps, saved["measured"].tolist(), strict=True))
        except (KeyError, RuntimeError, ValueError) as error:
            raise UnreadableState(f"{who}: saved state is not whole ({error}); it starts afresh") from None


def _is_due(slot: Slot) -> bool:
    every = slot.spec.log.measures_every_steps
    return every > 0 and slot.step % every == 0


def _plainly(loss: float) -> str:
    return "nan" if np.isnan(loss) else "infinite" if np.isinf(loss) else f"{loss:.3g}"
