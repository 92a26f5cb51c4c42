"""Kubernetes, by KubeRay: a sweep is a RayJob with a Ray cluster of its own, which goes when the sweep is done.

The head's loss ends the job's command, and KubeRay begins it again with a new cluster, `retries` times: the
command is the same as ever, so it goes on from the ledger. What the file says below `ray:` goes over the
rendered `spec`, key by key.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from orchestrator.clusters.job import Job, sweep_command
from orchestrator.clusters.rendered import Rendered
from orchestrator.clusters.shell import Shell
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.errors import BadRequest, OrchestratorError

SWEEP_AT = "/etc/eureka"
LABEL = "app.kubernetes.io/part-of"
DONE_WITH_FAILED_RUNS = 1  # rows say why; to begin again would not help


class OverKubernetes:
    """A Kubernetes cluster with the KubeRay operator.

    Args:
        spec: its file.
        shell: what runs kubectl.
    """

    def __init__(self, spec: ClusterSpec, *, shell: Shell):
        assert spec.kubernetes is not None
        self.spec, self.k8s, self.shell = spec, spec.kubernetes, shell

    def rendered(self, job: Job | None = None) -> Rendered:
        """The objects, and kubectl's commands."""
        job = job or Job(sweep="sweep", text="# the sweep's file\n")
        kubectl = f"kubectl --namespace={self.k8s.namespace}"
        return Rendered(
            files={"job.yaml": self._objects(job, shows=False)},
            commands=(
                f"{kubectl} apply --dry-run=server -f FILES/job.yaml   # asks the cluster itself",
                f"{kubectl} apply -f FILES/job.yaml",
                f"{kubectl} logs --follow job/{job.name}",
                f"{kubectl} delete rayjob,configmap,secret -l {LABEL}=eureka",
            ),
            checks=("our keys", "the objects are YAML that reads back the same (no cluster was asked)"),
        )

    def up(self) -> str:
        """Nothing to bring up, but KubeRay has to be there."""
        self._kubectl("get", "crd", "rayjobs.ray.io", "-o", "name")
        return f"{self.spec.name}: KubeRay is there; each sweep brings its own pods"

    def submit(self, job: Job) -> str:
        """Apply the objects, unless a job of that name is under way; one that has ended makes room."""
        if job.retry_failed:
            raise BadRequest(
                "--retry-failed: a job that begins again would retry each time; retry with --launcher inline"
            )
        state = self._state(job)
        if state and state not in ("Complete", "Failed"):
            return f"{job.name}: is under way ({state.lower()})"
        if state:
            self._kubectl("delete", "rayjob", job.name, "--ignore-not-found")
        self._kubectl("apply", "-f", "-", stdin=self._objects(job))
        return f"{job.name}: submitted"

    def status(self) -> list[str]:
        """A line a job."""
        rows = json.loads(self._kubectl("get", "rayjob", "-l", f"{LABEL}=eureka", "-o", "json"))["items"]
        lines = []
        for row in rows:
            status = row.get("status", {})
            parts = (row["metadata"]["name"], status.get("jobDeploymentStatus", "New"), status.get("jobStatus", ""))
            lines.append(" ".join(part for part in parts if part))
        return lines or [f"{self.spec.name}: no job"]

    def is_there(self, job: Job) -> bool:
        """Its job is under way."""
        return self._state(job) not in ("", "Complete", "Failed")

    def logs(self, job: Job | None, *, follow: bool) -> None:
        """What the submitting pod shows of the job."""
        if job is None:
            raise OrchestratorError(
                f"{self.spec.name}: logs of which sweep? `eureka status {self.spec.name}` lists them"
            )
        self._kubectl("logs", *(["--follow"] if follow else []), f"job/{job.name}", timeout_s=1e7, shows=True)

    def fetch(self, job: Job) -> str:
        """It lies on the claim, which this machine does not see, or in the bucket, which it may see."""
        if not self.k8s.claim:
            return f"report: `eureka report {self.spec.store} --sweep {job.sweep} --out DIR` fetches it"
        return f"report: on the claim {self.k8s.claim}, in {self.spec.store}/sweeps/{job.sweep}/report"

    def code(self, job: Job) -> int:
        """Done, or not; the ledger on the claim knows of failed runs."""
        return 0 if self._state(job) == "Complete" else 130

    def down(self) -> str:
        """Delete what is ours; the claim stays."""
        said = self._kubectl("delete", "rayjob,configmap,secret", "-l", f"{LABEL}=eureka", "--ignore-not-found")
        n = sum("deleted" in line for line in said.splitlines())
        stays = f"the claim {self.k8s.claim} and its store stay" if self.k8s.claim else f"{self.spec.store} stays"
        return f"{self.spec.name}: {n} objects deleted; {stays}"

    # -- objects -----------------------------------------------------------------------------

    def _objects(self, job: Job, *, shows: bool = True) -> str:
        """All of them; a dry run does not show the values of variables."""
        objects = [self._sweep(job), *self._secret(job, shows=shows), self.ray_job(job)]
        return yaml.safe_dump_all(objects, sort_keys=False, width=110, allow_unicode=True)

    def _secret(self, job: Job, *, shows: bool) -> list[dict[str, Any]]:
        """The file's variables, where whoever may look at pods alone does not see them; none where it has none."""
        given = self.spec.environment.variables
        values = {key: value if shows else "…" for key, value in given.items()}
        head = {"apiVersion": "v1", "kind": "Secret", "metadata": self._metadata(job)}
        return [{**head, "type": "Opaque", "stringData": values}] if given else []

    def _metadata(self, job: Job) -> dict[str, Any]:
        return {"name": job.name, "namespace": self.k8s.namespace, "labels": {LABEL: "eureka"}}

    def _sweep(self, job: Job) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self._metadata(job),
            "data": {"sweep.yaml": job.text},
        }

    def ray_job(self, job: Job) -> dict[str, Any]:
        """The RayJob, as plain data."""
        spec = {
            "entrypoint": self._entrypoint(job),
            "submissionMode": "K8sJobMode",
            "backoffLimit": self.k8s.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": self.k8s.ttl_s,
            "metadata": {"sweep": job.sweep},
            "rayClusterSpec": {
                "authOptions": {"mode": self.spec.auth},  # the operator makes the token and hands it to every pod
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {"idleTimeoutSeconds": 120, "upscalingMode": "Default"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                    "template": self._pod(job, "ray-head", cpus=self.k8s.head_cpus, memory=self.k8s.head_memory),
                },
                "workerGroupSpecs": [self._workers(job)],
            },
        }
        meta = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": self._metadata(job)}
        return {**meta, "spec": merged(spec, self.spec.ray or {})}

    def _entrypoint(self, job: Job) -> str:
        """The command; failed runs are rows, and no reason to begin again."""
        command = sweep_command(self.spec, job, file=f"{SWEEP_AT}/sweep.yaml", launcher="ray")
        script = "; ".join([*self.spec.environment.setup, command])
        return f"bash -c {shlex.quote(f'{script}; code=$?; [ $code = {DONE_WITH_FAILED_RUNS} ] && exit 0; exit $code')}"

    def _workers(self, job: Job) -> dict[str, Any]:
        workers = self.spec.workers
        gpus = {"num-gpus": f"{workers.gpus:g}"} if workers.gpus else {}
        return {
            "groupName": "workers",
            "replicas": workers.least,
            "minReplicas": workers.least,
            "maxReplicas": workers.count,
            "rayStartParams": {"num-cpus": f"{max(1, round(workers.cpus))}", **gpus},
            "template": self._pod(
                job, "ray-worker", cpus=workers.cpus, memory=self.k8s.worker_memory, gpus=workers.gpus
            ),
        }

    def _pod(self, job: Job, name: str, *, cpus: float, memory: str, gpus: float = 0.0) -> dict[str, Any]:
        room: dict[str, Any] = {"cpu": f"{cpus:g}", "memory": memory}
        if gpus:
            room["nvidia.com/gpu"] = f"{max(1, round(gpus))}"
        container: dict[str, Any] = {
            "name": name,
            "image": self.k8s.image,
            "env": [{"name": key, "value": value} for key, value in self._variables().items()],
            **({"envFrom": [{"secretRef": {"name": job.name}}]} if self.spec.environment.variables else {}),
            "resources": {"requests": room, "limits": room},
            "volumeMounts": [{"name": "sweep", "mountPath": SWEEP_AT}],
        }
        volumes: list[dict[str, Any]] = [{"name": "sweep", "configMap": {"name": job.name}}]
        if self.k8s.claim:
            container["volumeMounts"].append({"name": "store", "mountPath": self.k8s.mount})
            volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": self.k8s.claim}})
        pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
        if gpus and self.spec.spot.use:
            pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        return {"spec": pod}

    def _variables(self) -> dict[str, str]:
        sets = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
        return {**sets, **self.spec.notices}

    # -- talking to it -----------------------------------------------------------------------

    def _state(self, job: Job) -> str:
        """Where its job stands; empty where there is none."""
        said = self._kubectl("get", "rayjob", job.name, "--ignore-not-found", "-o", "json")
        if not said.strip():
            return ""
        return str(json.loads(said).get("status", {}).get("jobDeploymentStatus", "New"))

    def _kubectl(self, *words: str, stdin: str = "", timeout_s: float = 120.0, shows: bool = False) -> str:
        command = ["kubectl", f"--namespace={self.k8s.namespace}", *words]
        return self.shell.run(command, stdin=stdin, timeout_s=timeout_s, shows=shows)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings key by key; everything else, lists too, is replaced."""
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out
