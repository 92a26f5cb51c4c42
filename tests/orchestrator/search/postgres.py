"""A PostgreSQL server of the test's own, from the system's package, on loopback; it can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 60.0


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where the package is not installed."""
    there = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    there += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in there if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Server:
    """A server in a folder.

    Args:
        folder: of the user that runs it, who is not root.
        bin_: its programs.
    """

    def __init__(self, folder: Path, bin_: Path):
        self.folder, self._bin = folder, bin_
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The database's address."""
        return f"postgresql+psycopg://eureka:secret@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """A new cluster, whose user eureka owns everything."""
        password = self.folder / "password"
        password.write_text("secret")
        _own(self.folder)
        _own(password)
        command = [str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-U", "eureka", "-A", "scram-sha-256"]
        command += ["--pwfile", str(password), "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run([*_as_user(), *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-k", str(self.folder)]
        self.process = subprocess.Popen(
            [*_as_user(), *command], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        import psycopg

        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, "PostgreSQL does not start"
                time.sleep(0.1)

    def kill(self) -> None:
        """kill -9 of the server and its children; recovery is left to the next start."""
        if self.process is not None:
            leader = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
            children = _children(leader)
            for pid in (leader, *children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            self.process = None


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def _user() -> pwd.struct_passwd | None:
    """Who runs it: nobody else where we are not root, since it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _as_user() -> list[str]:
    user = _user()
    return [] if user is None else ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _own(path: Path) -> None:
    user = _user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


@contextlib.contextmanager
def served(folder: Path, bin_: Path) -> Iterator[Server]:
    """A running server; gone at the end."""
    server = Server(folder, bin_)
    server.make()
    server.start()
    try:
        yield server
    finally:
        server.kill()
