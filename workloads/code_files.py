"""Where this machine keeps the code of a shape, and under which name; said without torch in the process."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.source import source_digest

if TYPE_CHECKING:
    from workloads.spec import RunSpec


def cache_folder() -> Path:
    """`$EUREKA_CACHE/programs`, or a folder of the user's own cache."""
    given = os.environ.get("EUREKA_CACHE")
    root = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eureka"
    return root / "programs"


def code_file(spec: RunSpec) -> Path:
    """The file with the code of the run's shape, whether it is there or not."""
    return cache_folder() / f"{code_key(spec)}.pt2"


def code_key(spec: RunSpec) -> str:
    """Names everything that the code depends on: the shape, this package's source, torch, and the processor."""
    content = hashlib.blake2b(digest_size=12)
    vectors = os.environ.get("ATEN_CPU_CAPABILITY", "")  # what torch is told to use of them
    for part in (spec.shape_key, source_digest(), metadata.version("torch"), vectors, _processor()):
        content.update(part.encode() + b"\n")
    content.update(spec.model.source().encode() if hasattr(spec.model, "source") else b"")
    return content.hexdigest()


def compiler() -> str | None:
    """The C++ compiler that Inductor would call."""
    return shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    wanted = [line for line in lines if line.startswith(("model name", "flags"))]
    return "\n".join([platform.machine(), *wanted[:2]])
