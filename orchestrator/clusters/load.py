"""Reads a cluster file; every fault of our own keys is one line with the file's line.

Interpolations are not resolved: `${HOME}` in a shell command of Ray's part is the shell's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from analysis.places.place import is_remote
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.errors import BadRequest, quoted
from orchestrator.yaml_source import Place, Source, parse, read_text
from workloads.errors import near_miss

FOLDER = Path(__file__).parents[2] / "clusters"
OWN_PART = {"slurm": "slurm", "kubernetes": "kubernetes", "ray": "ray"}  # what a launcher cannot do without
RAYS_KEYS = (
    "auth", "available_node_types", "cluster_name", "docker", "file_mounts", "head_node_type", "head_setup_commands",
    "head_start_ray_commands", "idle_timeout_minutes", "initialization_commands", "max_workers", "min_workers",
    "provider", "rsync_exclude", "setup_commands", "upscaling_speed", "worker_setup_commands",
    "worker_start_ray_commands",
)  # fmt: skip
PATTERNS = {
    "name": "up to 40 of a-z, 0-9 and -, a letter or digit at both ends",
    "time_limit": "HH:MM:SS or D-HH:MM:SS, in quotes",
    "currency": "three capital letters, such as USD",
    "memory": "a size such as 16G",
    "head_memory": "a size such as 4Gi",
    "worker_memory": "a size such as 4Gi",
    "mount": "an absolute path",
}


def find_cluster(name: str) -> Path:
    """The file of a cluster: a path, or the name of a shipped one.

    Raises:
        BadRequest: it is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = {one.stem: one for one in sorted(FOLDER.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    hint = near_miss(name, shipped)
    way_out = f". {hint}" if hint else ""
    listed = ", ".join(shipped) or "none"
    raise BadRequest(f"CLUSTER: got {quoted(name)}; expected a YAML file, or a shipped cluster: {listed}{way_out}")


def load_cluster(name: str | Path) -> tuple[ClusterSpec, Source]:
    """A cluster by path or shipped name, and where each of its keys was written.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    path = find_cluster(str(name))
    data, source = parse(read_text(path), file=str(path))
    try:
        spec = ClusterSpec.model_validate(data)
    except ValidationError as error:
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        raise _fault(faults[0], source=source) from None
    _check_parts(spec, source=source)
    _check_store(spec, source=source)
    _check_workers(spec, source=source)
    return spec, source


def _check_parts(spec: ClusterSpec, *, source: Source) -> None:
    """The part that the launcher needs is there, and none that it would leave unread."""
    needed = OWN_PART.get(spec.launcher)
    if needed and getattr(spec, needed) is None:
        raise source.fault(("launcher",), f"{needed}: got nothing; expected a part of this name for {spec.launcher}")
    read = {"ray": ("ray",), "slurm": ("slurm",), "kubernetes": ("kubernetes", "ray"), "local": ()}[spec.launcher]
    for part in ("slurm", "kubernetes", "ray"):
        if getattr(spec, part) is not None and part not in read:
            raise source.fault((part,), f"{part}: got a part that launcher '{spec.launcher}' does not read; remove it")
    for key in ("provider", "auth"):
        got = (spec.ray or {}).get(key)
        if got is not None and not isinstance(got, dict):
            raise source.expected(("ray", key), got=got, expected="a mapping of keys to values")
    if spec.launcher == "ray" and not spec.provider:
        way_out = "type: local is your own machines; aws, gcp and azure rent some"
        raise source.fault(("ray",), f"ray.provider.type: got nothing; expected a provider that Ray knows. {way_out}")


def _check_store(spec: ClusterSpec, *, source: Source) -> None:
    if is_remote(spec.store):
        _check_bucket(spec, source=source)
        return
    if spec.launcher != "local" and not spec.store.removeprefix("file://").startswith("/"):
        hint = "Every machine must see it at the same path"
        raise source.expected(("store",), got=spec.store, expected="an absolute path", hint=hint)
    if spec.kubernetes and not (spec.kubernetes.claim or (spec.ray or {}).get("rayClusterSpec")):
        hint = "The store has to outlive the pods; a bucket does, too"
        raise source.expected(
            ("kubernetes",), got=None, expected="a PersistentVolumeClaim", hint=hint, key="kubernetes.claim"
        )
    if spec.kubernetes and spec.kubernetes.claim and not spec.store.startswith(f"{spec.kubernetes.mount}/"):
        hint = "The claim is mounted there, and nothing else outlives the pods"
        raise source.expected(("store",), got=spec.store, expected=f"a path below {spec.kubernetes.mount}", hint=hint)


def _check_bucket(spec: ClusterSpec, *, source: Source) -> None:
    if spec.launcher in ("ray", "slurm"):  # what starts a job there keeps its log and lock beside the sweep
        hint = "Mount it: NFS, EFS, Filestore or Azure Files; launchers local and kubernetes take a bucket"
        raise source.expected(("store",), got=spec.store, expected=f"a path, with launcher {spec.launcher}", hint=hint)
    if spec.kubernetes and spec.kubernetes.claim:
        hint = "A store in a bucket needs none"
        raise source.expected(
            ("kubernetes", "claim"), got=spec.kubernetes.claim, expected="no claim", hint=hint, key="kubernetes.claim"
        )


def _check_workers(spec: ClusterSpec, *, source: Source) -> None:
    workers = spec.workers
    if workers.least > workers.count:
        raise source.expected(
            ("workers", "least"), got=workers.least, expected=f"at most workers.count, {workers.count}"
        )
    if workers.gpus > 1 and workers.gpus != int(workers.gpus):
        raise source.expected(("workers", "gpus"), got=workers.gpus, expected="a whole number, or a fraction of one")
    if workers.mps and not (spec.launcher == "ray" and 0 < workers.gpus < 1):
        hint = "A worker alone on its accelerator has all of it"
        expected = "false where no worker shares an accelerator (launcher ray, workers.gpus below 1)"
        raise source.expected(("workers", "mps"), got="true", expected=expected, hint=hint)
    if spec.slurm and workers.gpus != int(workers.gpus):
        raise source.expected(
            ("workers", "gpus"), got=workers.gpus, expected="a whole number; Slurm gives whole accelerators"
        )
    if spec.slurm and spec.slurm.mode == "allocation" and workers.count % spec.slurm.nodes:
        expected = f"as many workers on each of {spec.slurm.nodes} nodes"
        raise source.expected(("workers", "count"), got=workers.count, expected=expected)
    if spec.budget.cost and not (spec.prices.worker_per_hour or spec.prices.head_per_hour):
        hint = "Give prices.worker_per_hour, as your provider's price list has it"
        raise source.expected(("budget", "cost"), got=spec.budget.cost, expected="prices to count it with", hint=hint)
    for key in spec.environment.variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", key):
            raise source.expected(
                ("environment", "variables", key), got=key, expected="a variable's name", key="variable"
            )


def _fault(fault: Any, *, source: Source) -> BadRequest:
    """One of pydantic's in the words of the house."""
    place: Place = tuple(str(part) for part in fault["loc"])
    name, kind = ".".join(place), fault["type"]
    if kind == "extra_forbidden":
        keys = list(_owner(place).model_fields)
        is_rays = len(place) == 1 and place[0] in RAYS_KEYS
        hint = "It is Ray's own, and goes under ray:" if is_rays else near_miss(place[-1], keys)
        way_out = f". {hint}" if hint else ""
        return source.fault(place, f"{name}: got an unknown key; expected one of {', '.join(keys)}{way_out}")
    if kind == "missing":
        return source.fault(place, f"{name}: got nothing; expected a value; it has no default")
    if kind == "literal_error":
        listed = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return source.expected(
            place, got=fault["input"], expected=f"one of {listed}", hint=near_miss(fault["input"], listed.split(", "))
        )
    if kind == "string_pattern_mismatch":
        return source.expected(
            place, got=fault["input"], expected=PATTERNS.get(place[-1], f"{fault['ctx']['pattern']}")
        )
    if kind == "model_type":
        return source.expected(place, got=fault["input"], expected="a mapping of keys to values")
    expected = fault["msg"].removeprefix("Input should be ").removeprefix("String should ")
    hint = f'Write it in quotes: "{fault["input"]}"' if kind == "string_type" and _is_plain(fault["input"]) else ""
    return source.expected(place, got=fault["input"], expected=expected, hint=hint)


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _owner(place: Place) -> type[BaseModel]:
    """The model in which an unknown key was written."""
    owner: type[BaseModel] = ClusterSpec
    for part in place[:-1]:
        annotation = owner.model_fields[part].annotation
        inner = [
            one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        if inner:
            owner = inner[0]
    return owner
