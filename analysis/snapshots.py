"""Weights of runs at the steps that their specs ask for: plain arrays by parameter, nothing that executes.

    STORE/snapshots/RUN-STEP.npz         RUN's weights after STEP updates

A snapshot is a function of its run's spec, so writing it again, after a crash, changes nothing. It is there from the
moment the run passes the step; the ledger alone says whether the run is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.errors import StoreError
from analysis.files import aside, made, read_arrays


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one store."""

    folder: Path

    def save(self, run_id: str, step: int, weights: Mapping[str, np.ndarray]) -> None:
        """Keep a run's weights after `step` updates, one array a parameter.

        Raises:
            StoreError: the file could not be written.
        """
        made(self.folder)
        with aside(self.path(run_id, step)) as handle:
            np.savez(handle, **dict(weights))  # type: ignore[arg-type]  # its stub takes an array for `allow_pickle`

    def load(self, run_id: str, step: int) -> dict[str, np.ndarray]:
        """What `save` wrote.

        Raises:
            StoreError: it is not there, saying which are; or damaged.
        """
        path = self.path(run_id, step)
        if not path.exists():
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
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = [entry.name for entry in os.scandir(self.folder)]
        stems = [name.removesuffix(".npz").rpartition("-") for name in sorted(names) if name.endswith(".npz")]
        return [(run, int(step)) for run, _, step in stems if run and run[0] != "." and step.isdecimal()]

    def path(self, run_id: str, step: int) -> Path:
        """Where a snapshot lies."""
        return self.folder / f"{run_id}-{step}.npz"
