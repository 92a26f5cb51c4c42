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

from workloads.capture import park, ready_lanes
from workloads.errors import UnfitWeights, UnreadableState
from workloads.forks import is_snapshot_due
from workloads.lanes import RING_STEPS, Arrays
from workloads.process import settle
from workloads.program import told
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS
from workloads.watch import Verdict, end_steps

CUDA_POLL_STEPS = 32
OF_THE_AVERAGE = ("average_loss", "average_accuracy")

Lookup = Callable[[str], Mapping[str, np.ndarray] | None]
Weights = Callable[[str, int], Mapping[str, np.ndarray]]
Keep = Callable[[str, int, Arrays], None]


def _no_weights(run: str, step: int) -> Arrays:
    raise UnfitWeights(f"start_from: run {run[:8]}, step {step}: no store to take its snapshot from")


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
        weights: gives the snapshot of a run (run_id, step) that a member starts from.
        keep: takes a snapshot (run_id, step, arrays) that a member's spec asks for; twice where a run went back.
    """

    def __init__(
        self,
        members: Sequence[RunSpec],
        *,
        width: int,
        device: torch.device | str = "cpu",
        saved: Lookup = lambda run_id: None,
        on_unreadable: Callable[[UnreadableState], None] = lambda error: None,
        weights: Weights = _no_weights,
        keep: Keep = lambda run, step, arrays: None,
    ):
        assert len({spec.shape_key for spec in members}) == 1, "a cohort has members of one shape"
        self.device = torch.device(device)
        self.waiting = deque(members)
        self.saved, self.on_unreadable = saved, on_unreadable
        self.weights, self.keep = weights, keep
        first = members[0]
        settle(first.compute, self.device)
        self.task = first.task
        self.measure_names = (*self.task.MEASURES, *first.model.MEASURES) if first.model.IS_OPEN else ()
        self.measure_names += OF_THE_AVERAGE if first.average else ()
        self.run_steps = 0
        self.poll_steps = 1 if self.device.type == "cpu" else CUDA_POLL_STEPS
        self.since = time.perf_counter()
        self._probe: tuple[torch.nn.Module, Layout] | None = None
        self.lanes = ready_lanes(first, width=min(width, len(members)), device=self.device)
        self.slots: list[Slot | None] = [None] * self.lanes.width
        self.stale: set[int] = set()
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
        settle(self.lanes.spec.compute, self.device)
        until = time.monotonic() + seconds
        ended: list[Outcome] = []
        while self.running and not ended and time.monotonic() < until and ticks != 0:
            for _ in range(self._ticks_to_poll(ticks)):
                self._tick()
                ticks = None if ticks is None else ticks - 1
            ended = self._collect()
        if ended and not self.running:
            park(self.lanes)
        return ended

    def _ticks_to_poll(self, ticks: int | None) -> int:
        """Until it is looked whether runs have ended; never beyond the end of a budget."""
        left = min(slot.spec.budget.steps - slot.step for slot in self.slots if slot is not None)
        return max(1, min(self.poll_steps, left, self.poll_steps if ticks is None else ticks))

    def state(self) -> dict[str, Arrays]:
        """Everything that the running members need to go on exactly, by run_id."""
        self._flush()
        return {slot.spec.run_id: self._row_state(k, slot) for k, slot in enumerate(self.slots) if slot is not None}

    def events(self) -> int:
        """Running members whose event the online rule has seen."""
        verdicts = self.lanes.watch.verdicts()
        return sum(slot is not None and v.event_step is not None for slot, v in zip(self.slots, verdicts, strict=True))

    # -- one tick ----------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.lanes.filled == RING_STEPS:
            self._flush()
        turns = []
        for k, slot in enumerate(self.slots):
            if slot is not None:
                if slot.step % BLOCK_STEPS == 0 or k in self.stale:
                    self.lanes.draw(k, slot.spec, slot.world, step=slot.step)
                if slot.spec.log.snapshots:
                    self._keep(k, slot)
                turns.append((k, slot.spec.optim, slot.step, slot.spec.budget.steps))
        self.stale.clear()
        self._measure()
        self.lanes.tick(turns)
        for k, *_ in turns:
            self.slots[k].step += 1  # type: ignore[union-attr]
        self.run_steps += len(turns)

    def _measure(self) -> None:
        """The dearer measures of the members whose cadence falls on this step."""
        due = [k for k, slot in enumerate(self.slots) if slot is not None and _is_due(slot)]
        if not due or not self.measure_names:
            return
        if self._probe is None:
            model = self.lanes.spec.model.build(self.task.shapes())
            self._probe = (model, Layout(model))
        model, layout = self._probe
        layout.bind(self.lanes.rows[due], trained=False)
        seen = Seen(moved=lambda: self._moved(layout, due), gradients=lambda: self._gradients(due, picked, controls))
        picked = {name: values[due] for name, values in self.lanes.batch().items()}
        controls = {name: values[due] for name, values in self.lanes.controls().items()}
        with torch.no_grad():
            model(picked["x"], seen=seen, **controls)
            taken = self.task.measures(seen, picked) | self.lanes.spec.model.measures(seen)
            if self.lanes.average is not None:
                taken |= self._of_the_average(due, picked, controls)
        table = torch.stack([taken[name] for name in self.measure_names], dim=1).tolist()
        for k, values in zip(due, table, strict=True):
            slot = self.slots[k]
            assert slot is not None
            slot.measured.append((slot.step, values))

    def _of_the_average(
        self, lanes: Sequence[int], batch: dict[str, Tensor], controls: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Scores of each lane's averaged weights on this step's data."""
        assert self._probe is not None
        assert self.lanes.average is not None
        model, layout = self._probe
        layout.bind(self.lanes.average[list(lanes)], trained=False)
        scores = self.task.objective(model(batch["x"], **controls), batch)
        return {name: scores[name.removeprefix("average_")] for name in OF_THE_AVERAGE}

    def _gradients(
        self, lanes: Sequence[int], batch: dict[str, Tensor], controls: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Gradients of each lane's loss at this step's data, by name."""
        assert self._probe is not None
        model, layout = self._probe
        parameters = layout.bind(self.lanes.rows[list(lanes)], trained=True)
        with torch.enable_grad():
            output = model(batch["x"], **told(self.lanes.spec, batch, controls))
            loss = self.task.objective(output, batch)["loss"].sum()
            found = torch.autograd.grad(loss, parameters)
        return {place.name: gradient for place, gradient in zip(layout.places, found, strict=True)}

    def _moved(self, layout: Layout, lanes: Sequence[int]) -> Tensor:
        """Distance of each lane's weights from the first ones of its seed, in units of these ones' length."""
        specs = [slot.spec for k in lanes if (slot := self.slots[k]) is not None]
        drawn = [layout.initial_row(s.seed.init, std=s.model.init_std, device=self.device) for s in specs]
        first = torch.stack(drawn)
        return (self.lanes.rows[list(lanes)] - first).norm(dim=1) / first.norm(dim=1)

    def _keep(self, k: int, slot: Slot, *, ended: bool = False) -> None:
        """Hand out the weights of slot k, if its spec asks for those of now."""
        if is_snapshot_due(slot.spec.log.snapshots, step=slot.step, ended=ended):
            self.keep(slot.spec.run_id, slot.step, self.lanes.weights(k))

    # -- members come and go -----------------------------------------------------------------

    def _collect(self) -> list[Outcome]:
        """Members that have ended; their slots are refilled, or dropped when nobody waits."""
        verdicts = self.lanes.watch.verdicts()
        over = [k for k, slot in enumerate(self.slots) if slot and slot.step >= end_steps(slot.spec, verdicts[k])]
        if not over:
            return []
        self._flush()
        outcomes = []
        for k in over:
            slot = self.slots[k]
            assert slot is not None
            self._keep(k, slot, ended=True)
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
            metrics={name: history[:, column].copy() for column, name in enumerate(self.lanes.columns)},
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
        slot = Slot(spec, self.lanes.world(spec))
        saved = self.saved(spec.run_id)
        if saved is not None:
            try:
                self._restore(k, slot, saved)
            except UnreadableState as error:
                self.on_unreadable(error)
                slot, saved = Slot(spec, slot.world), None
        if saved is None:
            fork = spec.start_from
            self.lanes.start(k, spec, None if fork is None else self.weights(fork.run, fork.step))
        self.slots[k] = slot
        self.stale.add(k)

    def _narrow(self) -> None:
        """Drop empty slots."""
        keep = [k for k, slot in enumerate(self.slots) if slot is not None]
        if not keep or len(keep) == self.width:
            return
        self.lanes = self.lanes.narrowed(keep)
        self.stale = {keep.index(k) for k in self.stale if k in keep}
        self.slots = [self.slots[k] for k in keep]

    # -- the metric ring and saved states ----------------------------------------------------

    def _flush(self) -> None:
        """Hand each member its part of the metrics since the last time."""
        if not self.lanes.filled:
            return
        block = self.lanes.fetch()
        elapsed, self.since = time.perf_counter() - self.since, time.perf_counter()
        for k, slot in enumerate(self.slots):
            if slot is not None:
                slot.history.append(block[:, k])
                slot.seconds += elapsed / len(self.running)

    def _row_state(self, k: int, slot: Slot) -> Arrays:
        return self.lanes.read(k) | {
            "step": np.array(slot.step),
            "seconds": np.array(slot.seconds),
            "history": np.concatenate(slot.history or [np.zeros((0, len(self.lanes.columns)), np.float32)]),
            "measured_steps": np.array([step for step, _ in slot.measured], dtype=np.int64),
            "measured": np.array([values for _, values in slot.measured], dtype=np.float64),
        }

    def _restore(self, k: int, slot: Slot, saved: Mapping[str, np.ndarray]) -> None:
        """Fill slot k from what `_row_state` wrote.

        Raises:
            UnreadableState: it was written for another layout, or is incomplete.
        """
        who = f"run {slot.spec.run_id[:8]}"
        try:
            slot.step, slot.seconds = int(saved["step"]), float(saved["seconds"])
            history = np.asarray(saved["history"], dtype=np.float32)
            layout = [self.lanes.layout.width, self.lanes.layout.parameters]
            if saved["layout"].tolist() != layout or history.shape != (slot.step, len(self.lanes.columns)):
                raise UnreadableState(f"{who}: saved state has another layout; it starts afresh")
            self.lanes.write(k, slot.spec, saved, step=slot.step)
            slot.history = [history]
            steps = saved["measured_steps"].tolist()
            slot.measured = list(zip(steps, saved["measured"].tolist(), strict=True))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UnreadableState(f"{who}: saved state is not whole ({error}); it starts afresh") from None


def _is_due(slot: Slot) -> bool:
    every = slot.spec.log.measures_every_steps
    return every > 0 and slot.step % every == 0


def _plainly(loss: float) -> str:
    return "nan" if np.isnan(loss) else "infinite" if np.isinf(loss) else f"{loss:.3g}"
