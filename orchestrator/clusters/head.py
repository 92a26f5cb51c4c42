"""Runs on a cluster's head, sent there with the rest of the code: looks at the nodes, starts, follows and stops jobs.

    python -m orchestrator.clusters.head nodes|submit|status|follow|stop '{…}'

It answers in one line that begins with EUREKA, as JSON, since what is around it (ssh, shells) prints, too.
A job is a process of its own on the head, with a log and a lock in the sweep's folder of the store: whoever
cannot take the lock knows that the job is alive, on whatever machine, and does not start it twice. Ray's own job
server would need more packages, limits what is uploaded, and forgets its jobs with the head.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.clusters.fitness import ANSWER, unfit
from orchestrator.clusters.look import look
from orchestrator.clusters.ship import ship_code

NODES_S = 60.0  # for a node to answer
LEAVE_S = 60.0  # for a job to save what is unfinished
LOOK_S = 0.5


def submit(request: Mapping[str, Any]) -> dict[str, Any]:
    """Start a sweep's command, unless it is under way.

    Args:
        request: `store`, `sweep`, `text` of its file, `command` with FILE in the file's place, `variables`, `ships`;
            `variables_file`, where more of them were put.
    """
    from analysis.places.place import local_path
    from analysis.store import Store

    secret = _handed_over(request.get("variables_file", ""))
    folder = local_path(str(Store.create(request["store"]).sweep_dir(request["sweep"]))) / "job"
    folder.mkdir(parents=True, exist_ok=True)
    if _is_alive(folder):
        return {"is_new": False, **_record(folder)}
    (folder / "sweep.yaml").write_text(request["text"])
    (folder / "ended.json").unlink(missing_ok=True)
    (folder / "log").write_text("")
    code = str(ship_code(folder)) if request["ships"] else ""
    command = request["command"].replace("FILE", f"{folder}/sweep.yaml")
    paths = [path for path in (code, os.environ.get("PYTHONPATH", "")) if path]
    variables = {**os.environ, **request["variables"], **secret, "PYTHONPATH": os.pathsep.join(paths)}
    with (folder / "log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-c", KEEPER, str(folder), request["sweep"], command],
            cwd=code or folder,  # Ray puts a driver's folder on its workers' path
            env={**variables, "RAY_ADDRESS": request.get("address", "auto")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return {"is_new": True, **_record(folder)}


# Leaves its parent, takes the job's lock, says who it is, and keeps the job's process until it ends.
KEEPER = """
import fcntl, json, os, signal, socket, subprocess, sys, time
folder, sweep, command = sys.argv[1:]
said, says = os.pipe()
if os.fork():
    os.close(says)
    sys.exit(0 if os.read(said, 1) else 1)
os.setsid()
lock = open(os.path.join(folder, "lock"), "a")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
record = {"host": socket.gethostname(), "pid": os.getpid(), "sweep": sweep, "began": time.time()}
with open(os.path.join(folder, "job.json"), "w") as out:
    json.dump(record, out)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # of the shell, too; the sweep's command hears it all the same
child = subprocess.Popen(["bash", "-c", command])
signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGUSR1))
os.write(says, b".")
os.close(says)
code = child.wait()
with open(os.path.join(folder, "ended.json"), "w") as out:
    json.dump({"code": code, "ended": time.time()}, out)
"""


def status(request: Mapping[str, Any]) -> dict[str, Any]:
    """What is up, and every job of the store."""
    import ray

    _connect()
    alive = [node for node in ray.nodes() if node["Alive"]]
    folders = sorted(Path(request["store"]).glob("sweeps/*/job"))
    jobs = [{"sweep": folder.parent.name, "state": _state(folder)} for folder in folders]
    return {"nodes": len(alive), "resources": ray.cluster_resources(), "jobs": jobs}


def follow(request: Mapping[str, Any]) -> dict[str, Any]:
    """Show what the job has printed, and where that is asked, what it prints until it ends."""
    folder = _folder(request)
    if not (folder / "log").exists():
        print(f"{request['sweep']}: was never sent here; `eureka submit` sends it")
        return {}
    with (folder / "log").open(errors="replace") as log:
        while True:
            alive = _is_alive(folder)
            for line in log:
                print(line, end="", flush=True)
            if not alive or not request.get("stays", True):
                break
            time.sleep(LOOK_S)
    print(f"{request['sweep']}: {_state(folder)}", flush=True)
    return {}


def state(request: Mapping[str, Any]) -> dict[str, Any]:
    """How a job ended; 130 where it can be gone on with."""
    with suppress(OSError, ValueError, KeyError):
        return {"code": json.loads((_folder(request) / "ended.json").read_text())["code"]}
    return {"code": 130}


def stop(request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask every job to save and leave; what does not within a minute is killed."""
    alive = [folder for folder in Path(request["store"]).glob("sweeps/*/job") if _is_alive(folder)]
    for folder in alive:
        _signal(folder, signal.SIGTERM)
    until = time.monotonic() + LEAVE_S
    while any(map(_is_alive, alive)) and time.monotonic() < until:
        time.sleep(LOOK_S)
    for folder in filter(_is_alive, alive):
        _signal(folder, signal.SIGKILL)
    return {"stopped": [folder.parent.name for folder in alive]}


