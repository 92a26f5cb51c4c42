"""What a sweep on this machine opens to others: nothing. Ray by itself listens on every interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from orchestrator.clusters.job import Job
from orchestrator.clusters.launcher import launcher_of
from orchestrator.clusters.load import FOLDER, load_cluster

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, psutil
from orchestrator.tune import connect, disconnect
import ray
connect(1)
assert ray.get(ray.remote(lambda: 1).remote()) == 1
me = psutil.Process()
processes = [me, *me.children(recursive=True)]
ports = [(one.name(), at) for one in processes for at in one.net_connections("inet")]
print(json.dumps([(name, at.laddr.ip) for name, at in ports if at.status == "LISTEN"]))
disconnect()
"""


def test_ray_of_one_machine_listens_to_that_machine_alone(tmp_path: Path):
    unset = ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    listening = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert {ip.removeprefix("::ffff:") for _, ip in listening} <= {"127.0.0.1", "::1"}
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0


def test_shipped_clusters_ask_for_tokens_and_show_their_dashboard_to_nobody():
    files = sorted(FOLDER.glob("*.yaml"))
    assert len(files) > 5
    for file in files:
        spec, source = load_cluster(file)
        assert spec.auth == "token", file.name
        launcher = launcher_of(spec, source=source)
        if spec.launcher == "kubernetes":  # KubeRay sends its job through the dashboard's port, inside the cluster
            objects = launcher._objects(Job(sweep="s", text=""))  # type: ignore[attr-defined]
            job = list(yaml.safe_load_all(objects))[-1]
            assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
        elif spec.launcher == "ray":
            config = launcher.config()  # type: ignore[attr-defined]
            for key in ("head_start_ray_commands", "worker_start_ray_commands"):
                assert any("RAY_AUTH_MODE=token" in line for line in config[key]), file.name
                assert not any("--dashboard-host" in line for line in config[key]), "its default is loopback"
        elif spec.launcher == "slurm":
            allocation = spec.model_copy(update={"slurm": spec.slurm.model_copy(update={"mode": "allocation"})})  # type: ignore[union-attr]
            script = launcher_of(allocation, source=source).script(Job(sweep="s", text=""), folder="F", code="")  # type: ignore[attr-defined]
            assert "RAY_AUTH_MODE=token" in script
            assert "--include-dashboard=false" in script
