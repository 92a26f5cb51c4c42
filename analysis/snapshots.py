"""Weights of runs at the steps that their specs ask for: plain arrays by parameter, nothing that executes.

    STORE/snapshots/RUN-STEP.npz         RUN's weights after STEP updates

A snapshot is a function of its run's spec, so writing it again, after a crash, changes nothing. It is there from the
moment the run passes the step; the ledger alone says whether the run is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.errors import StoreError
from analysis.files import files_in, made, plainly, read_arrays, write_arrays
from analysis.places.object_path import File
from analysis.records import named


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one store."""

    folder: File

    def save(self, run_id: str, step: int, weights: Mapping[str, np.ndarray]) -> None:
        """Keep a run's weights after `step` updates, one array a parameter.

        Raises:
            StoreError: the file could not be written.
        """
        made(self.folder)
        write_arrays(self.path(run_id, step), weights)

    def load(self, run_id: str, step: int) -> dict[str, np.ndarray]:
        """What `save` wrote.

        Raises:
            StoreError: it is not there, saying which are; or damaged.
        """
        path = self.path(run_id, step)
        try:
            is_there = path.exists()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({plainly(error)})") from None
        if not is_there:
            there = ", ".join(map(str, self.steps(run_id))) or "none"
            raise StoreError(
                f"{self.folder.parent}: no snapshot of run {run_id} after {step} updates; there are: {there}."
                " Its spec asks for them in log.snapshots"
            )
        with read_arrays(path) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def steps(self, run_id: str) -> list[int]:
        """After how many updates a run's weights were kept, ascending."""
        return sorted(step for run, step in self.there() if run == run_id)

    def there(self) -> list[tuple[str, int]]:
        """Every snapshot as (run_id, updates made)."""
        stems = [path.stem.rpartition("-") for path in files_in(self.folder, ".npz")]
        return [(run, int(step)) for run, _, step in stems if run and step.isdecimal()]

    def path(self, run_id: str, step: int) -> File:
        """Where a snapshot lies."""
        return self.folder / f"{named(run_id, what='run_id')}-{step}.npz"
