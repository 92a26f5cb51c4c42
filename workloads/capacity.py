"""How many lanes a GPU should train at once: a table measured for each shape, kept in a file.

Memory grows linearly with lanes, so two small probes give a line and a third checks it. Speed is measured from few
lanes upwards, twice as many each time, until more lanes gain little or the line says that they do not fit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from workloads.capture import release
from workloads.code_files import cache_folder
from workloads.source import source_digest

if TYPE_CHECKING:
    from workloads.spec import RunSpec

PROBES = (2, 8, 16)  # lanes: two fit the line, the third checks it
LINE_IS_GOOD_WITHIN = 0.1
MOST_LANES = 512
WORTH_IT = 1.1  # twice the lanes must give at least this times the run-steps
KEPT_FREE = 0.1  # of the device's memory
MEASURED_TICKS = 64


@dataclass(frozen=True)
class Row:
    """One width: its speed [run-steps/s], and the most memory that it took [bytes]."""

    width: int
    run_steps_per_s: float
    bytes: int


Measure = Callable[[int], Row]  # a width, tried out


def known_table(spec: RunSpec, *, device: torch.device) -> list[Row]:
    """The table on file for a shape; empty where it was not measured yet, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [Row(**row) for row in json.loads(_path(spec, device).read_text())]
    return []


def measured_table(spec: RunSpec, *, device: torch.device) -> list[Row]:
    """The table of a shape, measured now and kept on file."""
    path, total = _path(spec, device), torch.cuda.get_device_properties(device).total_memory
    rows = capacity_table(lambda width: tried(spec, width=width, device=device), total_bytes=total)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps([asdict(row) for row in rows]))
    draft.replace(path)
    return rows


def _path(spec: RunSpec, device: torch.device) -> Path:
    return cache_folder().parent / "capacity" / f"{_key(spec, device)}.json"


def capacity_table(measure: Measure, *, total_bytes: int) -> list[Row]:
    """Widths tried out, up to where more gain little or do not fit; a single row where two lanes do not fit."""
    rows: list[Row] = []
    for width in (1, *PROBES):
        try:
            rows.append(measure(width))
        except torch.OutOfMemoryError:
            return rows or [Row(1, 0.0, total_bytes)]
    fits = _largest_fit(rows[1:], total_bytes=total_bytes)
    while (width := 2 * rows[-1].width) <= min(fits, MOST_LANES):
        try:
            rows.append(measure(width))
        except torch.OutOfMemoryError:
            break
        if rows[-1].run_steps_per_s < WORTH_IT * rows[-2].run_steps_per_s:
            break
    return rows


def _largest_fit(probes: list[Row], *, total_bytes: int) -> int:
    """Lanes that the line through the first two probes lets in; the steeper line where the third contradicts it."""
    first, second, third = probes
    slope = max(1.0, (second.bytes - first.bytes) / (second.width - first.width))
    expected = first.bytes + slope * (third.width - first.width)
    if third.bytes > (1.0 + LINE_IS_GOOD_WITHIN) * expected:
        slope = (third.bytes - first.bytes) / (third.width - first.width)
    return int(third.width + ((1.0 - KEPT_FREE) * total_bytes - third.bytes) / slope)


def tried(spec: RunSpec, *, width: int, device: torch.device) -> Row:
    """Train lanes of one shape for a moment."""
    from workloads.cohort import Cohort

    release()
    torch.cuda.reset_peak_memory_stats(device)
    budget = spec.budget.model_copy(update={"steps": 10**6})
    stop = spec.stop.model_copy(update={"after_event_steps": None})
    runs = [
        spec.model_copy(update={"budget": budget, "stop": stop, "seed": spec.seed.model_copy(update={"init": k})})
        for k in range(width)
    ]
    cohort = Cohort(runs, width=width, device=device)
    cohort.advance(ticks=MEASURED_TICKS)
    torch.cuda.synchronize(device)
    began = perf_counter()
    cohort.advance(ticks=MEASURED_TICKS)
    torch.cuda.synchronize(device)
    speed = width * MEASURED_TICKS / (perf_counter() - began)
    return Row(width, speed, torch.cuda.max_memory_allocated(device))


def _key(spec: RunSpec, device: torch.device) -> str:
    text = f"{spec.shape_key}/{torch.cuda.get_device_name(device)}/{torch.__version__}/{source_digest()}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
