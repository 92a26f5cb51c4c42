"""A sweep with a Ray of its own in a namespace (alone.sh), and what is done to it there.

    python alone.py nodes|notice|scaled|entrypoint SWEEP STORE      inside alone.sh

Each scene prints what it sees with its time, ends with 0 if the sweep did, and asserts what the sweep cannot know.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from analysis.store import Store

ROOT = Path(__file__).parents[2]
BEGAN = time.monotonic()
STORE_BYTES = 80_000_000  # of shared memory, for each of Ray's nodes
PATIENCE_S = 900.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
}
FAKE_HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # as the fake provider calls it
COMMANDS = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray", "initialization")
SCALED = {
    "cluster_name": "scaled",
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    **{f"{name}_commands": [] for name in COMMANDS},  # its defaults lie in a file that Ray's wheel lacks
    "max_workers": 2,
    "idle_timeout_minutes": 0.1,
    "upscaling_speed": 10.0,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "head_node_id": FAKE_HEAD,
        "gcs_address": "127.0.0.1:6379",
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "more": {
            "resources": {"CPU": 1, "object_store_memory": STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
    "head_node_type": "ray.head.default",
}
KUBERAY = """
name: kuberay
launcher: kubernetes
workers: {{count: 2, slots: 2}}
store: {store}
environment: {{python: {python}, code: installed}}
spot: {{checkpoint_s: 1}}
kubernetes: {{image: eureka, claim: shared, mount: {mount}}}
"""


os.environ |= QUIET


def nodes(sweep: Path, store: Path) -> int:
    """Three nodes with an accelerator each, in name; one is lost without a word while it trains."""
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**own, "include_dashboard": False})
    others = [cluster.add_node(**own) for _ in range(2)]
    say("three nodes are up")
    driver = start(sweep, store, "--device", "cpu", "--worker-gpus", "1", address=cluster.address)
    wait(lambda: begun(store) >= 3, "three cohorts are under way", driver)
    cluster.remove_node(others[1], allow_graceful=False)
    say(f"a node is lost; {committed(store)} runs are committed")
    return ended(driver)


def notice(sweep: Path, store: Path) -> int:
    """One of two nodes is told that it will be taken away; its worker saves and leaves, and a replacement comes."""
    import ray
    from ray.cluster_utils import Cluster

    told, server = store.parent / "told", ROOT / "tests" / "orchestrator" / "metadata.py"
    subprocess.Popen([sys.executable, str(server), "127.0.0.1", "8080", str(told)])
    own = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"  # nobody's
    cluster = Cluster(initialize_head=True, head_node_args={**own, "include_dashboard": False})
    spot = cluster.add_node(**own, env_vars={"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:8080"})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    say("two nodes are up")
    os.environ["EUREKA_NOTICES"] = "aws"
    driver = start(sweep, store, "--checkpoint-every", "3600", address=cluster.address)
    wait(lambda: filed(store) >= 2, "two cohorts are given out", driver)
    told.touch()
    say(f"one machine has its notice; {committed(store)} runs are committed, {begun(store)} cohorts saved")
    wait(lambda: begun(store) == 1, "its worker has saved", driver)
    steps = sum(step for _, step in Store(store).checkpoints.furthest().values())
    say(f"{steps} steps are saved")
    time.sleep(5)
    cluster.remove_node(spot, allow_graceful=False)
    say("the machine is gone")
    cluster.add_node(**own)
    say("a replacement is there")
    return ended(driver)


def scaled(sweep: Path, store: Path) -> int:
    """From one node to three while a sweep runs, and back to one."""
    import ray

    file = store.parent / "scaled.json"
    file.write_text(json.dumps(SCALED))
    fake = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    start_head(f"--num-cpus=1 --autoscaling-config={file}", fake)
    ray.init(address="127.0.0.1:6379", log_to_driver=False, logging_level="ERROR")
    assert alive(ray.nodes()) == 1
    say("one node is up")
    driver = start(sweep, store, "base.budget.steps=3000", address="127.0.0.1:6379")
    wait(lambda: alive(ray.nodes()) == 3, "three nodes are up", driver)
    code = ended(driver)
    wait(lambda: alive(ray.nodes()) == 1, "one node is left")
    hosts = {row["cohort"] for row in Store(store).runs_table(columns=["run_id", "cohort"]).to_pylist()}
    assert len(hosts) >= 3, "the new nodes had nothing to do"
    return code


def entrypoint(sweep: Path, store: Path) -> int:
    """The rendered command of a RayJob; its driver and Ray's head are killed, and it is begun again."""
    from orchestrator.cli import load
    from orchestrator.clusters.job import job_of
    from orchestrator.clusters.load import load_cluster
    from orchestrator.clusters.over_kubernetes import SWEEP_AT, OverKubernetes
    from orchestrator.clusters.shell import Local

    file = store.parent / "kuberay.yaml"
    file.write_text(KUBERAY.format(store=store, mount=store.parent, python=sys.executable))
    job = job_of(load(str(sweep), overrides=()))
    rendered = OverKubernetes(load_cluster(file)[0], shell=Local()).rendered(job)
    config, ray_job = yaml.safe_load_all(rendered.files["job.yaml"])
    Path(SWEEP_AT).mkdir()
    for name, text in config["data"].items():
        (Path(SWEEP_AT) / name).write_text(text)
    head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    sets = {row["name"]: row["value"] for row in head["env"]}
    command = ["bash", "-c", ray_job["spec"]["entrypoint"]]
    there = {**os.environ, **QUIET, **sets, "RAY_ADDRESS": "127.0.0.1:6379", "PYTHONPATH": str(ROOT)}
    start_head("--num-cpus=2")
    say("Ray's head is up")
    driver = subprocess.Popen(command, env=there)
    wait(lambda: begun(store) >= 1, "the job is under way", driver)
    kill_all()
    driver.wait()
    say(f"all processes are killed; {committed(store)} runs are committed, {begun(store)} cohorts saved")
    assert committed(store) < planned(store), "nothing was left to go on with"
    start_head("--num-cpus=2")
    code = ended(subprocess.Popen(command, env=there))
    again = subprocess.run(command, env=there, stdout=subprocess.PIPE, check=False)
    assert b": 0 runs trained" in again.stdout, again.stdout
    say("a third time finds nothing to do")
    return code


