"""Machines that Ray starts: your own over ssh, or a cloud's. Ray's own launcher does it; its traps are handled here.

- Ray's second autoscaler, the default, starts one of several workers on own machines: off for those.
- Ray's defaults for clouds install a Ray of their own on each machine: they are left out, environments are there.
- Token authentication is on or off explicitly, on all sides, and the token goes along.
- A worker without an accelerator sees none: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO.
- `ray up` restarts a Ray that runs, and so ends its jobs: a cluster that is up is left alone.
- Code goes to the head by rsync and from there to the store, which all machines see: no upload limit, no environment
  built for each job, none of Ray's further packages.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.clusters.fitness import ANSWER, faults
from orchestrator.clusters.job import Job, sweep_command
from orchestrator.clusters.rendered import Rendered
from orchestrator.clusters.shell import CommandFailed, Shell
from orchestrator.clusters.ship import code_digest, code_files, ship_code
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.errors import OrchestratorError
from orchestrator.remembered import cache_folder
from orchestrator.yaml_source import Source

TOKEN = "~/.ray/auth_token"
INSTALLS = ("setup_commands", "head_setup_commands", "worker_setup_commands")
UP_S, STOP_S, FOLLOW_S = 1800.0, 60.0, 1e7
SSH = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=15")
MPS = "/tmp/eureka-mps"  # where its daemon and those who train find each other, on each machine
MPS_UP = (
    f"mkdir -p {MPS}; export CUDA_MPS_PIPE_DIRECTORY={MPS} CUDA_MPS_LOG_DIRECTORY={MPS}; "
    "[ ! -e /dev/nvidia0 ] || pgrep -x nvidia-cuda-mps > /dev/null || nvidia-cuda-mps-control -d"
)
MPS_DOWN = f"! pgrep -x nvidia-cuda-mps || echo quit | CUDA_MPS_PIPE_DIRECTORY={MPS} nvidia-cuda-mps-control"
THERE = "eureka-code"  # below the home of the head


class OverRay:
    """A cluster that `ray up` can start.

    Args:
        spec: its file.
        source: where its keys were written.
        shell: what runs Ray's commands.
    """

    def __init__(self, spec: ClusterSpec, *, source: Source, shell: Shell):
        self.spec, self.source, self.shell = spec, source, shell
        self.is_own = spec.provider == "local"
        self.file = cache_folder() / "clusters" / spec.name / "ray.yaml"

    def rendered(self, job: Job | None = None) -> Rendered:
        """Ray's file as it would be given to Ray, checked, and the commands."""
        from orchestrator.clusters.ray_check import check_ray

        config = self.config()
        self._check_start_commands()
        given = {
            **config,
            "file_mounts": (self.spec.ray or {}).get("file_mounts") or {},
        }  # the token may not be made yet
        checks = check_ray(given, source=self.source)
        sets = " ".join(f"{key}={value}" for key, value in self._environment().items())
        job = job or Job(sweep="SWEEP", text="")
        return Rendered(
            files={"ray.yaml": _yaml(config)},
            commands=(
                f"{sets} ray up -y --no-config-cache FILES/ray.yaml",
                f"ray rsync-up --no-config-cache FILES/ray.yaml CODE/ '~/{THERE}-{code_digest(code_files())}/'",
                f"# as a job, on the head: {self._command(job).replace('FILE', f'{job.sweep}.yaml')}",
                f"{sets} ray down -y --no-config-cache FILES/ray.yaml",
            ),
            checks=("our keys", *checks),
        )

    def up(self) -> str:
        """Bring it up unless Ray answers on its head; then see whether every node is fit."""
        self.rendered()  # whatever can be found offline is found before anything starts
        self._write()
        if self._is_up():
            return f"{self.spec.name}: is up"
        if self.is_own:
            self._check_machines()
        self._ray("up", "-y", timeout_s=UP_S)
        return f"{self.spec.name}: up; head {self._head_ip()}"

    def submit(self, job: Job) -> str:
        """Send code and sweep to the head, and start the job there unless it is under way."""
        self._write()
        self._ship()
        needs = {"gpus": self.spec.workers.gpus, "scales": not self.is_own}
        fit = self._ask("nodes", {"store": self.spec.store, "sweep": job.sweep, **needs})
        self._refuse(fit["problems"])
        answer = self._ask(
            "submit",
            {
                "store": self.spec.store,
                "sweep": job.sweep,
                "text": job.text,
                "command": self._command(job),
                "variables": self._variables(),
                "variables_file": self._hand_over(job),
                "ships": self.spec.environment.code == "ship",
            },
        )
        how = "started" if answer["is_new"] else "is under way"
        return f"{job.name}: {how} on {answer.get('host', 'another head')}, {fit['nodes']} nodes are up"

    def status(self) -> list[str]:
        """Nodes, what they have, and the jobs."""
        self._write()
        if not self._is_up():
            return [f"{self.spec.name}: not up"]
        self._ship()
        found = self._ask("status", {"store": self.spec.store})
        cpus, gpus = (found["resources"].get(kind, 0) for kind in ("CPU", "GPU"))
        lines = [f"{self.spec.name}: {found['nodes']} nodes, {cpus:g} processors, {gpus:g} accelerators"]
        return lines + [f"{job['sweep']}: {job['state']}" for job in found["jobs"]]

    def is_there(self, job: Job) -> bool:
        """Its job is under way."""
        return f"{job.sweep}: running" in self.status()

    def logs(self, job: Job | None, *, follow: bool) -> None:
        """What the sweep's command prints on the head."""
        self._write()
        if job is None:
            raise OrchestratorError(
                f"{self.spec.name}: logs of which sweep? `eureka status {self.spec.name}` lists them"
            )
        self._ship()
        self._exec(self._on_head("follow", {"store": self.spec.store, "sweep": job.sweep, "stays": follow}), shows=True)

    def fetch(self, job: Job) -> str:
        """The report that the job made, brought here."""
        here = Path(f"{job.sweep}-report")
        here.mkdir(exist_ok=True)
        self._copy(f"{self.spec.store}/sweeps/{job.sweep}/report/", f"{here}/", is_up=False)
        return f"report: {here}/index.html"

    def code(self, job: Job) -> int:
        """As the head wrote it down."""
        return int(self._ask("state", {"store": self.spec.store, "sweep": job.sweep})["code"])

    def down(self) -> str:
        """Stop our jobs, then all machines or their Ray."""
        self._write()
        if self._is_up():
            self._ship()
            self._ask("stop", {"store": self.spec.store})
        elif not self.is_own:
            return f"{self.spec.name}: was not up"
        self._ray("down", "-y", timeout_s=UP_S)
        return f"{self.spec.name}: down{self._stop_own() if self.is_own else ''}"

    # -- what Ray is given -------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Ray's part, and what our keys and Ray's traps add where it says nothing."""
        config: dict[str, Any] = {"cluster_name": self.spec.name, **(self.spec.ray or {})}
        for key in INSTALLS:
            config.setdefault(key, [])
        head, worker = self._start_commands()
        config.setdefault("head_start_ray_commands", head)
        config.setdefault("worker_start_ray_commands", worker)
        if self.spec.auth == "token":
            config["file_mounts"] = {TOKEN: str(Path(TOKEN).expanduser()), **(config.get("file_mounts") or {})}
        return config

    def _start_commands(self) -> tuple[list[str], list[str]]:
        sets = {"RAY_AUTH_MODE": self.spec.auth, **self._everywhere()}
        if self.is_own:
            sets["RAY_enable_autoscaler_v2"] = "0"
        exports = "export " + " ".join(f"{key}={value}" for key, value in sets.items())
        ray, limit = self._there("ray"), "ulimit -n 65536 || true"
        limit += f"; {MPS_UP}" if self.spec.workers.mps else ""
        head = f"{ray} start --head --port=6379 --autoscaling-config=~/ray_bootstrap_config.yaml"
        worker = f"{ray} start --address=$RAY_HEAD_IP:6379"
        return [f"{ray} stop", f"{limit}; {exports}; {head}"], [f"{ray} stop", f"{limit}; {exports}; {worker}"]

    def _check_start_commands(self) -> None:
        """Commands that the file itself gives must not walk into the traps."""
        given = (self.spec.ray or {}).get("head_start_ray_commands")
        text = " ".join(map(str, given or ()))
        if given and self.is_own and "RAY_enable_autoscaler_v2=0" not in text:
            place = ("ray", "head_start_ray_commands")
            way_out = "Export it there, or leave the key out and ours are taken"
            wanted = "RAY_enable_autoscaler_v2=0"
            raise self.source.expected(place, got="no setting of it", expected=wanted, hint=way_out)
        if given and f"RAY_AUTH_MODE={self.spec.auth}" not in text:
            place = ("ray", "head_start_ray_commands")
            expected = f"RAY_AUTH_MODE={self.spec.auth}, as `auth` says"
            raise self.source.expected(place, got="no setting of it", expected=expected, hint="Export it there")

    def _everywhere(self) -> dict[str, str]:
        return {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_USAGE_STATS_ENABLED": "0"}

    def _variables(self) -> dict[str, str]:
        """Of every process of a job."""
        hidden = {} if self.spec.workers.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        return {"OMP_NUM_THREADS": "1", **hidden, **self._everywhere(), **self.spec.notices}

    def _hand_over(self, job: Job) -> str:
        """The file's variables, in a file of the head that its user alone can read: a command line is for all."""
        if not self.spec.environment.variables:
            return ""
        folder = self.file.parent / f"variables-{job.name}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(folder / "variables.json", json.dumps(self.spec.environment.variables))
        self._copy(f"{folder}/", f"eureka-variables-{job.name}/", is_up=True)
        (folder / "variables.json").unlink()
        return f"~/eureka-variables-{job.name}/variables.json"

    def _command(self, job: Job) -> str:
        more = ("--retry-failed",) if job.retry_failed else ()
        command = sweep_command(self.spec, job, file="FILE", launcher="ray", more=more)
        return "; ".join([*self.spec.environment.setup, command])

    def _there(self, tool: str) -> str:
        """A tool beside the cluster's interpreter."""
        folder, _, name = self.spec.environment.python.rpartition("/")
        return f"{folder}/{tool}" if name and folder else tool

    # -- talking to it -----------------------------------------------------------------------

    def _write(self) -> None:
        """Ray's file, where Ray will read it, and the token, which is made if there is none."""
        if self.spec.auth == "token" and not Path(TOKEN).expanduser().exists():
            _private(Path(TOKEN).expanduser(), secrets.token_hex(32))
        _private(self.file, _yaml(self.config()))

    def _check_machines(self) -> None:
        """Own machines are asked one by one what Ray would only find in the middle of a launch."""

        def run(machine: str, command: str, stdin: str) -> str:
            return self.shell.run([*self._ssh(), self._at(machine), command], stdin=stdin, timeout_s=STOP_S)

        provider, environment = (self.spec.ray or {})["provider"], self.spec.environment
        self._refuse(
            faults(
                [provider["head_ip"], *provider["worker_ips"]],
                run=run,
                python=shlex.quote(environment.python),
                setup=environment.setup,
                store=self.spec.store,
                port=self._port,
                gpus=self.spec.workers.gpus,
            )
        )

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise OrchestratorError(f"{self.spec.name}: {problems[0]}{more}")

    def _stop_own(self) -> str:
        """End Ray on each machine, as `ray up` does before it starts one; says which did not answer."""
        provider, silent = (self.spec.ray or {})["provider"], list[str]()
        for address in [*provider["worker_ips"], provider["head_ip"]]:
            try:
                stop = f"{self._there('ray')} stop" + (f"; {MPS_DOWN}" if self.spec.workers.mps else "")
                self.shell.run([*self._ssh(), self._at(address), stop], timeout_s=STOP_S)
            except CommandFailed:
                silent.append(str(address))
        return f"; {', '.join(silent)} did not answer, and ends its Ray by itself within a minute" if silent else ""

    def _ssh(self) -> list[str]:
        """How to reach own machines. Ray's `exec` would do, but knows a cluster only where it was brought up."""
        auth = (self.spec.ray or {}).get("auth") or {}
        key = ["-i", str(Path(auth["ssh_private_key"]).expanduser())] if auth.get("ssh_private_key") else []
        proxy = ["-o", f"ProxyCommand={auth['ssh_proxy_command']}"] if auth.get("ssh_proxy_command") else []
        return ["ssh", *key, *proxy, *SSH]

    def _at(self, address: str) -> str:
        user = ((self.spec.ray or {}).get("auth") or {}).get("ssh_user")
        return f"{user}@{address}" if user else address

    @property
    def _own_head(self) -> str:
        return self._at((self.spec.ray or {})["provider"]["head_ip"])

    @property
    def _port(self) -> int:
        """Of Ray's head."""
        port = re.search(r"--port[= ](\d+)", " ".join(map(str, self.config()["head_start_ray_commands"])))
        return int(port[1]) if port else 6379

    def _is_up(self) -> bool:
        address = f"127.0.0.1:{self._port}"
        check = f"{self._there('ray')} health-check --address {address} --skip-version-check"
        if not self.is_own and not self._has_head():
            return False
        return self._exec(f"RAY_AUTH_MODE={self.spec.auth} {check} && echo {ANSWER}up || echo {ANSWER}down") == "up"

    def _has_head(self) -> bool:
        try:
            return bool(self._head_ip())
        except CommandFailed:
            return False

    def _head_ip(self) -> str:
        lines = self._ray("get-head-ip", bare=True).strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _ship(self) -> None:
        """The code, to the head; one folder for each state of it, so that what runs is not changed."""
        stage = ship_code(self.file.parent, prefix=f"{THERE}-")
        self._folder = stage.name
        self._copy(f"{stage}/", f"{stage.name}/", is_up=True)

    def _copy(self, here: str, there: str, *, is_up: bool) -> None:
        """A folder's contents, to the head or from it."""
        if not self.is_own:
            self._ray("rsync-up" if is_up else "rsync-down", after=[here, there])
            return
        ends = [here, f"{self._own_head}:{there}"] if is_up else [f"{self._own_head}:{here}", there]
        self.shell.run(["rsync", "-a", "-e", shlex.join(self._ssh()), *ends], timeout_s=UP_S)

    def _on_head(self, verb: str, request: dict[str, Any]) -> str:
        setup = "".join(f"{line} && " for line in self.spec.environment.setup)
        python = shlex.quote(self.spec.environment.python)
        asked = shlex.quote(json.dumps(request))
        command = f"RAY_AUTH_MODE={self.spec.auth} {python} -m orchestrator.clusters.head {verb} {asked}"
        return f"cd ~/{self._folder} && {setup}{command}"

    def _ask(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """An answer of `head.py`."""
        said = self._exec(self._on_head(verb, request))
        if said is None:
            python = self.spec.environment.python
            raise OrchestratorError(
                f"{self.spec.name}: the head did not answer; is eureka's environment at {python} there?"
            )
        answer: dict[str, Any] = json.loads(said)
        if "error" in answer:
            raise OrchestratorError(f"{self.spec.name}: on the head: {answer['error']}")
        return answer

    def _exec(self, command: str, *, shows: bool = False) -> str | None:
        """What a command on the head answered, among all that it printed."""
        timeout_s = FOLLOW_S if shows else UP_S
        if self.is_own:
            said = self.shell.run([*self._ssh(), self._own_head, command], timeout_s=timeout_s, shows=shows)
        else:
            said = self._ray("exec", after=[command], timeout_s=timeout_s, shows=shows)
        found = [line.partition(ANSWER)[2].strip() for line in said.splitlines() if ANSWER in line]
        return found[-1] if found else None

    def _ray(
        self, verb: str, *options: str, after: list[str] | None = None, timeout_s: float = 300.0, shows: bool = False,
        bare: bool = False,
    ) -> str:  # fmt: skip
        cache = [] if bare or verb.startswith("rsync") or verb == "down" else ["--no-config-cache"]
        command = [_ray_here(), verb, *options, *cache, str(self.file), *(after or [])]
        return self.shell.run(command, environment=self._environment(), timeout_s=timeout_s, shows=shows)

    def _environment(self) -> dict[str, str]:
        sets = {"RAY_AUTH_MODE": self.spec.auth, "RAY_USAGE_STATS_ENABLED": "0"}
        return {**sets, **({"RAY_UP_enable_autoscaler_v2": "0"} if self.is_own else {})}


def _ray_here() -> str:
    beside = Path(sys.executable).with_name("ray")
    return str(beside) if beside.exists() else "ray"


def _yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)


def _private(path: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
