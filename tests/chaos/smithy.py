"""The bench's end of the forge: starts it with a clock that can be wrong, and asks it for processes under test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.page import FUSE, READY, STRIKE, TRAINED, Page

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0  # for what takes a second where nobody else uses the machine


class Hang(AssertionError):
    """Something did not come to pass in time."""


def wait_until(is_so: Callable[[], Any], *, what: str, patience_s: float = PATIENCE_S) -> None:
    """Look every few milliseconds.

    Raises:
        Hang: it did not become so.
    """
    until = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > until:
            raise Hang(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.005)


@dataclass
class Process:
    """One command under test."""

    pid: int
    page: Page
    log: Path
    forge: Forge
    began: float = field(default_factory=time.monotonic)
    exit: int | None = None

    @property
    def is_over(self) -> bool:
        """It has ended; `exit` says how."""
        if self.exit is None:
            self.exit = self.forge.ask(poll=self.pid)
        return self.exit is not None

    @property
    def trained(self) -> int:
        """Run-steps that it has trained."""
        return self.page[TRAINED]

    def send(self, number: int) -> None:
        """A signal; nothing where it has ended."""
        if not self.is_over:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it, stopped or not."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self, *, patience_s: float = PATIENCE_S) -> int:
        """Until it ends by itself; its exit code, or -signal."""
        wait_until(lambda: self.is_over, what=f"process {self.pid} to end", patience_s=patience_s)
        assert self.exit is not None
        return self.exit

    @property
    def is_stopped(self) -> bool:
        """It hangs in a SIGSTOP."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
        return False

    @property
    def said(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Forge:
    """A context in which processes under test can be had.

    Args:
        folder: for its pages, logs and caches.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._made: list[Process] = []
        self.clock = _clock(folder)

    def __enter__(self) -> Forge:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "EUREKA_CACHE": str(self.folder / "cache")}
        if self.clock is not None:
            environment["LD_PRELOAD"] = str(self.clock)
        command = [sys.executable, "-m", "tests.chaos.forge"]
        self._forge = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._forge.stdout is not None
        assert self._forge.stdout.readline() == "null\n", "the forge did not start"
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._made:  # without asking: whoever is interrupted has perhaps half asked
            if process.exit is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        assert self._forge.stdin is not None
        assert self._forge.stdout is not None
        self._forge.stdin.close()
        self._forge.wait()
        self._forge.stdout.close()

    def ask(self, **asked: Any) -> Any:
        """One question, one answer."""
        assert self._forge.stdin is not None
        assert self._forge.stdout is not None
        self._forge.stdin.write(json.dumps(asked) + "\n")
        self._forge.stdin.flush()
        return json.loads(self._forge.stdout.readline())

    def begin(self, argv: list[str], *, store: Path, fuse: int = 0, strike: int = 0, **more: Any) -> Process:
        """Start a command; see `victim.suffer` for what more can be said of it."""
        self._made = [process for process in self._made if not process.is_over]
        name = f"{time.monotonic_ns()}"
        page, log = Page(self.folder / f"{name}.page"), self.folder / f"{name}.log"
        page[STRIKE], page[FUSE] = strike, fuse
        order = {"argv": argv, "store": str(store), "page": str(page.path), "log": str(log), **more}
        process = Process(self.ask(order=order), page, log, self)
        self._made.append(process)
        wait_until(lambda: page[READY] or process.is_over, what="a process to begin")
        return process


def _clock(folder: Path) -> Path | None:
    """The library of clock.c; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