def start(sweep: Path, store: Path, *more: str, address: str) -> subprocess.Popen[bytes]:
    """The command, with two runs a cohort."""
    command = [sys.executable, "-m", "orchestrator.cli", "run", str(sweep), "--store", str(store), "--width", "2"]
    command += ["--checkpoint-every", "1", "--no-report", *more]
    sets = {**os.environ, **QUIET, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=sets)


def start_head(options: str, more: Mapping[str, str] | None = None) -> None:
    words = f"{sys.executable} -m ray.scripts.scripts start --head --port=6379 --include-dashboard=false {options}"
    sets = {**os.environ, **QUIET, **(more or {})}
    command = [*shlex.split(words), f"--object-store-memory={STORE_BYTES}"]
    subprocess.run(command, env=sets, stdout=subprocess.DEVNULL, check=True)


def kill_all() -> None:
    """Every other process; the namespace holds only ours."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def begun(store: Path) -> int:
    """Cohorts that have saved states."""
    return len(list((store / "checkpoints").glob("*.npz")))


def filed(store: Path) -> int:
    """Cohorts that workers may read."""
    return len(list(store.glob("sweeps/*/cohorts/*.json")))


def committed(store: Path) -> int:
    return len(Store(store).statuses())


def planned(store: Path) -> int:
    opened = Store(store)
    return len(opened.sweep(opened.sweeps()[0])["runs"])


def alive(found: list[dict[str, object]]) -> int:
    return sum(bool(node["Alive"]) for node in found)


def wait(is_so: Callable[[], bool], what: str, driver: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, f"not within {PATIENCE_S:g} s: {what}"
        assert driver is None or driver.poll() is None, f"the sweep was over before: {what}"
        time.sleep(0.2)
    say(what)


def ended(driver: subprocess.Popen[bytes]) -> int:
    code = driver.wait(timeout=PATIENCE_S)
    say(f"the sweep has ended with code {code}")
    return code


def say(what: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {what}", flush=True)


if __name__ == "__main__":
    scene, sweep_file, store_path = sys.argv[1:]
    play = {"nodes": nodes, "notice": notice, "scaled": scaled, "entrypoint": entrypoint}[scene]
    sys.exit(play(Path(sweep_file), Path(store_path)))
