"""Saved states that another version wrote: runs begin again rather than go on from what is not understood."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import numpy as np

from analysis.errors import StoreError
from analysis.files import read_arrays
from tests.chaos.scene import Fault, Scene, TooLateError

Arrays = dict[str, Any]


def rewritten(scene: Scene, rng: Random, *, change: Callable[[Arrays, Random], None]) -> list[str]:
    """Kill the command, rewrite every saved state, and let the next go on."""
    victim = scene.saved(rng)
    victim.end()
    found = sorted((scene.store / "checkpoints").glob("*.npz"))
    if not found:
        raise TooLateError
    for path in found:
        try:
            with read_arrays(path) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except StoreError:
            continue
        change(arrays, rng)
        with path.open("wb") as file:
            np.savez(file, **arrays)
    return []


def other_layout(arrays: Arrays, rng: Random) -> None:
    for name in arrays:
        if name.endswith("/layout"):
            arrays[name] = arrays[name] + rng.randint(1, 5)


def without_a_field(arrays: Arrays, rng: Random) -> None:
    lacking = rng.choice(sorted({name.partition("/")[2] for name in arrays} - {"step"}))
    for name in [name for name in arrays if name.endswith(f"/{lacking}")]:
        del arrays[name]


def without_steps(arrays: Arrays, rng: Random) -> None:
    for name in [name for name in arrays if name.endswith("/step")]:
        del arrays[name]


def other_columns(arrays: Arrays, rng: Random) -> None:
    for name in arrays:
        if name.endswith("/history"):
            arrays[name] = np.repeat(arrays[name], 2, axis=1)


def other_types(arrays: Arrays, rng: Random) -> None:
    for name in arrays:
        if not name.endswith(("/step", "/layout", "/history")):
            arrays[name] = np.zeros((2, 2), dtype="U3")


def _fault(kind: str, change: Callable[[Arrays, Random], None]) -> Fault:
    strike = partial(rewritten, change=change)
    return Fault("checkpoint of an older version", kind, strike, shows=("carries no checksum", "will start afresh"))


FAULTS = (
    _fault("another layout", other_layout),
    _fault("a field lacks", without_a_field),
    _fault("no step counter", without_steps),
    _fault("other metrics", other_columns),
    _fault("text for numbers", other_types),
)
