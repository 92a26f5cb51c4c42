"""The RayJob that is rendered, against KubeRay's strict schema; and the schema, against faults planted in it."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cluster_files import FakeShell, job, load_text

from orchestrator.clusters.over_kubernetes import OverKubernetes, merged
from orchestrator.errors import BadRequest

SCHEMA = json.loads((Path(__file__).parent / "rayjob.schema.json").read_text())
TEXT = """
name: kuberay
launcher: kubernetes
workers: {count: 8, least: 1, cpus: 4, gpus: 1, slots: 64}
store: /shared/eureka-store
environment: {code: installed, variables: {HTTPS_PROXY: "http://proxy:3128"}}
spot: {use: true}
budget: {hours: 12}
kubernetes: {image: registry.example/eureka:1, claim: store}
"""


def launcher(text: str = TEXT, *, answers: dict[str, str] | None = None) -> OverKubernetes:
    return OverKubernetes(load_text(text)[0], shell=FakeShell(answers or {}))


def ray_job(text: str = TEXT) -> dict[str, Any]:
    config, secret, found = yaml.safe_load_all(launcher(text).rendered(job()).files["job.yaml"])
    assert (config["kind"], secret["kind"], found["kind"]) == ("ConfigMap", "Secret", "RayJob")
    return dict(found)


def worker(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["spec"]["rayClusterSpec"]["workerGroupSpecs"][0])


def test_a_rendered_job_fits_the_strict_schema() -> None:
    jsonschema.validate(ray_job(), SCHEMA)


def plant_number(found: dict[str, Any]) -> None:
    found["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["rayStartParams"]["num-gpus"] = 1


def plant_mode(found: dict[str, Any]) -> None:
    found["spec"]["submissionMode"] = "K8sJob"


def plant_replicas(found: dict[str, Any]) -> None:
    found["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] = "8"


def plant_container_key(found: dict[str, Any]) -> None:
    pod = found["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    pod["containers"][0]["volumeMount"] = []


def plant_variable(found: dict[str, Any]) -> None:
    pod = found["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    pod["containers"][0]["env"].append({"name": "A", "value": 1})


def plant_spec_key(found: dict[str, Any]) -> None:
    found["spec"]["entryPoint"] = "python"


@pytest.mark.parametrize(
    "plant", [plant_number, plant_mode, plant_replicas, plant_container_key, plant_variable, plant_spec_key]
)
def test_the_schema_catches_a_planted_fault(plant: Callable[[dict[str, Any]], None]) -> None:
    found = copy.deepcopy(ray_job())
    plant(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_workers_scale_between_what_the_file_says() -> None:
    group = worker(ray_job())
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 8)
    assert group["rayStartParams"] == {"num-cpus": "4", "num-gpus": "1"}
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert ray_job()["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True


def test_the_store_lies_on_the_claim_in_every_pod() -> None:
    spec = ray_job()["spec"]["rayClusterSpec"]
    for pod in (spec["headGroupSpec"]["template"]["spec"], spec["workerGroupSpecs"][0]["template"]["spec"]):
        assert {"name": "store", "persistentVolumeClaim": {"claimName": "store"}} in pod["volumes"]
        assert {"name": "store", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]


def test_what_the_file_says_below_ray_goes_over_the_rendered_spec() -> None:
    found = ray_job(TEXT + "ray: {ttlSecondsAfterFinished: 5, rayClusterSpec: {rayVersion: '2.60.0'}}\n")["spec"]
    assert (found["ttlSecondsAfterFinished"], found["rayClusterSpec"]["rayVersion"]) == (5, "2.60.0")
    assert found["rayClusterSpec"]["workerGroupSpecs"], "what was not named is gone"
    assert merged({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (2, 2), (130, 130), (137, 137)])
def test_the_job_begins_again_unless_all_runs_have_their_row(tmp_path: Path, code: int, expected: int) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\nexit {code}\n")
    stand_in.chmod(0o755)
    found = ray_job(TEXT.replace("{code:", f"{{python: {stand_in}, code:"))
    entrypoint = found["spec"]["entrypoint"]
    assert subprocess.run(["sh", "-c", entrypoint], check=False).returncode == expected
    assert found["spec"]["backoffLimit"] == 3


def test_a_job_under_way_is_not_sent_twice_and_an_ended_one_makes_room() -> None:
    running = launcher(answers={"get rayjob": '{"status": {"jobDeploymentStatus": "Running"}}'})
    assert running.submit(job()) == "eureka-small: is under way (running)"
    assert not any("apply" in call for call in running.shell.calls)  # type: ignore[attr-defined]
    ended = launcher(answers={"get rayjob": '{"status": {"jobDeploymentStatus": "Failed"}}'})
    assert ended.submit(job()) == "eureka-small: submitted"
    calls = [call for call in ended.shell.calls if "get" not in call]  # type: ignore[attr-defined]
    assert [call.split()[2] for call in calls] == ["delete", "apply"]


def test_status_and_down_name_what_is_ours() -> None:
    rows = '{"items": [{"metadata": {"name": "eureka-small"}, "status": {"jobDeploymentStatus": "Running"}}]}'
    found = launcher(answers={"get rayjob -l": rows, "delete": 'rayjob.ray.io "eureka-small" deleted\n'})
    assert found.status() == ["eureka-small Running"]
    assert found.down() == "kuberay: 1 objects deleted; the claim store and its store stay"
    assert "-l app.kubernetes.io/part-of=eureka" in found.shell.calls[-1]  # type: ignore[attr-defined]


def test_failed_runs_are_not_retried_for_ever() -> None:
    from dataclasses import replace

    with pytest.raises(BadRequest, match="--retry-failed"):
        launcher().submit(replace(job(), retry_failed=True))


def test_a_store_in_a_bucket_needs_no_claim() -> None:
    text = TEXT.replace("/shared/eureka-store", "s3://runs/eureka").replace(", claim: store", "")
    found = ray_job(text)
    jsonschema.validate(found, SCHEMA)
    assert "s3://runs/eureka" in found["spec"]["entrypoint"]
    assert "persistentVolumeClaim" not in json.dumps(found)
    made = launcher(text, answers={"delete": "rayjob.ray.io deleted"})
    assert made.fetch(job()) == "report: `eureka report s3://runs/eureka --sweep small --out DIR` fetches it"
    assert made.down().endswith("s3://runs/eureka stays")
