"""What every kind of cluster can do; each is a file `over_….py` and a line in `launcher_of`."""

from __future__ import annotations

from typing import Protocol

from orchestrator.clusters.job import Job
from orchestrator.clusters.rendered import Rendered
from orchestrator.clusters.shell import Local, Shell
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.yaml_source import Source


class Launcher(Protocol):
    """Starts machines and sends them sweeps.

    **Stateless.** What runs is asked of the cluster each time, so any shell on any machine can go on.
    **Idempotent.** What is up stays up, and a sweep that is under way is not sent twice.
    """

    def rendered(self, job: Job | None = None) -> Rendered:
        """Everything that would be written and run, checked as far as that is possible offline."""

    def up(self) -> str:
        """Bring the cluster up; says what was done."""

    def submit(self, job: Job) -> str:
        """Send a sweep, unless it is there; says under what name it runs."""

    def status(self) -> list[str]:
        """What is up and what runs, a line each."""

    def logs(self, job: Job | None, *, follow: bool) -> None:
        """Show what a sweep's command prints, or that of all; `follow` stays until it ends."""

    def fetch(self, job: Job) -> str:
        """Make the report and bring it here, where it is not here already; says where."""

    def code(self, job: Job) -> int:
        """Exit code of a sweep that has ended: 0 done, 1 some runs failed, 130 it can be gone on with."""

    def down(self) -> str:
        """Stop all that was started; says what."""


def launcher_of(spec: ClusterSpec, *, source: Source, shell: Shell | None = None) -> Launcher:
    """The launcher of a cluster file.

    Args:
        spec: the file's contents.
        source: where each key was written.
        shell: what runs commands; this machine's unless given.
    """
    shell = shell or Local()
    if spec.launcher == "slurm":
        from orchestrator.clusters.over_slurm import OverSlurm

        return OverSlurm(spec, shell=shell)
    if spec.launcher == "kubernetes":
        from orchestrator.clusters.over_kubernetes import OverKubernetes

        return OverKubernetes(spec, shell=shell)
    if spec.launcher == "ray":
        from orchestrator.clusters.over_ray import OverRay

        return OverRay(spec, source=source, shell=shell)
    from orchestrator.clusters.over_nothing import OverNothing

    return OverNothing(spec, shell=shell)
