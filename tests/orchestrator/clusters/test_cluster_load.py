"""Cluster files: every shipped one is checked, and a bad one is one line with its own line number."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from cluster_files import load_text

from orchestrator.cli import cli
from orchestrator.clusters.launcher import launcher_of
from orchestrator.clusters.load import FOLDER, load_cluster
from orchestrator.errors import BadRequest

SHIPPED = ["aws_gpu_spot", "azure_gpu", "gcp_gpu", "kuberay", "laptop", "slurm", "ssh"]
LAPTOP = "name: here\nlauncher: local\nstore: store\n"
OWN = """\
name: lab
launcher: ray
store: /shared/store
workers: {count: 4}
ray:
  provider:
    type: local
    head_ip: 10.0.0.1
    worker_ips: [10.0.0.2]
  auth: {ssh_user: you}
"""
KUBE = """\
name: k
launcher: kubernetes
store: s3://runs/eureka
kubernetes: {image: an/image, claim: store}
"""
SLURM = "name: hpc\nlauncher: slurm\nstore: /scratch/store\n"


def dry_run(text: str) -> None:
    spec, source = load_text(text)
    launcher_of(spec, source=source).rendered()


def fault(text: str) -> str:
    """What the dry run says of a file, less its folder."""
    with pytest.raises(BadRequest) as caught:
        dry_run(text)
    line = str(caught.value)
    assert "\n" not in line
    return line[line.index("cluster.yaml") :]


def test_every_shipped_cluster_passes_the_dry_run() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == SHIPPED
    for name in SHIPPED:
        spec, source = load_cluster(name)
        rendered = launcher_of(spec, source=source).rendered()
        assert rendered.commands, name
        assert rendered.checks, name
        assert (
            "Costs" in (FOLDER / f"{name}.yaml").read_text() or "costs nothing" in (FOLDER / f"{name}.yaml").read_text()
        )


BAD = {
    "an unknown key": (LAPTOP + "worker: {count: 2}\n", "cluster.yaml:4: worker: got an unknown key", "'workers'?"),
    "Ray's key at our level": (LAPTOP + "max_workers: 2\n", "cluster.yaml:4: max_workers", "goes under ray:"),
    "an unknown launcher": (LAPTOP.replace("local", "slrum"), "cluster.yaml:2: launcher: got 'slrum'", "'slurm'?"),
    "no store": ("name: a\nlauncher: local\n", "cluster.yaml: store: got nothing", "expected a value"),
    "a relative store": (
        SLURM.replace("/scratch/", "") + "slurm: {}\n",
        "cluster.yaml:3: store: got 'store'",
        "absolute",
    ),
    "an object store": (SLURM.replace("/scratch/", "s3://") + "slurm: {}\n", "cluster.yaml:3: store", "Mount it"),
    "a bucket and a claim": (
        KUBE,
        "cluster.yaml:4: kubernetes.claim: got 'store'",
        "A store in a bucket needs none",
    ),
    "a part missing": (SLURM, "cluster.yaml:2: slurm: got nothing", "expected a part of this name"),
    "a part unread": (LAPTOP + "slurm: {}\n", "cluster.yaml:4: slurm: got a part", "remove it"),
    "a time without quotes": (SLURM + "slurm: {time_limit: 12:00:00}\n", "cluster.yaml:4: slurm.time_limit", "quotes"),
    "half a GPU of Slurm": (
        SLURM + "workers: {gpus: 0.5}\nslurm: {}\n",
        "cluster.yaml:4: workers.gpus: got 0.5",
        "whole",
    ),
    "a cost without prices": (LAPTOP + "budget: {cost: 5}\n", "cluster.yaml:4: budget.cost: got 5", "worker_per_hour"),
    "Ray's key misspelt": (OWN + "  max_worker: 3\n", "cluster.yaml:11: ray.max_worker: got a key", "'max_workers'?"),
    "Ray's value of a wrong type": (
        OWN + "  max_workers: many\n",
        "cluster.yaml:11: ray.max_workers: got 'many'",
        "integer",
    ),
    "no provider": (
        "name: a\nlauncher: ray\nstore: /s\nray: {}\n",
        "cluster.yaml:4: ray.provider.type",
        "own machines",
    ),
    "an unknown provider": (OWN.replace("local", "awss"), "cluster.yaml:7: ray.provider.type: got 'awss'", "'aws'?"),
    "no workers' addresses": (
        OWN.replace("    worker_ips: [10.0.0.2]\n", ""),
        "cluster.yaml:6: ray.provider.worker_ips",
        "",
    ),
    "the head among them": (
        OWN.replace("[10.0.0.2]", "[10.0.0.1]"),
        "cluster.yaml:9: ray.provider.worker_ips",
        "trains",
    ),
    "a key file that is not there": (
        OWN.replace("{ssh_user: you}", "{ssh_user: you, ssh_private_key: /no/key}"),
        "cluster.yaml:10: ray.auth.ssh_private_key: got '/no/key'",
        "ssh-keygen",
    ),
    "a mount that is not there": (
        OWN + "  file_mounts: {/a: /no/where}\n",
        "cluster.yaml:11: ray.file_mounts./a",
        "mid-launch",
    ),
    "the second autoscaler on own machines": (
        OWN + "  head_start_ray_commands: [ray start --head]\n",
        "cluster.yaml:11: ray.head_start_ray_commands",
        "RAY_enable_autoscaler_v2=0",
    ),
    "a head type that is none": (
        "name: a\nlauncher: ray\nstore: /s\nray:\n  provider: {type: aws, region: r}\n  auth: {ssh_user: u}\n"
        "  head_node_type: heda\n  available_node_types: {head: {resources: {}, node_config: {}}}\n",
        "cluster.yaml:7: ray: `head_node_type`",
        "available_node_types",
    ),
    "nothing": ("", "cluster.yaml: got an empty file", "mapping"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_says_where_and_what_to_do(case: str) -> None:
    text, begins, says = BAD[case]
    line = fault(text)
    assert line.startswith(begins), line
    assert says in line


def test_shell_variables_below_ray_are_left_to_the_shell() -> None:
    spec, _ = load_text(OWN + '  setup_commands: ["export A=${HOME}/x B=${B:-1}"]\n')
    assert spec.ray is not None
    assert spec.ray["setup_commands"] == ["export A=${HOME}/x B=${B:-1}"]


def test_an_unknown_cluster_lists_those_that_are_shipped(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"expected .* kuberay, laptop, slurm, ssh. Did you mean 'slurm'\?"):
        load_cluster("slrum")


def test_a_dry_run_prints_what_was_checked_what_is_written_and_what_is_run() -> None:
    shown = CliRunner().invoke(cli, ["up", "ssh", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    for words in (
        "# checked: Ray's schema",
        "# ---- ray.yaml",
        "RAY_enable_autoscaler_v2=0",
        "# ---- commands",
        "ray up -y",
    ):
        assert words in shown.output
    assert "RAY_AUTH_MODE=token" in shown.output


def test_a_bad_file_ends_the_command_with_two(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(LAPTOP + "gpus: 1\n")
    shown = CliRunner().invoke(cli, ["up", str(path), "--dry-run"])
    assert (shown.exit_code, shown.output.count("\n")) == (2, 1)
