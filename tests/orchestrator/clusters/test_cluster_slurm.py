"""The generated sbatch scripts, run by a real shell with stand-ins for Slurm and for the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cluster_files import SWEEP, FakeShell, job, load_text

from analysis.store import Store
from orchestrator.clusters.over_slurm import OverSlurm
from orchestrator.clusters.sbatch import LEAVE
from orchestrator.clusters.ship import code_digest, code_files, ship_code

TEXT = """
name: hpc
launcher: slurm
workers: {count: 4, cpus: 2, gpus: 1, slots: 8}
store: STORE
environment: {python: PYTHON, code: installed, setup: [": load cuda"]}
slurm: {mode: array, partition: gpu, time_limit: "00:10:00", notice_s: 30, memory: 8G, options: ["--constraint=a100"]}
"""
WORKER = """#!/bin/bash
echo "$@" >> "$HOME/calls"
trap 'exit 130' USR1
touch "$HOME/ready"
for i in $(seq 200); do [ -e "$HOME/finish" ] && exit "$(cat "$HOME/finish")"; sleep 0.05; done
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node's home, with a worker and a scontrol that only write down what they are asked."""
    folder = tmp_path / "a home"
    folder.mkdir()
    for name, text in {"python": WORKER, "scontrol": '#!/bin/sh\necho "$@" >> "$HOME/scontrol-calls"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def script(home: Path, **changes: str) -> str:
    text = TEXT.replace("STORE", str(home / "store")).replace("PYTHON", f"'{home}/python'")
    for old, new in changes.items():
        text = text.replace(old, new)
    return OverSlurm(load_text(text)[0], shell=FakeShell({})).script(job(), folder=str(home), code="")


def start(home: Path, text: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HOME": str(home), "PATH": f"{home}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    (home / "job.sbatch").write_text(text)
    process = subprocess.Popen(["bash", str(home / "job.sbatch")], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (home / "ready").exists():
        assert process.poll() is None, "the script ended"
        assert time.monotonic() < until, "the worker did not start"
        time.sleep(0.01)
    return process


def test_an_array_asks_for_what_the_file_says(home: Path) -> None:
    text = script(home)
    for line in (
        "--job-name=eureka-small", "--array=0-3", "--cpus-per-task=2", "--gres=gpu:1", "--time=00:10:00",
        "--signal=B:USR1@30", "--requeue", "--open-mode=append", "--partition=gpu", "--mem=8G", "--constraint=a100",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert ": load cuda\n" in text
    assert "CUDA_VISIBLE_DEVICES" not in text
    assert "export CUDA_VISIBLE_DEVICES=''\n" in script(home, **{"gpus: 1": "gpus: 0"}), "a worker without one sees all"


def test_near_the_time_limit_the_worker_saves_and_the_job_is_queued_again(home: Path) -> None:
    process = start(home, script(home))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 130
    assert (home / "scontrol-calls").read_text() == "requeue 7\n"


def test_a_task_of_an_array_queues_itself_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")  # the last task has the array's own number
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    process = start(home, script(home))
    process.send_signal(signal.SIGUSR1)
    process.wait(timeout=30)
    assert (home / "scontrol-calls").read_text() == "requeue 7_3\n"


def test_a_cancelled_or_preempted_job_saves_and_does_not_queue_itself(home: Path) -> None:
    process = start(home, script(home))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert not (home / "scontrol-calls").exists()


@pytest.mark.parametrize(
    ("told", "worker"),
    [
        ("kill -USR1 $$", "touch began"),
        ("", "kill -USR1 $$; sleep 5"),
        (
            "trap 'child=; leave' EXIT; (until [ -e listens ]; do sleep 0.05; done; sleep 0.2; kill -TERM $$) &",
            "trap 'exit 130' USR1; touch listens; sleep 5 & wait",
        ),
    ],
    ids=["before the worker", "before it listens", "while it trains"],
)
def test_a_signal_at_any_moment_is_heard(tmp_path: Path, told: str, worker: str) -> None:
    script = f'set -u\n{LEAVE}\n{told}\ntrain bash -c "$1"\nexit "$code"\n'
    done = subprocess.run(["bash", "-c", script, "job", worker], cwd=tmp_path, timeout=30, check=False)
    assert done.returncode == 130
    assert not (tmp_path / "began").exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_finished_worker_ends_the_job_with_its_own_code(home: Path, code: int) -> None:
    process = start(home, script(home))
    (home / "finish").write_text(str(code))
    assert process.wait(timeout=30) == code
    assert not (home / "scontrol-calls").exists()
    [call] = (home / "calls").read_text().splitlines()
    assert call.startswith("-m orchestrator.cli run")
    assert "sweep.yaml --store" in call
    assert "--launcher inline --device cuda --checkpoint-every 15 --width 8 --share --no-report" in call


def test_hours_of_a_budget_count_from_the_first_start(home: Path) -> None:
    text = script(home, **{"slurm: {": "budget: {hours: 2}\nslurm: {"})
    (home / "began").write_text(str(int(time.time()) - 3600))
    process = start(home, text)
    (home / "finish").write_text("0")
    process.wait(timeout=30)
    words = (home / "calls").read_text().split()
    assert 0.95 < float(words[words.index("--max-hours") + 1]) <= 1.0
    (home / "began").write_text(str(int(time.time()) - 7201))
    spent = subprocess.run(["bash", str(home / "job.sbatch")], env={**os.environ, "HOME": str(home)}, check=False)
    assert spent.returncode == 0
    assert len((home / "calls").read_text().splitlines()) == 1, "a worker was started on a spent budget"


def test_an_allocation_brings_a_ray_of_its_own(home: Path) -> None:
    text = script(home, **{"mode: array": "mode: allocation, nodes: 2"})
    assert "#SBATCH --nodes=2\n" in text
    assert "#SBATCH --cpus-per-task=4\n" in text
    assert "#SBATCH --gres=gpu:2\n" in text
    assert "--array" not in text
    assert "RAY_AUTH_MODE=token" in text
    assert "--launcher ray" in text
    assert "--share" not in text
    assert "srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude" in text


def test_a_sweep_is_queued_once_with_its_code_beside_it(home: Path) -> None:
    text = TEXT.replace("STORE", str(home / "store")).replace("PYTHON", "python").replace("code: installed, ", "")
    shell = FakeShell({"sbatch --parsable": "42;cluster\n"})
    launcher = OverSlurm(load_text(text)[0], shell=shell)
    assert launcher.submit(job()).startswith("eureka-small: queued as job 42")
    folder = home / "store" / "sweeps" / "small" / "slurm"
    code = folder / f"code-{code_digest(code_files())}"
    assert (folder / "sweep.yaml").read_text() == SWEEP
    assert (code / "orchestrator" / "cli.py").exists()
    assert (code / "workloads" / "data").exists()
    assert f"export PYTHONPATH='{code}'" in (folder / "job.sbatch").read_text()
    assert Store(home / "store").statuses() == {}, "what Slurm was given is not beside a store"
    shell.answers = {"squeue": "42_1|eureka-small|RUNNING|0:01|1|n1\n43|another|RUNNING|0:01|1|n2\n"}
    assert launcher.submit(job()) == "eureka-small: is there already, as job 42_1"
    assert launcher.status() == ["42_1 eureka-small running 0:01 1 node(s) n1"]
    assert launcher.down() == "hpc: 1 job(s) cancelled (eureka-small)"
    assert sum("sbatch" in call for call in shell.calls) == 1
    assert shell.calls[-1] == "scancel --name=eureka-small", "a signal of the limit would queue it again"


def test_a_state_of_the_code_is_copied_once(tmp_path: Path) -> None:
    place = ship_code(tmp_path)
    (place / "mark").touch()
    assert ship_code(tmp_path) == place
    assert (place / "mark").exists()
    assert not any("__pycache__" in name for name in code_files())
