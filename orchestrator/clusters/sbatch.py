"""The sbatch scripts, as text; everything that a site may differ in comes out of the cluster file.

Both scripts wait for their worker in a loop, since a trapped signal ends `wait`; both go back to the queue only when
the time limit was near: a preempted job is queued again by Slurm itself, and a cancelled one must not be.
"""

from __future__ import annotations

import shlex

from orchestrator.clusters.spec import ClusterSpec

LEAVE = """
child= near_limit= leaves=
leave() { leaves=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null; }
trap 'near_limit=1; leave' USR1
trap leave TERM
train() {
  code=130
  [ -z "$leaves" ] || return
  "$@" & child=$!
  [ -z "$leaves" ] || leave   # asked to between the two
  while wait "$child"; code=$?; [ "$code" -gt 128 ]; do   # it was killed, or a signal ended the waiting
    kill -0 "$child" 2>/dev/null && continue
    wait "$child"; last=$?
    [ "$last" = 127 ] || code=$last   # 127: the first wait had its own end already
    break
  done
  [ "$code" != 138 ] || code=130   # it was asked before it could listen, and had nothing to save yet
}
"""
AGAIN = """
if [ "$code" = 130 ] && [ -n "$near_limit" ]; then
  echo "saved near the time limit; queued again" >&2
  me=$SLURM_JOB_ID   # of an array's last task this is the whole array's, too
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || me="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  scontrol requeue "$me"
fi
exit "$code"
"""
RAY = """
umask 077
export RAY_AUTH_MODE=AUTH RAY_AUTH_TOKEN_PATH="$folder/token-$SLURM_JOB_ID"
[ -s "$RAY_AUTH_TOKEN_PATH" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' > "$RAY_AUTH_TOKEN_PATH"
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(srun --nodes=1 --ntasks=1 --nodelist="$host" hostname -I | cut -d' ' -f1)
port=$((20000 + SLURM_JOB_ID % 4000 * 2))
start="PYTHON -m ray.scripts.scripts start --block --disable-usage-stats"
start="$start --num-cpus=CPUS --num-gpus=GPUS --dashboard-agent-listen-port=$((port + 1))"
srun --nodes=1 --ntasks=1 --nodelist="$host" $start --head --node-ip-address="$head" --port="$port" \\
  --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" &
steps=$!
export RAY_ADDRESS="$head:$port"
tries=0
until PYTHON -m ray.scripts.scripts health-check --address="$RAY_ADDRESS" >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ] || ! kill -0 "$steps" 2>/dev/null; then
    echo "Ray's head did not start on $host; it says why above" >&2
    exit 1
  fi
  sleep 2
done
"""
RAY_WORKERS = """
srun --nodes=OTHERS --ntasks=OTHERS --ntasks-per-node=1 --exclude="$host" $start --address="$RAY_ADDRESS" &
steps="$steps $!"
"""


def array_script(spec: ClusterSpec, *, name: str, folder: str, code: str, command: str) -> str:
    """One task a worker; workers need nothing of each other but the store.

    Args:
        spec: the cluster.
        name: of the job.
        folder: where the script and its logs lie.
        code: what goes first on Python's path; empty is what is installed.
        command: what each worker runs.
    """
    assert spec.slurm is not None
    lines = [
        f"--array=0-{spec.workers.count - 1}",
        f"--cpus-per-task={_whole(spec.workers.cpus)}",
        *([f"--gres=gpu:{int(spec.workers.gpus)}"] if spec.workers.gpus else []),
        f"--output={shlex.quote(folder)}/%A_%a.log",
    ]
    return "".join(
        [
            _head(spec, name=name, lines=lines),
            _settings(spec, folder=folder, code=code),
            LEAVE,
            _train(command),
            AGAIN,
        ]
    )


def allocation_script(spec: ClusterSpec, *, name: str, folder: str, code: str, command: str) -> str:
    """One job over several nodes, with a Ray of its own that nobody else can reach; arguments as above."""
    assert spec.slurm is not None
    nodes = spec.slurm.nodes
    each = spec.workers.count // nodes
    cpus, gpus = _whole(each * spec.workers.cpus), int(each * spec.workers.gpus)
    lines = [
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        *([f"--gres=gpu:{gpus}"] if gpus else []),
        f"--output={shlex.quote(folder)}/%j.log",
    ]
    ray = RAY + (RAY_WORKERS if nodes > 1 else "")
    for word, value in {
        "AUTH": spec.auth,
        "PYTHON": shlex.quote(spec.environment.python),
        "CPUS": str(cpus),
        "GPUS": str(gpus),
        "OTHERS": str(nodes - 1),
    }.items():
        ray = ray.replace(f"={word}", f"={value}").replace(f"{word} -m", f"{value} -m")
    stop = '\nkill $steps 2>/dev/null\nrm -f "$RAY_AUTH_TOKEN_PATH"'
    parts = [_head(spec, name=name, lines=lines), _settings(spec, folder=folder, code=code), LEAVE, ray]
    return "".join([*parts, _train(command), stop, AGAIN])


def _head(spec: ClusterSpec, *, name: str, lines: list[str]) -> str:
    slurm = spec.slurm
    assert slurm is not None
    named = {"partition": slurm.partition, "account": slurm.account, "qos": slurm.qos, "mem": slurm.memory}
    options = [
        f"--job-name={name}",
        *lines,
        f"--time={slurm.time_limit}",
        f"--signal=B:USR1@{slurm.notice_s}",
        "--requeue",
        "--open-mode=append",
        *(f"--{key}={value}" for key, value in named.items() if value),
        *slurm.options,
    ]
    return "#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in options)


def _settings(spec: ClusterSpec, *, folder: str, code: str) -> str:
    """Where files are, what is set, what is run first."""
    environment = spec.environment
    variables = {"OMP_NUM_THREADS": "1", **({} if spec.workers.gpus else {"CUDA_VISIBLE_DEVICES": ""})}
    variables |= spec.notices
    lines = ["", "set -u", f"folder={shlex.quote(folder)}", 'cd "$folder" || exit 2']
    lines += [f'export PYTHONPATH={shlex.quote(code)}"${{PYTHONPATH:+:$PYTHONPATH}}"'] if code else []
    lines += [f"export {key}={shlex.quote(value)}" for key, value in variables.items()]
    for key in environment.variables:  # the script lies in the store, where no secret belongs: sbatch passes them on
        lines.append(f': "${{{key}?was not passed on with the job; does this site, or an option, set --export?}}"')
    lines += environment.setup
    return "\n".join(lines) + "\n"


def _train(command: str) -> str:
    """The worker; the budget's hours count from the first task's start, however often the job is queued again."""
    hours = _option(command, "--max-hours")
    if hours is None:
        return f"\ntrain {command}\n"
    command = command.replace(f"--max-hours {hours}", '--max-hours "$hours"')
    left = f'$(awk -v began="$(cat began)" -v now="$(date +%s)" \'BEGIN {{ print {hours} - (now - began) / 3600 }}\')'
    lines = ["", "[ -e began ] || date +%s > began", f"hours={left}"]
    lines += ['case $hours in -*|0) echo "the budget of hours is spent" >&2; exit 0;; esac', f"train {command}", ""]
    return "\n".join(lines)


def _option(command: str, option: str) -> str | None:
    words = command.split()
    return words[words.index(option) + 1] if option in words else None


def _whole(cpus: float) -> int:
    return max(1, round(cpus))
