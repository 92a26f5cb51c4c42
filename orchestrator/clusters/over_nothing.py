"""A cluster of this machine alone: nothing to bring up, and a sweep is trained by the very command that sends it."""

from __future__ import annotations

import sys

from orchestrator.clusters.job import Job, sweep_command
from orchestrator.clusters.rendered import Rendered
from orchestrator.clusters.shell import Shell
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.errors import BadRequest


class OverNothing:
    """A cluster of one machine, this one.

    Args:
        spec: its file.
        shell: unused; there is nobody to talk to.
    """

    def __init__(self, spec: ClusterSpec, *, shell: Shell):
        self.spec, self.shell = spec, shell

    def rendered(self, job: Job | None = None) -> Rendered:
        """The command that would run."""
        files = {f"{job.sweep}.yaml": job.text} if job else {}
        file = f"FILES/{job.sweep}.yaml" if job else "SWEEP"
        command = sweep_command(
            self.spec, job or Job(sweep="sweep", text=""), file=file, launcher="ray", more=self._workers()
        )
        return Rendered(files=files, commands=(command,), checks=("our keys",))

    def up(self) -> str:
        """Nothing to do."""
        return f"{self.spec.name}: this machine is up"

    def submit(self, job: Job) -> str:
        """Refused: a laptop's sweep belongs to its terminal."""
        raise BadRequest(
            f"submit: {self.spec.name} is this machine; `eureka run SWEEP --cluster {self.spec.name}` trains here"
        )

    def status(self) -> list[str]:
        """Where to look."""
        return [f"{self.spec.name}: this machine; `eureka status {self.spec.store}` shows its sweeps"]

    def logs(self, job: Job | None, *, follow: bool) -> None:
        """There are none: progress is on the terminal that runs the sweep."""
        print(f"{self.spec.name}: this machine; `eureka watch {self.spec.store}` follows", file=sys.stderr)

    def fetch(self, job: Job) -> str:
        """It was made here."""
        return f"{self.spec.store.rstrip('/')}/sweeps/{job.sweep}/report"

    def code(self, job: Job) -> int:
        """The command's own, which the terminal has."""
        return 0

    def down(self) -> str:
        """Nothing to do."""
        return f"{self.spec.name}: this machine; nothing was started"

    def _workers(self) -> tuple[str, ...]:
        return ("--workers", str(self.spec.workers.count))
