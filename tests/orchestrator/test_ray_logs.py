"""Ray's own logs are bounded: its processes are told so before it is imported, and the user's wish goes before ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("RAY_ROTATION_MAX_BYTES", "RAY_ROTATION_BACKUP_COUNT")
CODE = f"import os, orchestrator.tune; print(*(os.environ[name] for name in {NAMES}))"


@pytest.mark.parametrize(("own", "said"), [({}, "16777216 2"), ({"RAY_ROTATION_MAX_BYTES": "5000000"}, "5000000 2")])
def test_rays_logs_are_rotated_as_we_or_the_user_say(own: dict[str, str], said: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | own
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == said, done.stderr


@pytest.mark.slow
def test_ray_rotates_the_logs_of_its_own_processes(tmp_path: Path) -> None:
    code = """
import os, time
os.environ.update(RAY_ROTATION_MAX_BYTES="10000", RAY_ROTATION_BACKUP_COUNT="1")
from orchestrator.tune import connect, disconnect, ray
connect(1)
folder = ray._private.worker._global_node.get_logs_dir_path()
until = time.monotonic() + 300
while not os.path.exists(f"{folder}/gcs_server.out.1") and time.monotonic() < until:
    time.sleep(1)
print(*(os.path.getsize(f"{folder}/{name}") for name in ("gcs_server.out", "gcs_server.out.1")))
disconnect()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(0 < int(size) <= 12_000 for size in done.stdout.split())
