"""Code for shapes whose runs ask for the compiled program: made while workers start, once a machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence

from orchestrator.errors import BadRequest
from orchestrator.plan import Duration
from workloads.errors import WorkloadError
from workloads.spec import RunSpec

LEAST_GAIN = 1.2  # eager over compiled cohorts, the smallest that tests/benchmarks/RESULTS.md has
CODE_S = 25.0  # to make a shape's code, at most [s]
WORTH_IT = 0.9


def shapes_to_compile(runs: Iterable[RunSpec], *, device: str) -> list[RunSpec]:
    """One run of each shape that needs code which this machine has not, in the runs' order.

    Raises:
        BadRequest: there is no C++ compiler to make it with.
    """
    wanted = {run.shape_key: run for run in runs if run.compute.program == "compiled"}
    if device != "cpu" or not wanted:
        return []
    from workloads.code_files import code_file, compiler

    missing = [run for run in wanted.values() if not code_file(run).exists()]
    if missing and compiler() is None:
        raise BadRequest("compute.program: 'compiled' needs a C++ compiler; install g++, or set it to eager")
    return missing


def compiled_seconds(runs: Sequence[RunSpec], *, duration: Duration | None, device: str) -> float | None:
    """About how long the runs would take compiled, the making of code included; None where that does not pay.

    Args:
        runs: those that a plan would train.
        duration: what the plan will take as it is.
        device: `cpu` or `cuda`.
    """
    shapes = {run.shape_key for run in runs}
    if device != "cpu" or duration is None or any(run.compute.program == "compiled" for run in runs):
        return None
    seconds = duration.expected_s / LEAST_GAIN + CODE_S * len(shapes)
    if seconds > WORTH_IT * duration.expected_s:
        return None
    from workloads.code_files import compiler

    return seconds if compiler() else None


def make_code(shapes: list[RunSpec]) -> None:
    """Begin to make the shapes' code, one after another, in the background; workers wait for theirs.

    What fails here fails again in the worker that needs it, which is where it becomes a row.
    """
    if shapes:
        threading.Thread(target=_make, args=(shapes,), name="make-code", daemon=True).start()


def _make(shapes: list[RunSpec]) -> None:
    from workloads.compiled import prepare

    for spec in shapes:
        with contextlib.suppress(WorkloadError, OSError):
            prepare(spec)
