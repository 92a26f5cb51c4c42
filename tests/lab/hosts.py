"""The lab's hosts from Python: bring them up, run commands in them, cut and mend their links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NODES = 3
RUNS = 16  # of the sweep
SWEEP = """\
name: small
question: Does anything get lost?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 1500, batch: 8}
axes:
  optim.lr: [1.0e-3, 1.0e-2]
replicates: 8
log: {measures_every_steps: 100}
"""


def lacking(*tools: str) -> str:
    """Why the lab cannot be had here; empty where it can."""
    if os.geteuid():
        return "needs root"
    layer = Path(os.environ.get("LAB_LAYER", "/nonexistent"))
    folders = ("usr/sbin", "usr/bin", "sbin", "bin")
    unpacked = {tool for tool in tools for folder in folders if os.path.lexists(layer / folder / tool)}
    missing = [tool for tool in tools if not shutil.which(tool) and tool not in unpacked]
    return f"needs {', '.join(missing)} (installed, or in LAB_LAYER; see tests/lab/README.md)" if missing else ""


class Hosts:
    """Host 0 launches, 1 is the head, the rest work; `shared` is /shared on all of them.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path):
        self.folder, self.shared = folder, folder / "shared"
        self.began = time.monotonic()

    def up(self) -> None:
        self._script("up", str(NODES))
        (self.shared / "code").mkdir()
        with tarfile.open(self.folder / "code.tar", "w") as tar:
            for name in ("analysis", "orchestrator", "workloads", "clusters"):
                tar.add(ROOT / name, name, filter=lambda one: None if "__pycache__" in one.name else one)
        with tarfile.open(self.folder / "code.tar") as tar:
            tar.extractall(self.shared / "code", filter="data")
        (self.shared / "small.yaml").write_text(SWEEP)
        self.wait(
            lambda: all(self.on(i, "pgrep -x sshd") for i in range(NODES + 1)), "sshd is up everywhere", most_s=60
        )

    def down(self) -> None:
        self._script("down")

    def on(self, host: int, command: str, *, timeout_s: float = 300.0) -> str:
        """What a command prints there; empty where it fails."""
        words, environment = self._words(host, command), self._environment()
        done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, timeout=timeout_s, check=False)
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    def start(self, host: int, command: str) -> subprocess.Popen[bytes]:
        """A command that goes on there."""
        return subprocess.Popen(self._words(host, command), env=self._environment())

    def _words(self, host: int, command: str) -> list[str]:
        return ["bash", str(HERE / "hosts.sh"), "exec", str(host), "bash", "-c", command]

    def eureka(self, arguments: str) -> str:
        """The command, as host 0 would give it."""
        sets = "EUREKA_CACHE=/tmp/cache OMP_NUM_THREADS=1 RAY_worker_niceness=0 PYTHONPATH=/shared/code"
        python = f"PATH={Path(sys.executable).parent}:$PATH {sys.executable}"
        return f"cd /shared && {sets} {python} -m orchestrator.cli {arguments}"

    def rays(self) -> list[int]:
        """Hosts on which a process of Ray's runs."""
        return [i for i in range(NODES + 1) if self.on(i, "pgrep raylet || pgrep gcs_server || pgrep ray::")]

    def cut(self, host: int) -> None:
        self._script("cut", str(host))

    def mend(self, host: int) -> None:
        self._script("mend", str(host))

    def wait(self, is_so: Callable[[], object], what: str, *, most_s: float = 600.0) -> None:
        """Wait until something is so, and say when it was."""
        until = time.monotonic() + most_s
        while not is_so():
            assert time.monotonic() < until, f"not within {most_s:g} s: {what}"
            time.sleep(0.5)
        self.say(what)

    def say(self, what: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {what}", flush=True)

    def _script(self, *arguments: str) -> None:
        subprocess.run(["bash", str(HERE / "hosts.sh"), *arguments], env=self._environment(), check=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LAB": str(self.folder)}
