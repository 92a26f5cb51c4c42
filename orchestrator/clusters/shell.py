"""Commands of other people's tools, and what goes wrong with them in one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.errors import OrchestratorError
from orchestrator.remembered import cache_folder

QUICK_S = 120.0
MUCH = 10  # lines


@dataclass(frozen=True)
class Way:
    """How to get out of a failure that is known by its words."""

    words: str
    what: str
    out: str


WAYS = (
    Way(
        r"Permission denied \(publickey",
        "the machine does not take the key",
        "check ray.auth.ssh_user and ssh_private_key, and `ssh-copy-id`",
    ),
    Way(
        r"Could not resolve hostname (\S+?):",
        "no machine of that name",
        "check ray.provider.head_ip and worker_ips",
    ),
    Way(
        r"No route to host|Connection timed out|Host is down|timed out after",
        "the machine does not answer",
        "is it up, and its port 22 open to this one?",
    ),
    Way(r"Connection refused", "nothing listens there", "is sshd running there, and Ray up? `eureka up` starts Ray"),
    Way(
        r"Version mismatch|version mismatch",
        "Ray or Python differ between machines",
        "install the versions of constraints.txt on every machine",
    ),
    Way(r"No space left on device", "a disk is full", "free some of it there, or give another store"),
    Way(
        r"Address already in use|port \d+ .*(in use|occupied)",
        "its port is taken",
        "another Ray runs there: `eureka down` it, or change --port in ray.head_start_ray_commands",
    ),
    Way(
        r"ExpiredToken|RequestExpired|InvalidClientTokenId|AuthFailure|Unable to locate credentials|NoCredentials",
        "the provider refuses the credentials",
        "log in again (`aws sso login`, `gcloud auth login`, `az login`)",
    ),
    Way(
        r"InvalidParameterValue.*instance type|Unsupported.*instance type|InvalidInstanceType|does not exist in zone",
        "the provider has no such machine there",
        "check the instance type under ray.available_node_types, and the region",
    ),
    Way(r"(rsync|ssh): (command )?not found", "rsync or ssh is missing there", "install rsync and openssh"),
    Way(
        r"InsufficientInstanceCapacity|ZONE_RESOURCE_POOL_EXHAUSTED",
        "no such machine is free there",
        "try another zone",
    ),
    Way(r"invalid partition", "no such partition", "`sinfo` lists them; mend slurm.partition"),
    Way(r"Invalid account", "no such account", "`sacctmgr show assoc user=$USER` lists yours; mend slurm.account"),
    Way(r"Invalid qos", "no such quality of service", "mend slurm.qos"),
    Way(
        r"Requested node configuration is not available",
        "no node has that much",
        "`sinfo -o '%n %c %m %G'` lists them",
    ),
    Way(r"no matches for kind \"RayJob\"", "the cluster has no KubeRay", "install the KubeRay operator (helm)"),
    Way(r"namespaces \"\S+\" not found", "no such namespace", "make it, or mend kubernetes.namespace"),
)


class CommandFailed(OrchestratorError):
    """A tool's command failed; one line says which, what it said last, and a way out where one is known."""


class Shell(Protocol):
    """Runs commands."""

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: str = "",
        timeout_s: float = QUICK_S, shows: bool = False,
    ) -> str:  # fmt: skip
        """The command's stdout.

        Args:
            command: with its arguments.
            environment: variables besides this process's own.
            stdin: what it reads.
            timeout_s: given up after that [s].
            shows: its output goes to the terminal as it comes; the answer is empty.

        Raises:
            CommandFailed: it failed, is not installed, or took too long.
        """


class Local:
    """Runs commands on this machine."""

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: str = "",
        timeout_s: float = QUICK_S, shows: bool = False,
    ) -> str:  # fmt: skip
        """As the protocol says."""
        if shutil.which(command[0]) is None:
            raise CommandFailed(f"{command[0]}: not installed on this machine; {install_hint(command[0])}")
        try:
            done = subprocess.run(
                list(command),
                env={**os.environ, **(environment or {})},
                input=stdin,
                text=True,
                stdout=None if shows else subprocess.PIPE,
                stderr=None if shows else subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(failure(command, f"timed out after {timeout_s:g} s")) from None
        if done.returncode:
            said = failure(command, done.stdout or "", code=done.returncode)
            raise CommandFailed(said + kept(done.stdout or "", is_known="failed with code" not in said))
        return done.stdout or ""


def failure(command: Sequence[str], output: str, *, code: int | None = None) -> str:
    """A failed command in one line: known causes by their words, else the last line that it printed."""
    tool, remote = command[0].rpartition("/")[2], [word for word in command[1:] if "@" in word and " " not in word]
    is_far = tool in ("ssh", "rsync") and remote
    called = f"{tool} {remote[0].partition(':')[0]}" if is_far else " ".join([tool, *command[1:2]])
    for way in WAYS:
        if found := re.search(f"[^\n]*(?:{way.words})[^\n]*", output):
            return f"{called}: {way.what} ({_cut(found[0])}); {way.out}"
    lines = [line for line in map(_cut, output.splitlines()) if line]
    said = lines[-1] if lines else "it said nothing"
    ended = f" with code {code}" if code is not None else ""
    return f"{called}: failed{ended}: {said}"


def kept(output: str, *, is_known: bool) -> str:
    """Where all that a command said can be read, if that was much and its cause is not known."""
    if is_known or output.count("\n") < MUCH:
        return ""
    path = cache_folder() / "clusters" / "failed.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(output)
    except OSError:
        return ""
    return f"; all it said is in {path}"


def install_hint(tool: str) -> str:
    """Where a tool comes from."""
    return {
        "ray": "pip install 'ray[default]'",
        "sbatch": "run this on a login node of the Slurm cluster",
        "squeue": "run this on a login node of the Slurm cluster",
        "scancel": "run this on a login node of the Slurm cluster",
        "kubectl": "see kubernetes.io/docs/tasks/tools",
        "rsync": "install the package rsync",
        "ssh": "install the package openssh-client",
    }.get(tool, "install it, or mend PATH")


def _cut(line: str) -> str:
    """A line of output without colours, a logger's head and blanks at its ends."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
    return re.sub(r"^[-\d]{10} [\d:,.]+\s+\w+\s+\S+ -- ", "", plain)[:200]
