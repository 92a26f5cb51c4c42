"""Eureka's own code, put where every machine of a cluster sees it: below the store, in the sweep's folder.

Each state of the code has a folder of its own, so what runs is never changed under it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("analysis", "orchestrator", "workloads")


def code_files() -> dict[str, Path]:
    """Eureka as it is on this machine, to be sent along: path there -> file here; data included, caches not."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
                found["/".join(parts)] = path
    return found


def code_digest(files: dict[str, Path]) -> str:
    """Names one state of the code [12 hex digits]."""
    digest = hashlib.blake2b(digest_size=6)
    for name, path in files.items():
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def ship_code(folder: Path, *, prefix: str = "code-") -> Path:
    """Copy the code into a folder, unless this state of it is there.

    Returns:
        What goes first on Python's path.
    """
    files = code_files()
    place = folder / f"{prefix}{code_digest(files)}"
    if place.exists():
        return place
    aside = folder / f".{place.name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    for name, path in files.items():
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, aside / name)
    aside.rename(place)
    return place
