"""Trains one cohort out of the store and commits what ends; the same under every launcher.

A worker knows two things, the store and a cohort's id. Everything else it reads: the members, the
ledger (members that are done are skipped) and the saved states (members that were under way go on
where they were, whichever cohort saved them).
"""

from __future__ import annotations

import json
import platform
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from analysis.errors import StoreError
from analysis.store import Store, curve
from orchestrator import __version__
from workloads.cohort import Cohort, Outcome
from workloads.fields import column_types
from workloads.spec import RunSpec, resolve

PULSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """Where a cohort stands; flat, since Tune copies it into every result.

    Attributes:
        cohort: its id.
        finished, diverged: members committed by this worker so far.
        events: members, committed or running, whose event the online rule has seen.
        running, waiting: members in slots, and those that wait for one.
        run_steps: trained by this worker so far.
        steps_left: run-steps that its members still need at most.
        over: nothing is left to do.
        error: traceback of a fault in the members' own code; empty otherwise.
        halt: why no worker can go on (the store takes no more); empty otherwise.
    """

    cohort: str
    finished: int = 0
    diverged: int = 0
    events: int = 0
    running: int = 0
    waiting: int = 0
    run_steps: int = 0
    steps_left: int = 0
    over: bool = False
    error: str = ""
    halt: str = ""


class CohortWorker:
    """A cohort in training.

    Args:
        store: address of the store.
        sweep: name under which the cohort is filed.
        cohort: its id.
    """

    def __init__(self, *, store: str, sweep: str, cohort: str):
        self.address, self.sweep, self.cohort = store, sweep, cohort
        self.engine: Cohort | None = None
        self.ended: list[Outcome] = []
        self.finished = self.diverged = self.events = 0  # committed by this worker
        self.is_open = False

    def open(self) -> None:
        """Read the cohort and set it up; does nothing the second time."""
        if self.is_open:
            return
        self.store = Store(self.address)
        record = self.store.cohort(self.sweep, self.cohort)
        done = self.store.statuses()
        members = [spec for spec in map(resolve, record["members"]) if spec.run_id not in done]
        self.device, self.checkpoint_s = record["device"], record["checkpoint_s"]
        self.saved_at = time.monotonic()
        if members:
            states = self.store.saved_states()
            self.engine = Cohort(
                members,
                width=record["width"],
                device=self.device,
                saved=lambda run: self.store.load_state(run, states[run][0]) if run in states else None,
            )
        self.is_open = True

    def step(self) -> Pulse:
        """Train for a while, commit what ended, save the rest now and then."""
        if self.engine is None:
            return self._pulse()
        until = time.monotonic() + min(PULSE_S, self.checkpoint_s)
        while self.engine.running and (left := until - time.monotonic()) > 0:
            self.ended += self.engine.advance(seconds=left)
        self._commit()
        if not self.engine.running:
            self.store.drop_states(self.cohort)
        elif time.monotonic() - self.saved_at > self.checkpoint_s:
            self._save()
        return self._pulse()

    def close(self) -> None:
        """Leave nothing behind that would have to be trained again."""
        if self.engine is not None and self.engine.running:
            self._commit()
            self._save()

    def _commit(self) -> None:
        if not self.ended:
            return
        provenance = {"cohort": self.cohort, "host": socket.gethostname(), **self._versions()}
        rows = [ledger_row(outcome) | provenance for outcome in self.ended]
        curves = [outcome_curve(outcome) for outcome in self.ended]
        types = column_types(self.ended[0].spec)
        added = set(self.store.commit(rows, curves, types=types))
        for outcome in self.ended:
            if outcome.spec.run_id in added:
                self.finished += outcome.status == "finished"
                self.diverged += outcome.status == "diverged"
                self.events += outcome.event_step is not None
        self.ended = []

    def _save(self) -> None:
        assert self.engine is not None
        self.store.save_states(self.cohort, self.engine.state())
        self.saved_at = time.monotonic()

    def _versions(self) -> dict[str, Any]:
        versions = {
            "eureka": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        device = torch.cuda.get_device_name() if self.device == "cuda" else f"cpu {platform.machine()}"
        return {"versions": json.dumps(versions), "device": device}

    def _pulse(self) -> Pulse:
        engine = self.engine
        pulse = Pulse(
            cohort=self.cohort,
            finished=self.finished,
            diverged=self.diverged,
            events=self.events,
            run_steps=engine.run_steps if engine else 0,
            over=True,
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
    except Exception:  # the queue turns it into rows
        worker.engine = None  # it may have stopped in the middle of a step: nothing of it may be saved
        return Pulse(cohort=worker.cohort, over=True, error=traceback.format_exc())


def spec_columns(spec: RunSpec) -> dict[str, Any]:
    """The part of a RUNS row that the spec alone determines."""
    levels = {f"level.{name}": value for name, value in asdict(spec.task.levels()).items()}
    ids = {"run_id": spec.run_id, "config_id": spec.config_id, "shape_key": spec.shape_key}
    return ids | {"spec": spec.model_dump_json()} | levels | spec.columns()


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


def failed_row(spec: RunSpec, *, cohort: str, error: str) -> dict[str, Any]:
    """RUNS row of a run that could not be trained; the reason ends with the error's last line."""
    last = error.strip().splitlines()[-1] if error.strip() else "the worker was lost"
    reason = {"status": "failed", "reason": last, "steps": 0, "traceback": error.strip()}
    return spec_columns(spec) | reason | {"cohort": cohort, "host": socket.gethostname()}


def outcome_curve(outcome: Outcome) -> pa.Table:
    """METRICS rows of a run that ended."""
    return curve(outcome.spec.run_id, outcome.metrics, outcome.measured_steps, outcome.measures)


def as_result(pulse: Pulse) -> dict[str, Any]:
    """A pulse as a flat mapping."""
    return asdict(pulse)


def as_pulse(result: Mapping[str, Any]) -> Pulse:
    """A pulse from a mapping that holds one, among other things."""
    return Pulse(**{name: result[name] for name in Pulse.__dataclass_fields__})