def nodes(request: Mapping[str, Any]) -> dict[str, Any]:
    """Whether every node is fit: same versions, the store is one and the same, room on the disk, accelerators.

    Args:
        request: `store`; `sweep`: while it is under way nothing is looked at; `gpus` that one worker needs;
            `scales`, where nodes come when they are needed.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    _connect()
    folder, problems = Path(request["store"]), list[str]()
    here = [node for node in ray.nodes() if node["Alive"]]
    if _is_alive(_folder(request)):
        return {"nodes": len(here), "problems": []}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock-is-shared-") as token:
            ray.cloudpickle.register_pickle_by_value(sys.modules[look.__module__])  # other nodes have no such file
            remote = ray.remote(num_cpus=0, max_retries=0)(look)
            asked = {}
            for node in here:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                asked[name] = remote.options(scheduling_strategy=place).remote(token.name)
            seen = {}
            for name, answer in asked.items():
                try:
                    seen[name] = ray.get(answer, timeout=NODES_S)
                except Exception as error:  # whatever keeps a node from answering is its problem, not ours
                    problems.append(f"node {name}: does not answer ({_first_line(error)}); is its Ray up?")
    except OSError as error:
        return {"error": f"store {folder}: cannot be written on the head ({error.strerror}); mount it, or give another"}
    problems += unfit(seen, here=look(os.devnull), store=str(folder))
    gpus = ray.cluster_resources().get("GPU", 0.0)
    if request.get("gpus", 0) > gpus and not request.get("scales", False):
        way_out = "set workers.gpus: 0, or mend the driver: Ray counts what nvidia-smi shows"
        problems.append(f"workers.gpus: got {request['gpus']:g}; expected at most the nodes' {gpus:g}. {way_out}")
    return {"nodes": len(here), "problems": problems}


def _handed_over(file: str) -> dict[str, str]:
    """Variables of the cluster's file; what brought them is removed."""
    if not file:
        return {}
    path = Path(file).expanduser()
    found: dict[str, str] = json.loads(path.read_text())
    path.unlink()
    return found


def _connect() -> None:
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")


def _folder(request: Mapping[str, Any]) -> Path:
    return Path(request["store"]) / "sweeps" / request["sweep"] / "job"


def _is_alive(folder: Path) -> bool:
    """Somebody holds the job's lock."""
    try:
        with (folder / "lock").open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _record(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        record: dict[str, Any] = json.loads((folder / "job.json").read_text())
        return record
    return {}


def _state(folder: Path) -> str:
    """Running, done, or how it ended."""
    if _is_alive(folder):
        return "running"
    with suppress(OSError, ValueError, KeyError):
        ended = json.loads((folder / "ended.json").read_text())
        if ended["ended"] >= _record(folder).get("began", 0.0):
            known = {0: "done", 1: "done, some runs failed", 130: "stopped, to be gone on with"}
            return known.get(ended["code"], f"ended with code {ended['code']}")
    return "lost; submit it again, and it goes on"


def _signal(folder: Path, number: int) -> None:
    record = _record(folder)
    if record.get("host") == socket.gethostname():
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(record["pid"], number)
            else:
                os.kill(record["pid"], number)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:150]


VERBS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "nodes": nodes,
    "submit": submit,
    "status": status,
    "follow": follow,
    "state": state,
    "stop": stop,
}


def main() -> None:
    """`head VERB JSON`; a fault is an answer, too."""
    verb, request = sys.argv[1], json.loads(sys.argv[2])
    try:
        answer = VERBS[verb](request)
    except Exception as error:  # whoever called sees one line, not a traceback through two machines
        answer = {"error": f"{type(error).__name__}: {_first_line(error)}"}
    if answer:
        print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
