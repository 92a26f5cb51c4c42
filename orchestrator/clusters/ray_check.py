"""Ray's own opinion of Ray's own part of a cluster file, offline; the only file that touches its private validation.

Three tiers, each with what the one before lets through: our keys (load.py), the JSON schema in Ray's wheel
(whose faults are placed in our file), Ray's defaults and consistency rules. Files that Ray would only miss
in the middle of a launch are looked for, too.
"""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ray.autoscaler
from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError, relevance
from ray.autoscaler._private.util import prepare_config, validate_config

from orchestrator.errors import BadRequest, first_line, quoted
from orchestrator.yaml_source import Place, Source
from workloads.errors import near_miss

OWN_MACHINES = "local"
BUILT_IN = ("aws", "azure", "gcp", "local", "aliyun", "vsphere", "external")


def check_ray(config: dict[str, Any], *, source: Source) -> list[str]:
    """What was checked, in words, one entry a tier.

    Args:
        config: Ray's part, `cluster_name` filled in.
        source: of the file in which it stands below `ray`.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    _check_schema(config, source=source)
    _check_consistency(config, source=source)
    looked = list(_check_files(config, source=source))
    files = f"{len(looked)} files that it names are there" if looked else "it names no file"
    return [f"Ray's schema (Ray {ray.__version__})", "Ray's defaults and consistency rules", files]


def _check_schema(config: dict[str, Any], *, source: Source) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    faults = sorted(Draft7Validator(schema).iter_errors(config), key=relevance)
    if faults:
        raise _schema_fault(faults[-1], source=source)


def _schema_fault(fault: ValidationError, *, source: Source) -> BadRequest:
    place: Place = ("ray", *(str(part) for part in fault.absolute_path))
    name = ".".join(place)
    if fault.validator == "additionalProperties":
        keys = list(fault.schema.get("properties", {}))
        unknown = next(key for key in fault.instance if key not in keys)
        hint = near_miss(unknown, keys)
        way_out = f". {hint}" if hint else ""
        return source.fault((*place, unknown), f"{name}.{unknown}: got a key that Ray does not know here{way_out}")
    if fault.validator == "required":
        missing = next(key for key in fault.validator_value if key not in fault.instance)
        return source.fault(place, f"{name}.{missing}: got nothing; expected a value; Ray has no default")
    expected = {"type": "of type", "enum": "one of", "minimum": "at least"}.get(str(fault.validator), "what Ray takes:")
    return source.expected(place, got=fault.instance, expected=f"{expected} {fault.validator_value}")


def _check_consistency(config: dict[str, Any], *, source: Source) -> None:
    """Ray reports some faults by an exception, some through its logger and an exit; all become one line."""
    provider = config["provider"]["type"]
    if provider not in BUILT_IN:
        place, hint = ("ray", "provider", "type"), near_miss(provider, BUILT_IN)
        raise source.expected(place, got=provider, expected=f"one of {', '.join(BUILT_IN)}", hint=hint)
    if provider == OWN_MACHINES:
        _check_own_machines(config, source=source)
    said = io.StringIO()
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with redirect_stdout(said), redirect_stderr(said):
            validate_config(prepare_config(copy.deepcopy(config)))
    except SystemExit:
        lines = [line.strip() for line in said.getvalue().splitlines() if line.strip()]
        raise source.fault(("ray",), f"ray: {lines[-1] if lines else 'refused without a word'}") from None
    except Exception as error:  # Ray raises whatever its code comes across
        first = first_line(error)
        raise source.fault(_culprit(first), f"ray: {first}") from None
    finally:
        logging.disable(before)


def _culprit(message: str) -> Place:
    """Where a message of Ray's points to, as far as its words say."""
    for key in ("head_node_type", "max_workers", "min_workers", "docker", "available_node_types"):
        if key in message:
            return ("ray", "max_workers" if key == "min_workers" else key)
    return ("ray",)


def _check_own_machines(config: dict[str, Any], *, source: Source) -> None:
    provider = config["provider"]
    for key in ("head_ip", "worker_ips"):
        if not provider.get(key):
            way_out = "address of the machine that coordinates" if key == "head_ip" else "list of the others' addresses"
            raise source.fault(("ray", "provider"), f"ray.provider.{key}: got nothing; expected the {way_out}")
    if provider["head_ip"] in provider["worker_ips"]:
        place = ("ray", "provider", "worker_ips")
        raise source.expected(place, got=provider["head_ip"], expected="machines other than head_ip, which trains, too")
    for key in ("available_node_types", "head_node_type"):
        if key in config:
            raise source.fault(("ray", key), f"ray.{key}: got a key that Ray forbids for your own machines; remove it")
    lowest = config.get("min_workers", len(provider["worker_ips"]))
    if not isinstance(lowest, int) or lowest > config.get("max_workers", len(provider["worker_ips"])):
        most = ("ray", "max_workers")
        raise source.expected(most, got=config.get("max_workers"), expected=f"at least min_workers, {lowest}")


def _check_files(config: dict[str, Any], *, source: Source) -> Iterator[Path]:
    """Files of this machine that a launch reads; gives those that are there."""
    for key in ("ssh_private_key", "ssh_public_key"):
        if named := (config.get("auth") or {}).get(key):
            yield _there(named, place=("ray", "auth", key), source=source)
    for remote, named in (config.get("file_mounts") or {}).items():
        yield _there(named, place=("ray", "file_mounts", remote), source=source)


def _there(named: Any, *, place: Place, source: Source) -> Path:
    path = Path(str(named)).expanduser()
    if not path.exists():
        way_out = "`ssh-keygen -t ed25519` makes a key" if "key" in place[-1] else "Ray would miss it mid-launch"
        raise source.fault(place, f"{'.'.join(place)}: got {quoted(named)}; expected a file on this machine. {way_out}")
    return path
