"""What is sent to a cluster: a sweep, as a file of its own, and the command that trains it there."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.clusters.price import hours_allowed
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Job:
    """One sweep on its way to a cluster.

    Attributes:
        sweep: its name.
        text: its resolved file, overrides included.
        max_hours: of wall time, where the command line says [h].
        retry_failed: train runs again that have a failed row.
        runs: their run_ids.
    """

    sweep: str
    text: str
    max_hours: float | None = None
    retry_failed: bool = False
    runs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What schedulers call it: letters, digits and `-`, short enough for all of them."""
        plain = "".join(c if c.isalnum() else "-" for c in self.sweep.lower()).strip("-")
        if len(plain) > 40 or plain != self.sweep:
            plain = f"{plain[:30].strip('-')}-{hashlib.blake2b(self.sweep.encode(), digest_size=3).hexdigest()}"
        return f"eureka-{plain}"


def job_of(sweep: Sweep, *, max_hours: float | None = None, retry_failed: bool = False) -> Job:
    """A sweep as a job."""
    runs = tuple(run.run_id for run in sweep.runs)
    return Job(sweep=sweep.name, text=sweep.yaml, max_hours=max_hours, retry_failed=retry_failed, runs=runs)


def sweep_command(
    spec: ClusterSpec, job: Job, *, file: str, launcher: str, more: Sequence[str] = (), hours: float | None = None
) -> str:
    """The shell command that trains the sweep, on a machine of the cluster.

    Args:
        spec: the cluster.
        job: the sweep.
        file: the sweep's file there, as the shell reads it.
        launcher: `ray` or `inline`.
        more: further options.
        hours: after so many it stops by itself, where nobody asked for fewer [h].
    """
    hours = min((h for h in (hours, job.max_hours, hours_allowed(spec)) if h is not None), default=None)
    options = ["--store", spec.store, "--launcher", launcher, "--device", spec.device]
    options += ["--checkpoint-every", f"{spec.spot.checkpoint_s:g}"]
    options += ["--width", str(spec.workers.slots)] if spec.workers.slots else []
    if launcher == "ray":
        options += ["--worker-cpus", f"{spec.workers.cpus:g}"] if spec.workers.cpus != 1 else []
        options += ["--worker-gpus", f"{spec.workers.gpus:g}"] if spec.workers.gpus not in (0, 1) else []
    options += ["--max-hours", f"{hours:.4g}"] if hours is not None else []
    python = shlex.quote(spec.environment.python)
    return " ".join([python, "-m orchestrator.cli run", file, shlex.join([*options, *more])])
