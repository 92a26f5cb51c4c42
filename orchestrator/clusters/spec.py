"""What a cluster file says: our own few keys, and beside them those of Ray, Slurm or Kubernetes.

    name: lab
    launcher: ray                                # local, ray, slurm, kubernetes
    workers: {count: 8, cpus: 1, gpus: 1, slots: 64}
    store: /shared/eureka-store                  # every machine sees it at this path
    environment: {python: /opt/eureka/bin/python}
    spot: {use: true, checkpoint_s: 15}
    budget: {hours: 12, cost: 60}
    prices: {head_per_hour: 0.1, worker_per_hour: 0.5}
    ray: {…}                                     # as `ray up` takes it, untouched

A worker is one process that trains one cohort; `count` is how many there are at most, all together.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.notices import PROVIDERS, VARIABLE
from workloads.fields import Frozen

Kind = Literal["local", "ray", "slurm", "kubernetes"]
AuthMode = Literal["token", "disabled"]


class Workers(Frozen):
    """Processes that train.

    Attributes:
        count: at most, all together.
        least: kept up while nothing waits, where the cluster scales itself.
        cpus: processors of each.
        gpus: accelerators of each; a fraction shares one.
        mps: workers that share an accelerator run their kernels side by side, not in turns, by NVIDIA's MPS.
        slots: runs that each trains together; measured, or the device's default, unless given.
    """

    count: int = Field(default=1, ge=1, le=100_000)
    least: int = Field(default=0, ge=0)
    cpus: float = Field(default=1.0, gt=0, le=1024)
    gpus: float = Field(default=0.0, ge=0, le=64)
    mps: bool = False
    slots: int | None = Field(default=None, ge=1)


class Environment(Frozen):
    """The one environment that every machine has.

    Attributes:
        python: interpreter that has eureka's dependencies.
        code: `ship` sends this machine's eureka along with each job, `installed` takes what the interpreter finds.
        setup: shell commands before each job (`module load cuda`).
        variables: environment variables of each job.
    """

    python: str = Field(default="python", min_length=1)
    code: Literal["ship", "installed"] = "ship"
    setup: list[str] = Field(default_factory=list)
    variables: dict[str, str] = Field(default_factory=dict)


class Spot(Frozen):
    """Machines that may be taken away.

    Attributes:
        use: the workers are such machines.
        notices: whose metadata server tells that a machine will go; that of Ray's provider unless given.
        checkpoint_s: how often unfinished runs are saved: what a reclaimed machine costs at most [s].
    """

    use: bool = False
    notices: Literal["aws", "gcp", "azure"] | None = None
    checkpoint_s: float = Field(default=15.0, ge=0.1, le=3600)


class Budget(Frozen):
    """When a sweep stops by itself; what is committed stays, and the same command goes on.

    Attributes:
        hours: of wall time [h].
        cost: at the prices below, all workers counted from the start [currency].
    """

    hours: float | None = Field(default=None, gt=0)
    cost: float | None = Field(default=None, gt=0)


class Prices(Frozen):
    """What an hour costs, as the user knows it; nothing here is looked up.

    Attributes:
        currency: of all numbers.
        head_per_hour: the machine that only coordinates [currency/h].
        worker_per_hour: one worker's share of its machine [currency/h].
    """

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    head_per_hour: float = Field(default=0.0, ge=0)
    worker_per_hour: float = Field(default=0.0, ge=0)


class Slurm(Frozen):
    """How a job asks Slurm.

    Attributes:
        mode: `array` is one task a worker, without Ray, sharing the ledger; `allocation` is one job with its own Ray.
        nodes: machines of an allocation.
        partition, account, qos: as the site names them.
        time_limit: of one job; at its end the job saves, leaves, and is queued again [HH:MM:SS or D-HH:MM:SS].
        notice_s: how long before the limit it saves [s].
        memory: of each node or array task, as `--mem` takes it.
        options: further options, one each (`--constraint=a100`).
    """

    mode: Literal["array", "allocation"] = "array"
    nodes: int = Field(default=1, ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_limit: str = Field(default="01:00:00", pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")
    notice_s: int = Field(default=60, ge=10, le=3600)
    memory: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$")
    options: list[str] = Field(default_factory=list)


class Kubernetes(Frozen):
    """How a job asks Kubernetes, by KubeRay's RayJob.

    Attributes:
        namespace: of everything that is made.
        image: with eureka's dependencies, and eureka itself unless the claim holds it.
        claim: a PersistentVolumeClaim that many machines can write to; the store lies on it.
        mount: where it is mounted.
        head_cpus, head_memory: of the coordinating pod.
        worker_memory: of each worker's pod.
        retries: how often a job whose head was lost begins again; it goes on from the ledger.
        ttl_s: how long a finished job is kept for its logs [s].
    """

    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    image: str = Field(min_length=1)
    claim: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    mount: str = Field(default="/shared", pattern=r"^/")
    head_cpus: float = Field(default=2.0, gt=0)
    head_memory: str = Field(default="4Gi", pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti)$")
    worker_memory: str = Field(default="4Gi", pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti)$")
    retries: int = Field(default=3, ge=0, le=100)
    ttl_s: int = Field(default=3600, ge=0)


class ClusterSpec(Frozen):
    """A whole cluster file.

    Attributes:
        name: of the cluster.
        launcher: who starts workers.
        auth: whether Ray's processes ask each other for a token; the same everywhere, or they refuse each other.
        ray: Ray's own configuration: a cluster file of `ray up`, or parts of a RayJob's spec on Kubernetes.
    """

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    launcher: Kind
    workers: Workers = Field(default_factory=Workers)
    store: str = Field(min_length=1)
    environment: Environment = Field(default_factory=Environment)
    auth: AuthMode = "token"
    spot: Spot = Field(default_factory=Spot)
    budget: Budget = Field(default_factory=Budget)
    prices: Prices = Field(default_factory=Prices)
    slurm: Slurm | None = None
    kubernetes: Kubernetes | None = None
    ray: dict[str, Any] | None = None

    @property
    def device(self) -> str:
        """What its workers train on."""
        return "cuda" if self.workers.gpus > 0 else "cpu"

    @property
    def notices(self) -> dict[str, str]:
        """The variable that has workers watch for the end of their machine; empty where nobody tells."""
        known = self.spot.notices or (self.provider if self.provider in PROVIDERS else None)
        return {VARIABLE: known} if self.spot.use and known else {}

    @property
    def provider(self) -> str:
        """Ray's word for who provides machines: local, aws, gcp, azure …; empty where Ray starts none."""
        return str(((self.ray or {}).get("provider") or {}).get("type", "")) if self.launcher == "ray" else ""
