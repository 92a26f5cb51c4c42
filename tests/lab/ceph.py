"""A real S3 gateway on loopback: a Ceph monitor, one store in memory, and radosgw, which can be stopped and started.

What is not installed may lie unpacked in LAB_LAYER (Debian: ceph-mon, ceph-osd, radosgw); no root is needed. Pacific of
2023 is old enough to do without what newer clients send unasked (checksums in trailers): so do we.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool", "ceph")
KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}
STARTS_S = 180.0
CONF = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v1:127.0.0.1:{mon}
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_warn_on_pool_no_redundancy = false
ms_bind_msgr2 = false
run_dir = {folder}/run
log_file = {folder}/log/$name.log
admin_socket = {folder}/run/$name.asok
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 1073741824
rgw_data = {folder}/rgw
keyring = {folder}/keyring
osd_class_dir = {libraries}/rados-classes
erasure_code_dir = {libraries}/ceph/erasure-code
plugin_dir = {libraries}/ceph
rgw_dynamic_resharding = false
osd_max_object_name_len = 256
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port}
"""


def lacking() -> str:
    """Why it cannot be had here; empty where it can."""
    missing = [name for name in PROGRAMS if not _program(name)]
    return f"needs {', '.join(missing)} (installed, or in LAB_LAYER; see tests/lab/README.md)" if missing else ""


class Ceph:
    """A cluster of one of each, with a gateway.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path):
        self.folder, self.port, self._mon = folder, _free_port(), _free_port()
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.gateway: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        for name in ("mon", "osd", "rgw", "log", "run"):
            (self.folder / name).mkdir()
        libraries = next((path for path in _libraries() if (path / "rados-classes").exists()), Path("/usr/lib"))
        fsid, conf = str(uuid.uuid4()), self.folder / "ceph.conf"
        fill = {"fsid": fsid, "mon": self._mon, "port": self.port, "folder": self.folder, "libraries": libraries}
        conf.write_text(CONF.format(**fill))
        keyring, monmap = str(self.folder / "keyring"), str(self.folder / "monmap")
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *")
        self._run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{self._mon}]", "--fsid", fsid, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemons.append(self._start("ceph-mon", "-i", "a", "-f"))
        osd = str(uuid.uuid4())
        number = self._run("ceph", "--connect-timeout", "60", "osd", "new", osd).strip()
        self._run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
        self._run("ceph", "osd", "crush", "add", f"osd.{number}", "1", "root=default", "host=h")
        self._daemons.append(self._start("ceph-osd", "-i", number, "-f"))
        keys = ["--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"]]
        self._run("radosgw-admin", "user", "create", "--uid", "lab", "--display-name", "lab", *keys)
        self.start_gateway()

    def start_gateway(self) -> None:
        """Start radosgw, and wait until it answers."""
        self.gateway = self._start("radosgw", "-n", "client.rgw.a", "-f")
        until = time.monotonic() + STARTS_S
        while not self._answers():
            assert time.monotonic() < until, f"radosgw does not answer; see {self.folder}/log"
            time.sleep(0.5)

    def kill_gateway(self) -> None:
        assert self.gateway is not None
        self.gateway.kill()
        self.gateway.wait()

    def pause_gateway(self) -> None:
        assert self.gateway is not None
        os.kill(self.gateway.pid, signal.SIGSTOP)

    def continue_gateway(self) -> None:
        assert self.gateway is not None
        os.kill(self.gateway.pid, signal.SIGCONT)

    def down(self) -> None:
        for daemon in [*([self.gateway] if self.gateway else []), *reversed(self._daemons)]:
            with contextlib.suppress(ProcessLookupError):
                daemon.kill()
            daemon.wait()

    def environment(self) -> dict[str, str]:
        """What makes a process speak to it."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5.0) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [_program(name), *arguments],
            env=self._sets(),
            capture_output=True,
            text=True,
            timeout=STARTS_S,
            check=False,
        )
        assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([_program(name), *arguments], env=self._sets(), **quiet)  # type: ignore[call-overload,no-any-return]

    def _sets(self) -> dict[str, str]:
        folders = [str(path) for path in _libraries() if path.exists()] + [str(path / "ceph") for path in _libraries()]
        python = [str(_layer() / "usr/lib/python3/dist-packages")]
        sets = {"CEPH_CONF": str(self.folder / "ceph.conf"), "LD_LIBRARY_PATH": os.pathsep.join(folders)}
        return {**os.environ, **sets, "PYTHONPATH": os.pathsep.join(python)}


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    made = Ceph(folder)
    try:
        made.up()
        yield made
    finally:
        made.down()


def _layer() -> Path:
    return Path(os.environ.get("LAB_LAYER", "/"))


def _libraries() -> list[Path]:
    return [_layer() / "usr/lib/x86_64-linux-gnu", _layer() / "lib/x86_64-linux-gnu", _layer() / "usr/lib"]


def _program(name: str) -> str:
    found = [str(_layer() / folder / name) for folder in ("usr/bin", "usr/sbin")]
    return next((path for path in found if os.path.exists(path)), shutil.which(name) or "")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
