"""Whether machines can be a cluster, before anything is started there: a line for each fault, with its way out."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.clusters import look
from orchestrator.clusters.shell import CommandFailed

ANSWER = "EUREKA "
LEAST_FREE = 1 << 30  # bytes; logs and what Ray spills need room
SSHS_OWN = 255  # exit code; any other is the command's
AT_ONCE = 16  # machines that are asked
Run = Callable[[str, str, str], str]  # machine, shell command, stdin -> what it printed


def faults(
    machines: Sequence[str], *, run: Run, python: str, setup: Sequence[str], store: str, port: int, gpus: float
) -> list[str]:
    """What keeps own machines from being a cluster.

    Args:
        machines: addresses, the head first.
        run: how to run a command on one.
        python: the interpreter there.
        setup: shell commands before it.
        store: its path.
        port: of Ray's head.
        gpus: that one worker needs.
    """
    folder = "" if "://" in store else store  # a bucket is the same from everywhere
    token = f".lock-is-shared-{secrets.token_hex(4)}"
    source = Path(look.__file__).read_text()

    def ask(machine: str) -> dict[str, Any] | str:
        is_head = machine == machines[0]
        request = {"store": folder, "token": token, "port": port if is_head else 0, "leaves": is_head}
        command = " && ".join([*setup, f"{python} - {shlex.quote(json.dumps(request))}"])
        try:
            said = run(machine, command, source)
        except CommandFailed as error:
            if "failed with code" not in str(error) or f"code {SSHS_OWN}" in str(error):
                return str(error)
            said = ""
        found = [line.partition(ANSWER)[2] for line in said.splitlines() if ANSWER in line]
        return json.loads(found[-1]) if found else f"machine {machine}: {python}: does not run; {_ENVIRONMENT}"

    seen = {machines[0]: ask(machines[0])}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen |= dict(zip(machines[1:], pool.map(ask, machines[1:]), strict=True))
    if folder:
        run_quietly(run, machines[0], f"rm -f {shlex.quote(f'{folder}/{token}')}")
    problems = [answer for answer in seen.values() if isinstance(answer, str)]
    known = {machine: answer for machine, answer in seen.items() if not isinstance(answer, str)}
    for machine, answer in known.items():
        problems += _own_faults(machine, answer, store=store, port=port)
    if (head := known.get(machines[0])) and not head["refused"]:
        problems += unfit(known, here=head, store=store)
    if gpus and known and not any(answer["gpus"] for answer in known.values()):
        way_out = "set workers.gpus: 0, or mend the driver: no machine has a /dev/nvidia0"
        problems.append(f"workers.gpus: got {gpus:g}; expected 0 on machines without an accelerator. {way_out}")
    return problems


_ENVIRONMENT = "make eureka's environment there, at the same path (`pip install -c constraints.txt -e .`)"


def _own_faults(machine: str, answer: Mapping[str, Any], *, store: str, port: int) -> list[str]:
    problems = []
    if answer["refused"]:
        way_out = "Mount it, or give another"
        problems.append(f"machine {machine}: store {store}: cannot be written ({answer['refused']}). {way_out}")
    if answer["port_is_taken"]:
        way_out = "Another Ray runs there: end it, or give another --port in ray.head_start_ray_commands"
        problems.append(f"machine {machine}: port {port}: is taken. {way_out}")
    return problems


def unfit(seen: Mapping[str, Mapping[str, Any]], *, here: Mapping[str, Any], store: str) -> list[str]:
    """What is wrong with nodes, a line each, with the way out.

    Args:
        seen: what each node says of itself.
        here: what the head does.
        store: its path.
    """
    problems = []
    for name, found in seen.items():
        if not found["sees_token"]:
            way_out = "mount the same folder everywhere (NFS), or give another store"
            problems.append(f"node {name}: store {store}: is not the head's folder of that name. {way_out}")
        for package, version in found["versions"].items():
            if version != here["versions"][package]:
                wanted, way_out = here["versions"][package], "install the versions of constraints.txt on every machine"
                problems.append(f"node {name}: {package}: got {version}; expected the head's {wanted}. {way_out}")
        if found["free"] < LEAST_FREE:
            free = found["free"] / 2**20
            problems.append(f"node {name}: disk: got {free:.0f} MiB free for temporary files; expected 1024. Free some")
    return problems


def run_quietly(run: Run, machine: str, command: str) -> None:
    """Clean up there, where that is possible."""
    try:
        run(machine, command, "")
    except CommandFailed:
        return
