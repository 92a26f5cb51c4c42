"""Is everything there that a sweep needs? Versions, the machine, and the store's own check."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from orchestrator.plan import usable_cores

PACKAGES = (
    "torch",
    "numpy",
    "pydantic",
    "omegaconf",
    "ray",
    "polars",
    "pyarrow",
    "scipy",
    "matplotlib",
    "click",
    "rich",
)


def examine(store: str) -> dict[str, Any]:
    """Versions, and every problem found [one line each].

    Args:
        store: where a store may be; none is no problem.
    """
    from analysis.store import Store, local_path
    from analysis.upkeep import check
    from workloads.code_files import compiler

    versions = {"python": platform.python_version(), "processors": str(usable_cores())}
    versions |= {name: _version(name) for name in PACKAGES}
    versions["C++ compiler"] = compiler() or "none (compute.program can only be eager)"
    problems = [f"{name} is not installed" for name in PACKAGES if versions[name] == "missing"]
    there = local_path(store).exists()
    if there:
        problems += check(Store(store))
    return {"versions": versions, "store": store if there else f"{store} (none yet)", "problems": problems}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
