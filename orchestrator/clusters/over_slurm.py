"""Slurm: a generated sbatch script, either an array of workers without Ray or one allocation with its own Ray.

Files lie in the store's folder of the sweep, which every node sees: the script, the sweep, the code as it was
when the job was sent, and a log for each task. Near the time limit Slurm signals the script, the script its
worker; the worker saves what is unfinished and leaves, and the script asks to be queued again.
"""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

from analysis.places.place import local_path
from analysis.store import Store
from orchestrator.clusters.job import Job, sweep_command
from orchestrator.clusters.rendered import Rendered
from orchestrator.clusters.sbatch import allocation_script, array_script
from orchestrator.clusters.shell import CommandFailed, Shell
from orchestrator.clusters.ship import ship_code
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.errors import OrchestratorError

STATES = "%i|%j|%T|%M|%D|%R"  # squeue: id, name, state, time used, nodes, where or why not
SCRIPT = "job.sbatch"
LOOK_S = 3.0


class OverSlurm:
    """A Slurm cluster, seen from a machine that can submit to it.

    Args:
        spec: its file.
        shell: what runs Slurm's commands.
    """

    def __init__(self, spec: ClusterSpec, *, shell: Shell):
        assert spec.slurm is not None
        self.spec, self.slurm, self.shell = spec, spec.slurm, shell

    def rendered(self, job: Job | None = None) -> Rendered:
        """The script, and the commands around it."""
        job = job or Job(sweep="sweep", text="# the sweep's file\n")
        script = self.script(job, folder="FILES", code="FILES/code" if self.spec.environment.code == "ship" else "")
        checks = ["our keys", self._test(script)]
        sets = "".join(f"{key}=… " for key in self.spec.environment.variables)
        return Rendered(
            files={SCRIPT: script, "sweep.yaml": job.text},
            commands=(f"{sets}sbatch FILES/job.sbatch", f"squeue --me --name={job.name}", f"scancel --name={job.name}"),
            checks=tuple(checks),
        )

    def up(self) -> str:
        """Nothing to bring up, but Slurm has to be there."""
        said = self.shell.run(["sinfo", "--noheader", "-o", "%P %a %D nodes"])
        return "\n".join(f"{self.spec.name}: {line.strip()}" for line in said.splitlines() if line.strip())

    def submit(self, job: Job) -> str:
        """Queue the sweep, unless it is queued or runs."""
        if there := self._jobs(job.name):
            return f"{job.name}: is there already, as job {there[0].split('|')[0]}"
        store = Store.create(self.spec.store)
        folder = local_path(str(store.sweep_dir(job.sweep))) / "slurm"
        if job.retry_failed:
            store.forget_failed(job.runs)
        code = str(ship_code(folder)) if self.spec.environment.code == "ship" else ""
        script = self.script(job, folder=str(folder), code=code)
        for name, text in ((SCRIPT, script), ("sweep.yaml", job.text)):
            _write(folder / name, text)
        (folder / "began").unlink(missing_ok=True)
        variables = self.spec.environment.variables  # from process to process, and into no file
        said = self.shell.run(["sbatch", "--parsable", str(folder / SCRIPT)], environment=variables)
        return f"{job.name}: queued as job {said.strip().split(';')[0]}, logs in {folder}"

    def status(self) -> list[str]:
        """A line a job or task of ours."""
        lines = []
        for row in self._jobs():
            number, name, state, used, nodes, where = row.split("|")
            lines.append(f"{number} {name} {state.lower()} {used} {nodes} node(s) {where}")
        return lines or [f"{self.spec.name}: nothing is queued or runs"]

    def is_there(self, job: Job) -> bool:
        """It is queued or runs."""
        return bool(self._jobs(job.name))

    def logs(self, job: Job | None, *, follow: bool) -> None:
        """The tasks' logs, one after another; to follow, by `tail`."""
        pattern = f"{job.sweep if job else '*'}/slurm/*.log"
        while follow and job and not any(self._sweeps().glob(pattern)) and self.is_there(job):
            time.sleep(LOOK_S)  # it waits in the queue
        logs = sorted(map(str, self._sweeps().glob(pattern)))
        if not logs:
            raise OrchestratorError(f"{self.spec.name}: no task has written a log yet; `eureka status` shows the queue")
        command = ["tail", "-n", "+1", *logs]
        if follow and job:
            waits = f"while squeue --me --noheader --name={job.name} | grep -q .; do sleep {LOOK_S:g}; done"
            command = ["bash", "-c", f"tail -n +1 -F {shlex.join(logs)} & {waits}; sleep 1; kill $!"]
        self.shell.run(command, timeout_s=1e7, shows=True)

    def fetch(self, job: Job) -> str:
        """The report, made here: this machine sees the store."""
        from orchestrator import reports

        return "\n".join(reports.report(Store(self.spec.store), names=[job.sweep], out=None))

    def code(self, job: Job) -> int:
        """As the ledger has it."""
        known = Store(self.spec.store).statuses()
        found = [known.get(run) for run in job.runs]
        return 130 if None in found else 1 if "failed" in found else 0

    def down(self) -> str:
        """Cancel what is ours; Slurm asks each worker first, and it saves."""
        rows = self._jobs()
        names = sorted({row.split("|")[1] for row in rows})
        for name in names:
            self.shell.run(["scancel", f"--name={name}"])
        return f"{self.spec.name}: {len(rows)} job(s) cancelled ({', '.join(names) or 'none'})"

    # -- parts -------------------------------------------------------------------------------

    def script(self, job: Job, *, folder: str, code: str) -> str:
        """The sbatch script of a sweep, whose files lie in that folder."""
        array = self.slurm.mode == "array"
        command = sweep_command(
            self.spec,
            job,
            file='"$folder/sweep.yaml"',
            launcher="inline" if array else "ray",
            more=("--share", "--no-report") if array else ("--no-report",),
        )
        make = array_script if array else allocation_script
        return make(self.spec, name=job.name, folder=folder, code=code, command=command)

    def _test(self, script: str) -> str:
        """What a shell and, where there is one, Slurm itself think of the script."""
        self.shell.run(["bash", "-n"], stdin=script)
        if shutil.which("sbatch") is None:
            return "the script's syntax (no sbatch here: Slurm was not asked)"
        self.shell.run(["sbatch", "--test-only"], stdin=script)
        return "the script's syntax, and Slurm would take it"

    def _sweeps(self) -> Path:
        return local_path(self.spec.store) / "sweeps"

    def _jobs(self, name: str | None = None) -> list[str]:
        """Rows of squeue, of one sweep or of all of ours."""
        chosen = [f"--name={name}"] if name else []
        said = self.shell.run(["squeue", "--me", "--noheader", "-o", STATES, *chosen])
        rows = [line.strip() for line in said.splitlines() if line.count("|") >= STATES.count("|")]
        return [row for row in rows if row.split("|")[1].startswith("eureka-")]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be written: {error.strerror or error}; give another store:") from None
