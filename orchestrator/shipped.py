"""Finds the sweep that a user means: a file, or one of the questions that come with the package."""

from __future__ import annotations

import textwrap
from pathlib import Path

from orchestrator.errors import BadRequest, quoted
from workloads.errors import near_miss

FOLDER = Path(__file__).parent / "sweeps"


def find_sweep(name: str) -> Path:
    """The file of a sweep; a file in the way wins over a shipped name, a folder does not.

    Raises:
        BadRequest: it is neither a path nor a shipped name.
    """
    shipped = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    path = Path(name)
    if _is_file(path):
        return path
    if name in shipped:
        return shipped[name]
    if path.suffix in (".yaml", ".yml") or len(path.parts) != 1 or _is_folder(path):
        return path  # whoever opens it says what is wrong with it
    if "=" in name:
        raise BadRequest(f"SWEEP: got the override {quoted(name)}; expected a file or a shipped sweep first")
    hint = near_miss(name, shipped)
    way_out = f". {hint}" if hint else ""
    listed = textwrap.shorten(", ".join(shipped) or "none", 500, placeholder=" …")
    raise BadRequest(f"SWEEP: got {quoted(name)}; expected a file, or a shipped sweep: {listed}{way_out}")


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
