"""What workers and the driver tell each other; imports no tensor library, so that the driver needs none."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workloads.spec import RunSpec

PULSE_S = 2.0  # how often a worker reports


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
        hands: of those sent after the cohort, how many this worker has taken.
        afresh: members that began again because their saved state could not be read.
        gpu_busy, gpu_gib, gpu_total_gib, gpu_watts: of its accelerators, now; 0 without any, or where they do not tell
            [fraction, GiB, GiB, W].
        seconds, cpu_s: this worker has trained it, by the clock and in processor time [s].
        over: nothing is left to do.
        error: traceback of a fault in the members' own code; empty otherwise.
        halt: why no worker can go on (the store takes no more); empty otherwise.
        superseded: this attempt was given up for lost, and its runs are another's.
    """

    cohort: str
    finished: int = 0
    diverged: int = 0
    events: int = 0
    running: int = 0
    waiting: int = 0
    run_steps: int = 0
    steps_left: int = 0
    hands: int = 0
    afresh: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    gpu_busy: float = 0.0
    gpu_gib: float = 0.0
    gpu_total_gib: float = 0.0
    gpu_watts: float = 0.0
    over: bool = False
    error: str = ""
    halt: str = ""
    superseded: bool = False


def hand_name(cohort: str, n: int) -> str:
    """Under which name the n-th hand of a cohort is filed, from 1."""
    return f"{cohort}-{n}"


def as_result(pulse: Pulse) -> dict[str, Any]:
    """A pulse as a flat mapping."""
    return asdict(pulse)


def as_pulse(result: Mapping[str, Any]) -> Pulse:
    """A pulse from a mapping that holds one, among other things."""
    return Pulse(**{name: result[name] for name in Pulse.__dataclass_fields__})


def spec_columns(spec: RunSpec) -> dict[str, Any]:
    """The part of a RUNS row that the spec alone determines."""
    levels = {f"level.{name}": value for name, value in spec.task.levels().named().items()}
    ids = {"run_id": spec.run_id, "config_id": spec.config_id, "shape_key": spec.shape_key}
    return ids | {"spec": spec.model_dump_json()} | levels | spec.columns()


def failed_row(spec: RunSpec, *, cohort: str, error: str) -> dict[str, Any]:
    """RUNS row of a run that could not be trained; the reason ends with the error's last line."""
    last = error.strip().splitlines()[-1] if error.strip() else "the worker was lost"
    reason = {"status": "failed", "reason": last, "steps": 0, "traceback": error.strip()}
    return spec_columns(spec) | reason | {"cohort": cohort, "host": socket.gethostname()}
