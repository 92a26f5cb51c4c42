"""States of unfinished cohorts: one file a cohort, the runs' arrays side by side.

    STORE/checkpoints/COHORT.npz         RUN/NAME: an array of RUN's state, its step among them

A state only saves work: one that is damaged, or gone, costs training its run again from the start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

from analysis.errors import StoreError
from analysis.files import files_in, read_arrays, remove, stamp_of, write_arrays
from analysis.places.object_path import File
from analysis.places.place import Stamp

Saved: TypeAlias = tuple[Stamp, dict[str, int]]  # a checkpoint's stamp, and how far each of its runs is [steps]


class Checkpoints:
    """The saved states of one store.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: File):
        self.folder = folder
        self._read: dict[str, Saved] = {}  # as `by_cohort` gave it last

    def save(self, cohort: str, states: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Replace a cohort's checkpoint with the states of its running members, by run_id."""
        arrays: dict[str, Any] = {
            f"{run}/{name}": array for run, state in states.items() for name, array in state.items()
        }
        write_arrays(self._path(cohort), arrays)

    def by_cohort(self) -> dict[str, Saved]:
        """Of each cohort that has saved states, the file's stamp and its runs' steps; reads only what is new."""
        known, there = self._read, dict[str, Saved]()
        for path in files_in(self.folder, ".npz"):
            with contextlib.suppress(StoreError):  # damaged: `doctor` tells
                if (stamp := stamp_of(path)) is not None:  # else dropped just now
                    found = known.get(path.stem)
                    there[path.stem] = found if found and found[0] == stamp else (stamp, _steps_in(path))
        self._read = there
        return there

    def furthest(self) -> dict[str, tuple[File, int]]:
        """Where the furthest saved state of each unfinished run lies, and its step; reads only what is new."""
        return {run: (self._path(cohort), step) for run, (cohort, step) in furthest_in(self.by_cohort()).items()}

    def load(self, run_id: str, path: File) -> dict[str, np.ndarray] | None:
        """A run's state from a checkpoint; None when the file is gone or damaged."""
        prefix = f"{run_id}/"
        with contextlib.suppress(StoreError), read_arrays(path) as arrays:
            return {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        return None

    def drop(self, cohort: str) -> None:
        """Forget a cohort's checkpoint."""
        remove(self._path(cohort))

    def drop_spent(self, ended: Collection[str]) -> None:
        """Forget checkpoints all of whose runs have ended."""
        done = set(ended)
        for path in files_in(self.folder, ".npz"):
            with contextlib.suppress(StoreError), read_arrays(path) as arrays:
                if {name.partition("/")[0] for name in arrays.files} <= done:
                    remove(path)

    def _path(self, cohort: str) -> File:
        return self.folder / f"{cohort}.npz"


def furthest_in(states: Mapping[str, Saved]) -> dict[str, tuple[str, int]]:
    """Of saved states by cohort, each run's furthest: the cohort that saved it, and its step."""
    best: dict[str, tuple[str, int]] = {}
    for cohort, (_, steps) in states.items():
        for run, step in steps.items():
            if run not in best or best[run][1] < step:
                best[run] = (cohort, step)
    return best


def _steps_in(path: File) -> dict[str, int]:
    """How far each run of a checkpoint has come [steps]."""
    with read_arrays(path) as arrays:
        return {run: int(arrays[f"{run}/step"]) for run in {name.partition("/")[0] for name in arrays.files}}
