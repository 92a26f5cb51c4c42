"""Machine code for one run of a shape, on CPU: made once, kept in a file, loaded by every worker.

The step's gradients are traced for a single run and compiled by Inductor ahead of time. Members of a cohort call
the same code in turn, so a run's bits cannot depend on its company, and no width needs code of its own. Making it
takes 10 to 25 seconds and a C++ compiler; it is kept under a name made of everything that it depends on, and a lock
makes one process do the work for all.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workloads.code_files import code_file, compiler
from workloads.errors import NoCompiler, WorkloadError
from workloads.streams import BLOCK_STEPS
from workloads.tasks.task import composed
from workloads.update import Turn

if TYPE_CHECKING:
    from workloads.lanes import Lanes
    from workloads.spec import RunSpec

CPU = torch.device("cpu")
OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}  # products and sums in one rounding: 4 % of a small step


class Compiled:
    """Lane after lane, by code made for one run."""

    def __init__(self, lanes: Lanes):
        self.call, self.task, self.names = load(lanes.spec), lanes.task, sorted(lanes.blocks)
        self.is_composed = hasattr(lanes.task, "compose")
        self.rows = lanes.rows.split(1)
        settings = lanes.table[:, :, : len(lanes.control_names)]
        blocks = [settings, *(lanes.blocks[name] for name in sorted(lanes.blocks))]
        self.inputs = [list(zip(*(block[k].split(1) for block in blocks), strict=True)) for k in range(lanes.width)]

    def __call__(self, lanes: Lanes, turns: Sequence[Turn]) -> Tensor:
        """The lanes with a run alone."""
        found = []
        for k, _, step, _ in turns:
            given = self.inputs[k][step % BLOCK_STEPS]
            found.append(self.call(self.rows[k], *(self._composed(*given) if self.is_composed else given)))
        grads, scores = zip(*found, strict=True)
        torch.cat(grads, out=lanes.grads)  # every lane has its turn: on CPU a cohort narrows with its members
        return torch.cat(scores)

    def _composed(self, settings: Tensor, *data: Tensor) -> list[Tensor]:
        """What the code takes, where a task's blocks hold indices alone."""
        batch = composed(self.task, dict(zip(self.names, data, strict=True)))
        return [settings, *(batch[name] for name in sorted(batch))]


def prepare(spec: RunSpec) -> Path:
    """The file with the code of the run's shape; made now if there is none.

    Raises:
        NoCompiler: there is no C++ compiler.
        WorkloadError: the model cannot be compiled.
    """
    path = code_file(spec)
    if path.exists():
        return path
    if compiler() is None:
        raise NoCompiler("compute.program: 'compiled' needs a C++ compiler; install g++, or set it to eager")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():  # nobody made it while this process waited
            _make_in_a_process_of_its_own(spec, path)
    return path


def load(spec: RunSpec) -> Callable[..., tuple[Tensor, Tensor]]:
    """The shape's code, ready to call."""
    return _load(str(prepare(spec)))


@functools.lru_cache(maxsize=64)
def _load(path: str) -> Callable[..., tuple[Tensor, Tensor]]:
    from torch._inductor import aoti_load_package

    package: Any = aoti_load_package(path)
    run = package.loader.boxed_run  # to call the package is to walk trees of arguments, a tenth of a small step
    return lambda *given: run(list(given))


def _make_in_a_process_of_its_own(spec: RunSpec, path: Path) -> None:
    """Inductor stays out of the engine's process: its imports, its threads, its memory."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        given, made = Path(scratch) / "spec.json", Path(scratch) / "made.pt2"
        given.write_text(spec.model_dump_json())
        path_of_modules = os.pathsep.join(filter(None, sys.path))
        env = {**os.environ, "PYTHONPATH": path_of_modules, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        command = [sys.executable, "-m", "workloads.compiled", str(given), str(made)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode or not made.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise WorkloadError(f"compute.program: this model could not be compiled ({last}); set it to eager")
        made.replace(path)


def make(spec: RunSpec, path: Path) -> None:
    """Trace the gradients of one run and compile them into a file."""
    from torch._inductor import aoti_compile_and_package
    from torch.fx.experimental.proxy_tensor import make_fx

    from workloads.lanes import Lanes
    from workloads.program import gradients_function

    eager = spec.compute.model_copy(update={"program": "eager"})
    lanes = Lanes(spec.model_copy(update={"compute": eager}), width=1, device=CPU)
    lanes.draw(0, spec, lanes.world(spec), step=0)
    lanes.start(0, spec)
    gradients = gradients_function(spec, lanes.layout)
    batch = lanes.batch()
    names = sorted(batch)

    def function(row: Tensor, controls: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        by_name = {name: controls[:, i] for i, name in enumerate(lanes.control_names)}
        return gradients(row, dict(zip(names, data, strict=True)), by_name)

    settings = lanes.now(lanes.table)[:, : len(lanes.control_names)]
    arguments = (lanes.rows, settings, *[batch[name] for name in names])
    with torch.no_grad():
        function(*arguments)  # what layers keep for later exists before it is traced
        traced = make_fx(function)(*arguments)
        program = torch.export.export(traced, arguments)
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=OPTIONS)


if __name__ == "__main__":
    from workloads.spec import resolve

    _, given, made = sys.argv
    make(resolve(json.loads(Path(given).read_text())), Path(made))
