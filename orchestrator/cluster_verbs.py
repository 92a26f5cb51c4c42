"""The verbs that speak to clusters: up, submit, logs, attach, down; `status` and `run --cluster` hand over to here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import BadRequest
from orchestrator.options import (
    follow_option,
    max_cost_option,
    max_hours_option,
    overrides_argument,
    retry_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from orchestrator.clusters.job import Job
    from orchestrator.clusters.launcher import Launcher
    from orchestrator.clusters.price import Price
    from orchestrator.clusters.spec import ClusterSpec
    from orchestrator.plan import Duration
    from orchestrator.sweep import Sweep

cluster_argument = click.argument("cluster", metavar="CLUSTER")
dry_option = click.option(
    "--dry-run", "is_dry", is_flag=True, help="Check offline; print files and commands, start nothing."
)
only_option = click.option(
    "--sweep", "sweep", metavar="SWEEP", help="A sweep's file or name; needed where there may be several."
)


@click.command()
@cluster_argument
@dry_option
def up(cluster: str, is_dry: bool) -> None:
    """Bring a cluster up; one that is up stays as it is.

    CLUSTER is a file such as those in clusters/, or one's name there.
    """
    launcher, _ = opened(cluster)
    click.echo(launcher.rendered().text() if is_dry else launcher.up())


@click.command()
@cluster_argument
@sweep_argument
@overrides_argument
@retry_option
@max_hours_option
@max_cost_option
@dry_option
def submit(
    *,
    cluster: str,
    sweep: str,
    overrides: tuple[str, ...],
    retry_failed: bool,
    max_hours: float | None,
    max_cost: float | None,
    is_dry: bool,
) -> None:
    """Send a sweep to a cluster that is up, and return; one that is under way is not sent twice."""
    from orchestrator.cli import load

    launcher, spec = opened(cluster)
    job = _job(
        load(sweep, overrides=overrides), spec, max_hours=max_hours, max_cost=max_cost, retry_failed=retry_failed
    )
    click.echo(launcher.rendered(job).text() if is_dry else launcher.submit(job))


@click.command()
@cluster_argument
@only_option
@follow_option
def logs(cluster: str, sweep: str | None, follow: bool) -> None:
    """Show what a sweep's command has printed on a cluster."""
    launcher, _ = opened(cluster)
    launcher.logs(_named(sweep), follow=follow)


@click.command()
@cluster_argument
@only_option
def attach(cluster: str, sweep: str | None) -> None:
    """Follow a sweep that is under way on a cluster; Ctrl-C leaves it alone."""
    launcher, _ = opened(cluster)
    try:
        launcher.logs(_named(sweep), follow=True)
    except KeyboardInterrupt:
        click.echo("no longer followed; the sweep goes on", err=True)


@click.command()
@cluster_argument
def down(cluster: str) -> None:
    """Stop all that eureka started on a cluster; what is committed and saved stays in the store."""
    launcher, _ = opened(cluster)
    click.echo(launcher.down())


VERBS = (up, submit, logs, attach, down)


def is_cluster(name: str) -> bool:
    """Whether `status` is asked of a cluster, not a store: by a file's ending, or a shipped name that is no folder."""
    from orchestrator.clusters.load import FOLDER

    if name.endswith((".yaml", ".yml")):
        return True
    return not Path(name).exists() and (FOLDER / f"{name}.yaml").exists()


def cluster_status(cluster: str, *, as_json: bool) -> None:
    """What is up and what runs there."""
    launcher, spec = opened(cluster)
    lines = launcher.status()
    click.echo(json.dumps({"cluster": spec.name, "lines": lines}, indent=2) if as_json else "\n".join(lines))


def run_there(
    sweep: Sweep,
    *,
    cluster: str,
    max_hours: float | None,
    max_cost: float | None,
    retry_failed: bool,
    is_downed: bool,
) -> int:
    """Bring the cluster up if need be, send the sweep or find it there, follow it, fetch its report."""
    launcher, spec = opened(cluster)
    job = _job(sweep, spec, max_hours=max_hours, max_cost=max_cost, retry_failed=retry_failed)
    if spec.launcher == "local":
        return _run_here(launcher, job)
    click.echo(launcher.up(), err=True)
    click.echo(launcher.submit(job), err=True)
    try:
        launcher.logs(job, follow=True)
    except KeyboardInterrupt:
        click.echo(f"no longer followed; the sweep goes on, and `eureka attach {cluster}` comes back to it", err=True)
        return 130
    code = launcher.code(job)
    if code not in (0, 1):
        click.echo(f"eureka: {job.sweep}: is not done; the same command goes on from there", err=True)
        return code
    click.echo(launcher.fetch(job))
    if is_downed:
        click.echo(launcher.down(), err=True)
    return code


def priced(cluster: str, *, duration: Duration | None) -> Price:
    """What a plan costs on a cluster."""
    from orchestrator.clusters.price import price

    return price(opened(cluster)[1], duration=duration)


def means_there(cluster: str, *, workers: int | None, width: int | None) -> tuple[int, int | None]:
    """Workers and slots of a cluster, where the command line does not say."""
    spec = opened(cluster)[1]
    return workers or spec.workers.count, width or spec.workers.slots


def opened(cluster: str) -> tuple[Launcher, ClusterSpec]:
    """A cluster by file or shipped name."""
    from orchestrator.clusters.launcher import launcher_of
    from orchestrator.clusters.load import load_cluster

    spec, source = load_cluster(cluster)
    return launcher_of(spec, source=source), spec


def _job(
    sweep: Sweep, spec: ClusterSpec, *, max_hours: float | None, max_cost: float | None, retry_failed: bool
) -> Job:
    from orchestrator.clusters.job import job_of
    from orchestrator.clusters.price import hours_allowed, per_hour

    if max_cost is not None and per_hour(spec) == 0.0:
        raise BadRequest(f"--max-cost: {spec.name} has no prices; give prices.worker_per_hour in its file")
    limits = [max_hours, hours_allowed(spec, max_cost=max_cost)]
    hours = min((limit for limit in limits if limit is not None), default=None)
    return job_of(sweep, max_hours=hours, retry_failed=retry_failed)


def _named(sweep: str | None) -> Job | None:
    """A job by its sweep's name, or file."""
    from orchestrator.cli import load
    from orchestrator.clusters.job import Job

    if sweep is None:
        return None
    name = load(sweep, overrides=()).name if sweep.endswith((".yaml", ".yml")) else sweep
    return Job(sweep=name, text="")


def _run_here(launcher: Launcher, job: Job) -> int:
    """A laptop's command, in a process of its own, with this terminal."""
    import os
    import shlex
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="eureka-") as folder:
        rendered = launcher.rendered(job)
        for name, text in rendered.files.items():
            (Path(folder) / name).write_text(text)
        words = shlex.split(rendered.commands[0].replace("FILES", folder))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            return subprocess.run([sys.executable, *words[1:]], env=environment, check=False).returncode
        except KeyboardInterrupt:
            return 130
