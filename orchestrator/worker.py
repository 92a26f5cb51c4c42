"""Trains one cohort out of the store and commits what ends; the same under every launcher.

A worker knows two things, the store and a cohort's id. Everything else it reads: the members, the
ledger (members that are done are skipped) and the saved states (members that were under way go on
where they were, whichever cohort saved them). Before its slots run short it looks for a hand: more
members that the queue has sent after it.
"""

from __future__ import annotations

import json
import platform
import socket
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from analysis.errors import StoreError
from analysis.rows import curve
from analysis.store import Store
from orchestrator import __version__
from orchestrator.accelerators import Accelerators, together
from orchestrator.pulse import PULSE_S, Pulse, hand_name, spec_columns
from workloads.capture import release
from workloads.cohort import Cohort, Outcome
from workloads.errors import UnfitWeights, UnreadableState
from workloads.fields import column_types
from workloads.process import is_out_of_memory
from workloads.spec import RunSpec, resolve


class Superseded(Exception):
    """An attempt at a cohort was given up for lost; its runs are another's, and it may not commit."""


class CohortWorker:
    """A cohort in training.

    Args:
        store: address of the store, or the store itself where this process has it open.
        sweep: name under which the cohort is filed.
        cohort: its id.
    """

    def __init__(self, *, store: str | Store, sweep: str, cohort: str):
        self.store, self.sweep, self.cohort = store, sweep, cohort
        self.engine: Cohort | None = None
        self.ended: list[Outcome] = []
        self.finished = self.diverged = self.events = 0  # committed by this worker
        self.hands = self.afresh = self.run_steps = 0
        self.members: dict[str, RunSpec] = {}  # all that this worker was given
        self.seconds = self.cpu_s = 0.0
        self.accelerators: Accelerators | None = None
        self.is_open = False

    def open(self) -> None:
        """Read the cohort and set it up; does nothing the second time."""
        if self.is_open:
            return
        self.opened = self.store = self.store if isinstance(self.store, Store) else Store(self.store, waits=True)
        record = self._licence()
        self.width, self.device, self.checkpoint_s = record["width"], record["device"], record["checkpoint_s"]
        self.states = self.opened.checkpoints.furthest() if record["resumes"] else {}
        self.saved_at = time.monotonic()
        self.accelerators = Accelerators() if self.device == "cuda" else None
        if members := self._members(record):
            self._seat(members)
        self.is_open = True

    def step(self) -> Pulse:
        """Train for a while, commit what ended, save the rest now and then."""
        if self.engine is None:
            return self._pulse()
        self._licence()
        began, cpu = time.monotonic(), time.process_time()
        until = began + min(PULSE_S, self.checkpoint_s)
        while self.engine and self.engine.running and (left := until - time.monotonic()) > 0:
            self._take_hands()
            if not self._advance(left):
                self._seat_again()
        self.seconds += time.monotonic() - began
        self.cpu_s += time.process_time() - cpu
        self._commit()
        if not (self.engine and self.engine.running):
            self.opened.checkpoints.drop(self.cohort)
        elif time.monotonic() - self.saved_at > self.checkpoint_s:
            self._save()
        return self._pulse()

    def close(self) -> None:
        """Leave nothing behind that would have to be trained again."""
        if self.engine is not None and self.engine.running:
            with suppress(Superseded):
                self._commit()
                self._save()

    # -- slots, and what to do where memory does not suffice for them ------------------------

    def _seat(self, members: list[RunSpec]) -> None:
        """Set up a cohort; with half the slots where memory does not suffice, down to one."""
        while not self._fits(members):
            self._narrow()

    def _fits(self, members: list[RunSpec]) -> bool:
        try:
            self.engine = Cohort(
                members,
                width=self.width,
                device=self.device,
                saved=self._saved,
                on_unreadable=self._unreadable,
                weights=self._weights,
                keep=self.opened.snapshots.save,
            )
        except Exception as error:
            if self.width == 1 or not is_out_of_memory(error):
                raise
            return False  # with the error goes what it held
        return True

    def _advance(self, seconds: float) -> bool:
        """Train; False where memory did not suffice and fewer slots may do."""
        assert self.engine is not None
        try:
            self.ended += self.engine.advance(seconds=seconds)
        except Exception as error:
            if self.width == 1 or not is_out_of_memory(error):
                raise
            return False
        return True

    def _seat_again(self) -> None:
        """Go on with half the slots, every member from its last saved state."""
        assert self.engine is not None
        self.run_steps += self.engine.run_steps
        self.engine = None
        self._narrow()
        done = self.opened.statuses().keys() | {outcome.spec.run_id for outcome in self.ended}
        self.states = self.opened.checkpoints.furthest()
        if left := [spec for run, spec in self.members.items() if run not in done]:
            self._seat(left)

    def _narrow(self) -> None:
        self.width = max(1, self.width // 2)
        release()

    # -- members -----------------------------------------------------------------------------

    def _members(self, record: Mapping[str, Any]) -> list[RunSpec]:
        """The members that a record names, less those that are done."""
        done = self.opened.statuses()
        members = [spec for spec in map(resolve, record["members"]) if spec.run_id not in done]
        self.members |= {spec.run_id: spec for spec in members}
        return members

    def _take_hands(self) -> None:
        """Take in members that were sent after the cohort, while there are fewer waiting than slots."""
        assert self.engine is not None
        while len(self.engine.waiting) < self.width:
            try:
                record = self.opened.cohort(self.sweep, hand_name(self.cohort, self.hands + 1))
            except FileNotFoundError:  # none was sent, or it is not to be seen from here yet
                return
            self.hands += 1
            if record["resumes"]:
                self.states = self.opened.checkpoints.furthest()
            self.engine.waiting.extend(self._members(record))

    def _saved(self, run: str) -> Mapping[str, np.ndarray] | None:
        if run not in self.states:
            return None
        state = self.opened.checkpoints.load(run, self.states[run][0])
        self.afresh += state is None
        return state

    def _weights(self, run: str, step: int) -> Mapping[str, np.ndarray]:
        try:
            return self.opened.snapshots.load(run, step)
        except StoreError as error:  # a fault of this member, not of the store
            raise UnfitWeights(f"start_from: {error}") from None

    def _unreadable(self, _: UnreadableState) -> None:
        self.afresh += 1

    def _commit(self) -> None:
        if not self.ended:
            return
        provenance = {"cohort": self.cohort, "host": socket.gethostname(), **self._versions()}
        rows = [ledger_row(outcome) | provenance for outcome in self.ended]
        curves = [outcome_curve(outcome) for outcome in self.ended]
        types = column_types(self.ended[0].spec)
        added = set(self.opened.commit(rows, curves, types=types, may=self._licence))
        for outcome in self.ended:
            if outcome.spec.run_id in added:
                self.finished += outcome.status == "finished"
                self.diverged += outcome.status == "diverged"
                self.events += outcome.event_step is not None
        self.ended = []

    def _save(self) -> None:
        assert self.engine is not None
        self._licence()
        self.opened.checkpoints.save(self.cohort, self.engine.state())
        self.saved_at = time.monotonic()

    def _licence(self) -> Mapping[str, Any]:
        """The attempt's record, which is there for as long as nobody else was given its runs.

        Raises:
            Superseded: it is not there any more.
        """
        try:
            return self.opened.cohort(self.sweep, self.cohort)
        except FileNotFoundError:
            raise Superseded(self.cohort) from None

    def _versions(self) -> dict[str, Any]:
        versions: dict[str, Any] = {
            "eureka": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        device = torch.cuda.get_device_name() if self.device == "cuda" else f"cpu {platform.machine()}"
        if monitored := self._monitored():
            versions["accelerators"] = {name: round(value, 3) for name, value in monitored.items()}
        return {"versions": json.dumps(versions), "device": device}

    def _monitored(self) -> dict[str, Any]:
        """What its accelerators are doing, for a pulse."""
        reading = together(self.accelerators.readings()) if self.accelerators else None
        if reading is None:
            return {}
        room = {"gpu_gib": reading.used_gib, "gpu_total_gib": reading.total_gib}
        return {**room, "gpu_busy": reading.busy, "gpu_watts": reading.watts}

    def _pulse(self) -> Pulse:
        engine = self.engine
        pulse = Pulse(
            cohort=self.cohort,
            finished=self.finished,
            diverged=self.diverged,
            events=self.events,
            run_steps=self.run_steps + (engine.run_steps if engine else 0),
            hands=self.hands,
            afresh=self.afresh,
            seconds=self.seconds,
            cpu_s=self.cpu_s,
            over=True,
            **self._monitored(),
        )
        if engine is None or not engine.running:
            return pulse
        slots = [slot for slot in engine.slots if slot is not None]
        left = sum(slot.spec.budget.steps - slot.step for slot in slots)
        return replace(
            pulse,
            events=self.events + engine.events(),
            running=len(slots),
            waiting=len(engine.waiting),
            steps_left=left + sum(spec.budget.steps for spec in engine.waiting),
            over=False,
        )


def pulse_or_error(worker: CohortWorker) -> Pulse:
    """One step; a fault in the members' own code becomes a pulse that carries it."""
    try:
        worker.open()
        return worker.step()
    except StoreError as error:
        worker.engine = None
        return Pulse(cohort=worker.cohort, over=True, halt=str(error))
    except Superseded:
        worker.engine = None
        return Pulse(cohort=worker.cohort, over=True, superseded=True)
    except Exception:  # the queue turns it into rows
        worker.engine = None  # it may have stopped in the middle of a step: nothing of it may be saved
        return Pulse(cohort=worker.cohort, over=True, error=traceback.format_exc())


def ledger_row(outcome: Outcome) -> dict[str, Any]:
    """RUNS row of a run that ended."""
    return spec_columns(outcome.spec) | {
        "status": outcome.status,
        "reason": outcome.reason,
        "steps": outcome.steps,
        "online_event_step": outcome.event_step,
        "width": outcome.width,
        "seconds": outcome.seconds,
    }


def outcome_curve(outcome: Outcome) -> pa.Table:
    """METRICS rows of a run that ended."""
    return curve(outcome.spec.run_id, outcome.metrics, outcome.measured_steps, outcome.measures)
